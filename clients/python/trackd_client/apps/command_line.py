"""What the commands `trackd` and `trackd-client` share: `--version`, the log, and errors in one line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer

from trackd_client.apps.json_log import JsonFormatter
from trackd_client.errors import TrackdError
from trackd_client.exit_codes import exit_code
from trackd_client.version import VERSION

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class LogFormat(Enum):
    """The form of a log line."""

    TEXT = "text"
    JSON = "json"


Logged = Annotated[LogFormat, typer.Option("--log-format", help="The form of each log line on stderr.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]


def log(verbose: bool, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Log to stderr, from the level of `TRACKD_LOG`, else from `INFO` if verbose, else from `WARNING`."""
    default = "INFO" if verbose else "WARNING"
    level = os.environ.get("TRACKD_LOG", default).upper()
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(text if log_format is LogFormat.TEXT else JsonFormatter())
    logging.basicConfig(level=level if level in _LEVELS else default, handlers=[handler])
    if level not in _LEVELS:
        logging.getLogger(__name__).warning("TRACKD_LOG should be one of %s; got %r", ", ".join(_LEVELS), level)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Name the extra that installs a missing package of the imports in the block.

    Raises:
        TrackdError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("trackd_client"):
            raise
        raise TrackdError(
            f"{error.name} is not installed; the extra {extra} has it: pip install 'trackd-client[{extra}]'"
        ) from None


def run_command(app: typer.Typer, program: str) -> None:
    """Run a command line and exit: 0 done, 2 bad configuration or arguments, 1 anything else.

    An error that the user can correct is one line on stderr, without a traceback.
    """
    try:
        code: Any = app(standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        # Typer would print its own errors in a box of several lines.
        _fail(program, error.format_message() if hasattr(error, "format_message") else str(error), code)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that the user can correct; None for any other."""
    if hasattr(error, "format_message"):  # click's exceptions: typer may contain its own copy of click
        return 2
    if type(error).__name__ == "Abort" or isinstance(error, ModuleNotFoundError):
        return 1
    return exit_code(error)


def _fail(program: str, message: str, code: int) -> None:
    sys.stderr.write(f"{program}: {message.rstrip() or 'aborted'}\n")
    sys.exit(code)
