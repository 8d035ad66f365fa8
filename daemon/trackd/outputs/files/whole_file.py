"""The base of writers whose format can only be written whole: frames wait in a part file until `close`."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from trackd.outputs.files.part import SUFFIX, PartFile, is_left_behind, read_records, read_stream
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, set_earlier_aside

logger = logging.getLogger(__name__)

# What a finished file takes at most: boxes alone are some 30 bytes in the part, and 100 in an .slp.
_ROOM_BYTES, _ROOM_FACTOR = 1024 * 1024, 4


class WholeFileWriter(Writer):
    """Keeps frames in `<name><suffix>.part`, and makes `<name><suffix>` of them at close.

    A part that an earlier process left behind becomes its file first.
    """

    suffix: ClassVar[str]

    def __init__(self, out_dir: Path, stream: StreamInfo) -> None:
        self.path = out_dir / f"{stream.name}{self.suffix}"
        part = self.path.with_name(self.path.name + SUFFIX)
        if is_left_behind(part):
            recover_whole_file(type(self), part)
        self._stream = stream
        self._part: PartFile | None = PartFile(part, stream)

    @classmethod
    @abstractmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._part is None:
            raise ValueError(f"{self.path}: the writer is closed")
        self._part.append(record)

    def close(self) -> None:
        """Write the file under a temporary name, then give it its own: a reader never sees half of it.

        Raises:
            OSError: it cannot be written; the part remains, and `recover` makes the file of it.
        """
        if self._part is None:
            return
        part, self._part = self._part, None
        try:
            part.heal()
            finish(type(self), self.path, self._stream, part.path)
            part.remove()
        finally:
            part.close()


def finish(writer: type[WholeFileWriter], path: Path, stream: StreamInfo, part: Path) -> None:
    """Make the final file of a part; an earlier one of its name is kept under another."""
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    _check_room(temporary, _ROOM_BYTES + _ROOM_FACTOR * part.stat().st_size)
    try:
        writer.write_file(temporary, stream, read_records(part))
        set_earlier_aside(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # half a file on a full disk takes room from those that go on


def _check_room(path: Path, nbytes: int) -> None:
    """See that so much fits: where a disk fills while HDF5 writes, it may end the process (SIGSEGV).

    Raises:
        OSError: it does not.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)
    finally:
        path.unlink(missing_ok=True)


def recover_whole_file(writer: type[WholeFileWriter], part: Path) -> Path | None:
    """Make the file of a part that was left behind; None where the part holds nothing at all."""
    stream = read_stream(part)
    path = part.with_name(part.name.removesuffix(SUFFIX))
    if stream is None:
        part.unlink()
        return None
    finish(writer, path, stream, part)
    part.unlink()
    logger.warning("%s: written from what a process that was killed left behind", path)
    return path
