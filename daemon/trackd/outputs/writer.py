"""The one interface of all writers, and where they are chosen by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd_client.configuration import ConfigError, nearest

WRITERS = ("mot", "slp")


class Writer(ABC):
    """A file that a stream's tracks go to.

    A context manager: leaving `with` closes it, also after an error, and keeps what was written so far.
    """

    path: Path  # the finished file

    @abstractmethod
    def write(self, record: OutputRecord) -> None:
        """Add one frame; frames come by rising frame index."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file; a second call does nothing."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(kind: str, out_dir: Path, stream: StreamInfo) -> Writer:
    """A writer of `<out_dir>/<stream name>.<kind's suffix>`; the folder is made if absent.

    Raises:
        ConfigError: no such kind, or a folder that cannot be made.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out_dir: {out_dir} cannot be made: {error}") from None
    # Each writer is imported when it is wanted: sleap-io alone costs a second.
    if kind == "mot":
        from trackd.outputs.mot import MotWriter

        return MotWriter(out_dir, stream)
    if kind == "slp":
        from trackd.outputs.slp import SlpWriter

        return SlpWriter(out_dir, stream)
    raise ConfigError(f"stream.outputs: no such output: {kind!r}; {nearest(kind, WRITERS)}")
