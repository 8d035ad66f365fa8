"""Reads the records of a log. A segment ends at its first record that is not whole, which a line in the log names."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trackd_client.errors import TrackdError
from trackd_client.message_log.record import HEAD, MOST_RECORD, BadRecordError, Record, checksum
from trackd_client.message_log.writer import INDEX_EVERY, INDEX_ROW, INDEX_SUFFIX, MAGIC, segments

logger = logging.getLogger(__name__)


class LogReader:
    """The records of a folder, oldest first.

    Args:
        folder: a log, which may still be written.

    Raises:
        TrackdError: the folder has no log.
    """

    def __init__(self, folder: Path) -> None:
        self._segments = segments(folder) if folder.is_dir() else []
        if not self._segments:
            raise TrackdError(f"{folder}: no recorded messages: `trackd-client record` writes them")
        self.cut: list[str] = []  # a line for each segment that ends in the middle of a record
        self.damaged: list[str] = []  # a line for each segment with a record that is not as it was written

    def records(self, from_ns: int | None = None) -> Iterator[Record]:
        """Yield the records received at `from_ns`, Unix time, or later; None: all."""
        for place, path in enumerate(self._segments):
            if from_ns is not None and place + 1 < len(self._segments):
                first = next(self._of_segment(self._segments[place + 1], None), None)
                if first is not None and first.received_ns < from_ns:
                    continue
            for record in self._of_segment(path, from_ns):
                if from_ns is None or record.received_ns >= from_ns:
                    yield record

    def last_segment(self) -> Iterator[Record]:
        """Yield the records of the last segment that has any."""
        for path in reversed(self._segments):
            if path.stat().st_size > len(MAGIC):
                yield from self._of_segment(path, None)
                return

    def count(self) -> int:
        """Return the number of records without reading all of them: the index has each 64th one."""
        total = 0
        for path in self._segments:
            rows, size = _index_rows(path), path.stat().st_size
            at = rows[-1][0] if rows and len(MAGIC) <= rows[-1][0] <= size else None
            total += (len(rows) - 1) * INDEX_EVERY if at is not None else 0
            total += sum(1 for _ in self._of_segment(path, None, at))
        return total

    def _of_segment(self, path: Path, from_ns: int | None, at: int | None = None) -> Iterator[Record]:
        """Yield the records of a segment from about a time on, or from the offset `at` of one."""
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                self._say(self.damaged if size >= len(MAGIC) else self.cut, f"{path}: no segment of recorded messages")
                return
            if at is not None:
                file.seek(at)
            elif from_ns is not None:
                file.seek(self._offset(path, from_ns, size))
            while (at := file.tell()) < size:
                try:
                    record = self._next(file, size)
                except BadRecordError as error:
                    self._say(self.damaged, f"{path}: byte {at}: {error}; the rest of this segment is not read")
                    return
                if record is None:
                    left = size - at
                    self._say(self.cut, f"{path}: byte {at}: the last record is cut; {left} bytes are not read")
                    return
                yield record

    def _next(self, file: BinaryIO, size: int) -> Record | None:
        """Return the record at the file's position; None if the segment ends within it.

        Raises:
            BadRecordError: it is damaged.
        """
        head = file.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        length, crc = HEAD.unpack(head)
        if length > MOST_RECORD:  # before anything is allocated
            raise BadRecordError(f"a record has at most {MOST_RECORD} bytes; got {length}")
        if length > size - file.tell():
            return None
        body = file.read(length)
        if checksum(length, body) != crc:
            raise BadRecordError("a record does not have its checksum")
        return Record.decode(body)

    def _offset(self, path: Path, from_ns: int, size: int) -> int:
        """Return where to begin to read. The index only saves time: without a valid row it is the first record."""
        rows = _index_rows(path)
        place = bisect.bisect_left([received_ns for _, received_ns in rows], from_ns) - 1
        if place < 0 or not len(MAGIC) <= rows[place][0] < size:
            return len(MAGIC)
        offset = rows[place][0]
        with path.open("rb") as file:
            file.seek(offset)
            try:
                return offset if self._next(file, size) is not None else len(MAGIC)
            except BadRecordError:
                return len(MAGIC)

    def _say(self, lines: list[str], line: str) -> None:
        if line not in lines:
            lines.append(line)
            logger.warning("%s", line)


def _index_rows(path: Path) -> list[tuple[int, int]]:
    """Return the rows of a segment's index: offset of a record, its received_ns. Empty if there is no index."""
    try:
        data = path.with_suffix(INDEX_SUFFIX).read_bytes()
    except OSError:
        return []
    return [INDEX_ROW.unpack_from(data, at) for at in range(0, len(data) - INDEX_ROW.size + 1, INDEX_ROW.size)]
