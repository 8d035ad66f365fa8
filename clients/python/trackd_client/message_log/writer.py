"""Writes records into segments: files of a bounded size that only grow, each with an index beside it."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from pathlib import Path
from types import TracebackType

from trackd_client.errors import TrackdError
from trackd_client.message_log.record import Record

logger = logging.getLogger(__name__)

MAGIC = b"trackd-messages1"  # the first 16 bytes of a segment
SUFFIX, INDEX_SUFFIX = ".messages", ".index"
INDEX_ROW = struct.Struct("<Qq")  # offset of a record, its received_ns
INDEX_EVERY = 64  # records
LOCK = "lock"


class LogFull(TrackdError):  # noqa: N818 (it is no fault)
    """The log has its largest size."""


def segments(folder: Path) -> list[Path]:
    """Return the segments of a log, oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


class LogWriter:
    """Appends records to a log. A record is written by one call of the system, so a kill cuts at most the last one.

    Segments of earlier writers are not changed: a new writer begins the next one.

    Args:
        folder: made if absent; one writer at a time.
        segment_bytes: a segment ends before it is larger, unless it has only one record.
        max_bytes: of all segments; None: no bound.
        delete_oldest: at `max_bytes`, delete the oldest segments; else `append` raises `LogFull`.

    Raises:
        TrackdError: the folder cannot be used, or another writer has it.
    """

    def __init__(
        self, folder: Path, segment_bytes: int, max_bytes: int | None = None, *, delete_oldest: bool = False
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._delete_oldest = delete_oldest
        self._file = self._index = -1
        self.records = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise TrackdError(f"{folder}: cannot be written to: {error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise TrackdError(f"{folder}: another program records into it") from None
        self._sizes = {path: path.stat().st_size for path in segments(folder)}
        self._number = max((int(path.stem) for path in self._sizes), default=0)
        self._path: Path | None = None  # of the open segment

    @property
    def bytes(self) -> int:
        """The size of all segments."""
        return sum(self._sizes.values())

    def begin(self) -> None:
        """Begin the first segment now, so that a reader finds a log before the first record.

        Raises:
            TrackdError: it cannot be written.
        """
        try:
            if self._path is None:
                self._begin_segment()
        except OSError as error:
            raise TrackdError(f"{self.folder}: cannot be written: {error}") from None

    def append(self, record: Record) -> None:
        """Write a record.

        Raises:
            LogFull: the log has its largest size.
            TrackdError: it cannot be written.
        """
        data = record.encode()
        try:
            if self._path is None or (
                self._sizes[self._path] > len(MAGIC) and self._sizes[self._path] + len(data) > self._segment_bytes
            ):
                self._begin_segment()
            self._make_room(len(data))
            assert self._path is not None
            if self.records % INDEX_EVERY == 0:
                _write(self._index, INDEX_ROW.pack(self._sizes[self._path], record.received_ns))
            _write(self._file, data)
        except OSError as error:
            raise TrackdError(f"{self._path or self.folder}: cannot be written: {error}") from None
        self._sizes[self._path] += len(data)
        self.records += 1

    def close(self) -> None:
        """Write the open segment to the disk and release the folder."""
        self._end_segment()
        os.close(self._lock)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_segment(self) -> None:
        self._end_segment()
        self._number += 1
        path = self.folder / f"{self._number:08d}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, 0o644)
        self._path = path
        self._sizes[path] = 0
        self._index = os.open(path.with_suffix(INDEX_SUFFIX), flags, 0o644)
        self.records = 0
        _write(self._file, MAGIC)
        self._sizes[path] = len(MAGIC)

    def _end_segment(self) -> None:
        for descriptor in (self._file, self._index):
            if descriptor >= 0:
                os.fdatasync(descriptor)
                os.close(descriptor)
        self._file = self._index = -1
        self._path = None

    def _make_room(self, n: int) -> None:
        if self._max_bytes is None:
            return
        while self.bytes + n > self._max_bytes:
            oldest = next((path for path in self._sizes if path != self._path), None)
            if not self._delete_oldest or oldest is None:
                raise LogFull(f"{self.folder}: the log has {self.bytes} bytes, and at most {self._max_bytes}")
            oldest.unlink(missing_ok=True)
            oldest.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
            del self._sizes[oldest]
            logger.info("%s: deleted, the oldest segment of a full log", oldest)


def _write(descriptor: int, data: bytes) -> None:
    """Write all bytes. The system writes less only if the disk is full or the call is interrupted."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
