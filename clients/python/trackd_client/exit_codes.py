"""The exit codes of the programs `trackd` and `trackd-client`, for each error that is reported in one line."""

from __future__ import annotations

from trackd_client.errors import TrackdError
from trackd_client.protocol import ErrorCode

FAILED = 1
WRONG_INPUT = 2  # a configuration, a file or an argument that the user can correct

_REFUSED_INPUT = (ErrorCode.BAD_CONFIG, ErrorCode.UNKNOWN_MODEL)
# By name, because the modules of these classes may need packages that are not installed.
_WRONG_INPUT = ("CheckpointError", "ConfigError", "DetectorError", "KeyFileError", "RecordingError", "SourceError")
_FAILED = ("IncompleteError", "UnfinishedError")


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error whose text is enough for the user; None for any other, a fault of the program.

    A setting that only the daemon can check, such as an anchor's name, is the same error as one in the file.
    """
    if isinstance(error, TrackdError):
        return WRONG_INPUT if error.code in _REFUSED_INPUT else FAILED
    name = type(error).__name__
    return WRONG_INPUT if name in _WRONG_INPUT else FAILED if name in _FAILED else None
