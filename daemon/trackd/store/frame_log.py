"""The frame log: settled frames are appended to it before they are published, and moved to SQLite later.

One write into a file takes a part of the time of a transaction. So with `durability: process` a frame is acked when it
is in the log, and the journal's thread moves the rows to SQLite, many in one transaction. A segment is deleted when all
of its rows are in SQLite.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trackd.crash_points import ARMED, crash_point
from trackd.store.frame_table import Row
from trackd.store.head_file import HeadFile
from trackd.store.segments import SEGMENT_BYTES, create_segment, encode, segment_path

_AHEAD_BYTES = SEGMENT_BYTES // 2  # of a segment that are written before the next one is created


class _Segment(NamedTuple):
    number: int
    fd: int
    inode: int


class FrameLog:
    """The segments that are written.

    One thread at a time calls `append`; the journal's thread calls the other methods, also during `append`. There is no
    lock: `append` only adds to the end of `rows`, and takes the segment that `prepare` has made.

    Args:
        folder: of the files.
        head: states which segments exist, before their first record.

    Attributes:
        rows: those that are not in SQLite yet, in order.
    """

    def __init__(self, folder: Path, head: HeadFile) -> None:
        self.rows: list[Row] = []
        self._folder = folder
        self._head = head
        self._current: _Segment | None = None
        self._next: _Segment | None = None
        self._full: deque[tuple[_Segment, int]] = deque()  # with the number of rows that were appended by its end
        self._at = 0  # offset of the next record in the current segment
        self._spoiled = 0  # bytes from there of a write that failed
        self._appended = 0  # rows
        self._moved = 0

    def append(self, rows: Sequence[Row]) -> bool:
        """Write rows behind the others, all of them or none; return whether there was room.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        if self._spoiled:
            self._clear()
        segment = self._current
        data = b"" if segment is None else _encoded(rows, segment.number)
        if segment is None or self._at + len(data) > SEGMENT_BYTES:
            if self._next is None:
                return False
            data = _encoded(rows, self._next.number)
            if len(data) > SEGMENT_BYTES:
                return False
            if segment is not None:
                self._full.append((segment, self._appended))
            segment = self._current = self._next
            self._next, self._at = None, 0
        if ARMED:
            crash_point("before_append")
        written = os.pwrite(segment.fd, data, self._at)
        if written < len(data):
            self._spoiled = written
            raise OSError(errno.ENOSPC, "only a part of a record could be written")
        if ARMED:
            crash_point("after_append")
        self._at += written
        self._appended += len(rows)
        self.rows.extend(rows)
        return True

    def _clear(self) -> None:
        """Write zeros over a part of a record: a shorter one may follow in its place."""
        assert self._current is not None
        if os.pwrite(self._current.fd, bytes(self._spoiled), self._at) < self._spoiled:
            raise OSError(errno.ENOSPC, "a part of a record could not be cleared")
        self._spoiled = 0

    def moved(self, n: int) -> None:
        """Forget the first `n` rows, which are in SQLite."""
        del self.rows[:n]
        self._moved += n

    def prepare(self) -> None:
        """Create the next segment if it is needed soon, and delete those whose rows are in SQLite.

        Raises:
            OSError: a file cannot be created or deleted. The call may be repeated.
        """
        while self._full and self._full[0][1] <= self._moved:
            number = self._full[0][0].number
            self._head.write_segments(range(number + 1, self._head.segments.stop))
            segment, _ = self._full.popleft()
            os.close(segment.fd)
            crash_point("before_segment_deleted")
            segment_path(self._folder, number).unlink(missing_ok=True)  # if that fails, the next start deletes it
            crash_point("after_segment_deleted")
        if self._next is None and (self._current is None or self._at > _AHEAD_BYTES):
            number = self._head.segments.stop
            fd = create_segment(self._folder, number)
            crash_point("after_segment_created")
            segment = _Segment(number, fd, os.fstat(fd).st_ino)
            try:
                self._head.write_segments(range(self._head.segments.start, number + 1))
            except OSError:
                os.close(fd)
                raise
            self._next = segment

    @property
    def _segments(self) -> list[_Segment]:
        full = [segment for segment, _ in list(self._full)]
        return [*full, *(segment for segment in (self._current, self._next) if segment is not None)]

    def is_in_place(self) -> bool:
        """Whether all segments are at their paths."""
        try:
            return all(
                segment_path(self._folder, segment.number).stat().st_ino == segment.inode for segment in self._segments
            )
        except OSError:
            return False

    def start_over(self) -> None:
        """Let go of all segments, whose rows are in SQLite. No `append` may run.

        Raises:
            OSError: the head file cannot be written. The call may be repeated.
        """
        end = self._head.segments.stop
        self._head.write_segments(range(end, end))
        segments = self._segments
        self._current, self._next, self._spoiled = None, None, 0
        self._full.clear()
        for segment in segments:
            os.close(segment.fd)
            segment_path(self._folder, segment.number).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files. They stay if they have rows that are not in SQLite."""
        for segment in self._segments:
            os.close(segment.fd)
        self._current, self._next = None, None
        self._full.clear()


def _encoded(rows: Sequence[Row], number: int) -> bytes:
    return b"".join([part for row in rows for part in encode(row, number)])
