"""What the examples in Python share: the daemon's addresses as options, and errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from trackd_client import Client, TrackdError


class Options(argparse.ArgumentParser):
    """The options of an example, with the addresses of the daemon."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        self.add_argument("--ingest", default="tcp://127.0.0.1:5570", help="the address for frames")
        self.add_argument("--tracks", default="tcp://127.0.0.1:5571", help="the address of published tracks")
        self.add_argument("--control", default="tcp://127.0.0.1:5572", help="the address for requests")

    def error(self, message: str) -> NoReturn:
        """End with one line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def connect(options: argparse.Namespace) -> Client:
    """Return a client of the daemon at the addresses."""
    return Client(options.ingest, options.tracks, options.control)


def run(main: Callable[[argparse.Namespace], None], options: Options) -> None:
    """Run an example. An error that its user can correct is one line, with exit code 1."""
    try:
        main(options.parse_args())
    except (TrackdError, OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"{options.prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(1)
