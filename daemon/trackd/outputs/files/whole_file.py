"""The base of writers whose format can only be written whole: a part file holds the frames until `close`."""

from __future__ import annotations

import logging
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from trackd.crash_points import crash_point
from trackd.outputs.files.part import (
    SUFFIX,
    PartFile,
    is_abandoned,
    is_finished,
    read_records,
    read_stream,
    whole_end,
)
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position, Writer, set_earlier_aside

logger = logging.getLogger(__name__)

# The upper bound of a finished file's size is a constant plus a multiple of the part's size: an instance with nothing
# but a box has some 30 bytes in the part, and 100 in an .slp.
_ROOM_BYTES, _ROOM_FACTOR = 1024 * 1024, 4


class WholeFileWriter(Writer):
    """Writes frames to `<name><suffix>.part`, and makes `<name><suffix>` of them at close.

    The part of a process that was killed is finished first.
    """

    suffix: ClassVar[str]  # of this format alone
    is_folder: ClassVar[bool] = False  # whether it is a folder of files

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        self.path = out_dir / f"{stream.name}{self.suffix}"
        if position is None:
            self.set_aside(out_dir, stream.name)
        self._stream = stream
        self._part: PartFile | None = PartFile(self.part_of(out_dir, stream.name), stream, position)

    @classmethod
    def part_of(cls, out_dir: Path, name: str) -> Path:
        """The part of a stream's file."""
        return out_dir / f"{name}{cls.suffix}{SUFFIX}"

    @classmethod
    def set_aside(cls, out_dir: Path, name: str) -> None:
        """Finish the part of a process that was killed."""
        cls.recover(cls.part_of(out_dir, name))

    @classmethod
    @abstractmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file, or the whole folder."""

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
        file = PartFile(part, stream, whole_end(part))
        try:
            if not is_finished(part, path):
                _finish(cls, path, stream, file)
            file.remove()
        finally:
            file.close()
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
            _finish(type(self), self.path, self._stream, part)
            part.remove()
        finally:
            part.close()

    def position(self) -> Position:
        """Where the part ends."""
        if self._part is None:
            raise ValueError(f"{self.path}: the writer is closed")
        return self._part.end

    def park(self) -> None:
        """Close the part."""
        if self._part is not None:
            self._part.close()
            self._part = None


def _finish(writer: type[WholeFileWriter], path: Path, stream: StreamInfo, part: PartFile) -> None:
    """Make the finished file of a part; an earlier file of the same name is renamed."""
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    if writer.is_folder:
        _remove(temporary)  # one that a kill has left is in the way
    _check_room(temporary, _ROOM_BYTES + _ROOM_FACTOR * part.path.stat().st_size)
    try:
        crash_point("before_finish")
        writer.write_file(temporary, stream, read_records(part.path))
        set_earlier_aside(path)
        part.mark_finished(temporary)
        crash_point("during_finish")
        temporary.replace(path)
        crash_point("after_finish")
    finally:
        if writer.is_folder or not temporary.is_dir():
            _remove(temporary)  # on a full disk it would take room from the other streams


def _remove(path: Path) -> None:
    """Delete a file, or the folder of a format that is a folder; none is no error."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
