"""The one interface of all writers, and where they are chosen by name."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd_client.configuration import ConfigError, nearest

# Where each writer stands; it is imported when it is wanted: sleap-io alone costs a second.
_CLASSES = {
    "csv": ("trackd.outputs.formats.csv_table", "CsvWriter"),
    "ctc": ("trackd.outputs.formats.ctc", "CtcWriter"),
    "mot": ("trackd.outputs.formats.mot", "MotWriter"),
    "parquet": ("trackd.outputs.formats.parquet_table", "ParquetWriter"),
    "slp": ("trackd.outputs.formats.slp", "SlpWriter"),
    "trackmate": ("trackd.outputs.formats.trackmate", "TrackMateWriter"),
}
WRITERS = tuple(_CLASSES)


class Writer(ABC):
    """A file that a stream's tracks go to.

    A context manager: leaving `with` closes it, also after an error, and keeps what was written so far.
    A finished file of the same name is never written over: it is kept as `<name>.1<suffix>`, `.2`, … the highest the
    latest. What was written when the process is killed is in the file itself, or in a part beside it that
    `recover` makes the file of; opening the same file again does that too.
    """

    path: Path  # the finished file

    @abstractmethod
    def write(self, record: OutputRecord) -> None:
        """Add one frame; frames come by rising frame index.

        Raises:
            OSError: it cannot be written for now, as on a full disk; nothing of it is there, and it may be given again.
        """

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
        ConfigError: no such kind, a package that it needs is not installed, or another process writes the file.
        OSError: the folder or the file cannot be made; nothing is there that was not before.
    """
    if kind not in _CLASSES:
        raise ConfigError(f"stream.outputs: no such output: {kind!r}; {nearest(kind, WRITERS)}")
    out_dir.mkdir(parents=True, exist_ok=True)
    module, name = _CLASSES[kind]
    writer: Writer = getattr(importlib.import_module(module), name)(out_dir, stream)
    return writer


def check_outputs(kinds: Sequence[str]) -> None:
    """See at start, not at the first frame, that what the outputs need is installed.

    Raises:
        ConfigError: names the extra to install.
    """
    if "parquet" in kinds and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            "parquet needs pyarrow, which is not installed: pip install 'trackd[parquet]'; csv needs nothing"
        )


def set_earlier_aside(path: Path) -> Path | None:
    """Give an earlier file or folder of that name the next free number; its new path, None where there was none."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    return kept
