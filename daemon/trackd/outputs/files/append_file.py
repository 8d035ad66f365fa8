"""A file that grows by whole pieces: no piece is written in part, and none is lost when the file is unlinked."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from io import FileIO
from pathlib import Path

from trackd.outputs.writer import set_earlier_aside

logger = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20


class AppendFile:
    """One system call per piece; nothing is buffered in memory.

    Args:
        path: the file.
        head: the first piece of a new file.
        lock: lock the file against other processes, and append to one that exists; False: the file must not exist.

    Raises:
        OSError: the file cannot be made; nothing was left behind. BlockingIOError: another process has locked it.
    """

    def __init__(self, path: Path, head: bytes = b"", *, lock: bool = False) -> None:
        self.path = path
        self._name = str(path)
        self._lock = lock
        self._file: FileIO | None = self._opened(new=not lock)
        self._whole_bytes = os.fstat(self._file.fileno()).st_size  # of whole pieces
        self._torn = False
        try:
            if head:
                self.append(head)
        except OSError:
            if not self._whole_bytes:
                path.unlink(missing_ok=True)
            self.close()
            raise

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
            self._file.close()
            self._file = None

    def _opened(self, *, new: bool) -> FileIO:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        file = FileIO(os.open(self.path, flags, 0o666), "a+")
        if self._lock:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                raise
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
        old.close()
