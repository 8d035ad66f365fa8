"""A file that grows by whole pieces: no piece is written in part, and none is lost when the file is unlinked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from trackd.outputs.writer import set_earlier_aside

logger = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20
_TAIL_BYTES = 4096  # before the end of a file that is continued; they show that it is the same file


class LostFileError(Exception):
    """A file that was to be continued is missing, or is not as it was left."""


class AppendFile:
    """One system call per piece; nothing is buffered in memory. It is locked against other processes.

    Args:
        path: the file.
        head: the first piece of a new file.
        start: the end of a file that is continued, as `end` gave it, or empty: what follows is cut off. None: the file
            must not exist, or be empty.

    Raises:
        OSError: the file cannot be made; nothing was left behind. BlockingIOError: another process has locked it.
        LostFileError: the file to be continued is missing, or is not as it was left.
    """

    def __init__(self, path: Path, head: bytes = b"", start: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._name = str(path)
        kept = 0 if start is None else int(start.get("bytes", 0))
        self._file: FileIO | None = self._opened(create=not kept)
        self._torn = False
        try:
            size = os.fstat(self._file.fileno()).st_size
            if start is None and size:
                raise FileExistsError(errno.EEXIST, "the file exists", self._name)
            if size < kept or (start and "tail" in start and self._tail_checksum(kept) != start["tail"]):
                raise LostFileError(f"{path} is not as it was left")
            self._whole_bytes = kept  # of whole pieces
            if size > kept:
                self._file.truncate(kept)
            if head and not kept:
                self.append(head)
        except BaseException as error:
            if isinstance(error, OSError) and not kept and not os.fstat(self._file.fileno()).st_size:
                path.unlink(missing_ok=True)
            self.close()
            raise

    @property
    def end(self) -> dict[str, Any]:
        """The end of the last whole piece, for `start`: its position and a checksum of what is before it."""
        return {"bytes": self._whole_bytes, "tail": self._tail_checksum(self._whole_bytes)}

    def _tail_checksum(self, end: int) -> int:
        assert self._file is not None
        first = max(0, end - _TAIL_BYTES)
        return zlib.crc32(os.pread(self._file.fileno(), end - first, first))

    def append(self, piece: bytes) -> None:
        """Add a piece; on return the operating system has it, so it survives a kill of this process.

        Raises:
            ValueError: the file is closed.
            OSError: the piece cannot be written, as on a full disk. Nothing of it was written, and the call may be
                repeated.
        """
        self.restore()
        assert self._file is not None
        rest = memoryview(piece)
        self._torn = True
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._cut_torn_piece()
            raise
        self._torn = False
        self._whole_bytes += len(piece)

    def restore(self) -> None:
        """Cut off a piece that was written in part, and write the file again if its path was removed.

        Raises:
            ValueError: the file is closed.
            OSError: the file cannot be restored for now.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: the writer is closed")
        if self._torn:
            self._cut_torn_piece()
        if not self.exists:
            self._copy_to_path(self._file)
            logger.warning("%s was removed while it was written; it was written again, and is complete", self.path)

    def replace(self, pieces: Iterable[bytes]) -> None:
        """Write other content in place of the whole file. A kill leaves either the old content or the new one.

        Raises:
            OSError: it cannot be written; the file is as before.
        """
        self.restore()
        assert self._file is not None
        new = rewritten(self.path, pieces)
        _close(self._file)
        self._file, new._file = new._file, None
        self._whole_bytes = new._whole_bytes

    @property
    def exists(self) -> bool:
        """Whether the path still leads to the open file."""
        if self._file is None:
            return False
        try:
            # This runs for every piece, and `Path.stat` takes several times as long.
            return os.path.samestat(os.stat(self._name), os.fstat(self._file.fileno()))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file is None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            _close(self._file)
            self._file = None

    def _opened(self, *, create: bool = True, new: bool = False) -> FileIO:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0) | (os.O_EXCL if new else 0)
        try:
            file = FileIO(os.open(self.path, flags, 0o666), "a+")
        except FileNotFoundError:
            if create:
                raise
            raise LostFileError(f"{self.path} is missing") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError as error:
            logger.debug("%s cannot be locked: %s", self.path, error)  # by a network file system without locks
        return file

    def _cut_torn_piece(self) -> None:
        assert self._file is not None
        self._file.truncate(self._whole_bytes)
        self._torn = False

    def _copy_to_path(self, old: FileIO) -> None:
        """Copy the open file, whose content outlives its removed name, to the path."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        set_earlier_aside(self.path)
        new = self._opened(new=True)
        try:
            done = 0
            while done < self._whole_bytes:
                rest = memoryview(os.pread(old.fileno(), min(_COPY_BYTES, self._whole_bytes - done), done))
                done += len(rest)
                while rest:
                    rest = rest[new.write(rest) :]
        except OSError:
            new.close()
            self.path.unlink(missing_ok=True)
            raise
        self._file = new
        _close(old)


def _close(file: FileIO) -> None:
    """Unlock and close a file. A process that is being started has a copy of the handle, which keeps the lock."""
    with contextlib.suppress(OSError):  # a network file system without locks
        fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def rewritten(path: Path, pieces: Iterable[bytes]) -> AppendFile:
    """Write a file beside `path` and rename it to `path`; a kill leaves either the old file or the new one.

    Raises:
        OSError: it cannot be written; the old file remains.
    """
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    file = AppendFile(temporary)
    try:
        for piece in pieces:
            file.append(piece)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        file.close()
        raise
    file.path, file._name = path, str(path)
    return file
