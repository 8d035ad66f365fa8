"""The base of writers whose format can only be written whole: a part file holds the frames until `close`."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from trackd.outputs.files.part import SUFFIX, PartFile, is_abandoned, read_records, read_stream
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, set_earlier_aside

logger = logging.getLogger(__name__)

# The upper bound of a finished file's size is a constant plus a multiple of the part's size: an instance with nothing
# but a box has some 30 bytes in the part, and 100 in an .slp.
_ROOM_BYTES, _ROOM_FACTOR = 1024 * 1024, 4


class WholeFileWriter(Writer):
    """Writes frames to `<name><suffix>.part`, and makes `<name><suffix>` of them at close.

    The part of a process that was killed is finished first.
    """

    suffix: ClassVar[str]  # of this format alone

    def __init__(self, out_dir: Path, stream: StreamInfo) -> None:
        self.path = out_dir / f"{stream.name}{self.suffix}"
        part = self.path.with_name(self.path.name + SUFFIX)
        self.recover(part)
        self._stream = stream
        self._part: PartFile | None = PartFile(part, stream)

    @classmethod
    @abstractmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a path is a part of this format."""
        return path.is_file() and path.name.endswith(cls.suffix + SUFFIX)

    @classmethod
    def recover(cls, part: Path) -> Path | None:
        """Make the finished file of a part; None where there is none, it is empty, or another process writes it."""
        if not is_abandoned(part):
            return None
        stream = read_stream(part)
        if stream is None:
            part.unlink()
            return None
        path = part.with_name(part.name.removesuffix(SUFFIX))
        _finish(cls, path, stream, part)
        part.unlink()
        logger.warning("%s: recovered from the part of a process that was killed", path)
        return path

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._part is None:
            raise ValueError(f"{self.path}: the writer is closed")
        self._part.append(record)

    def close(self) -> None:
        """Write the file under a temporary name, then rename it, so that no reader opens an incomplete file.

        Raises:
            OSError: the file cannot be written; the part remains, and `recover` makes the file of it.
        """
        if self._part is None:
            return
        part, self._part = self._part, None
        try:
            part.restore()
            _finish(type(self), self.path, self._stream, part.path)
            part.remove()
        finally:
            part.close()


def _finish(writer: type[WholeFileWriter], path: Path, stream: StreamInfo, part: Path) -> None:
    """Make the finished file of a part; an earlier file of the same name is renamed."""
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    _check_room(temporary, _ROOM_BYTES + _ROOM_FACTOR * part.stat().st_size)
    try:
        writer.write_file(temporary, stream, read_records(part))
        set_earlier_aside(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # on a full disk it would take room from the other streams


def _check_room(path: Path, nbytes: int) -> None:
    """Check that so many bytes fit: where the disk becomes full while HDF5 writes, HDF5 may crash (SIGSEGV).

    Raises:
        OSError: they do not fit.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)
    finally:
        path.unlink(missing_ok=True)
