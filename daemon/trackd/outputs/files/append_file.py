"""A file that grows by whole pieces: none is ever there by half, and none is lost with the file's name."""

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
    """One write to the system per piece, nothing kept in memory.

    Args:
        path: the file.
        head: the first piece of a new file.
        lock: go on with a file that is there, and keep other processes away from it; else it must not be there.

    Raises:
        OSError: it cannot be made; then nothing is there that was not before. BlockingIOError: another process has it.
    """

    def __init__(self, path: Path, head: bytes = b"", *, lock: bool = False) -> None:
        self.path = path
        self._name = str(path)
        self._lock = lock
        self._file: FileIO | None = self._opened(new=not lock)
        self._whole = os.fstat(self._file.fileno()).st_size  # bytes, of whole pieces
        self._torn = False
        try:
            if head:
                self.append(head)
        except OSError:
            if not self._whole:
                path.unlink(missing_ok=True)
            self.close()
            raise

    def append(self, piece: bytes) -> None:
        """Add a piece; on return it is the system's, and outlives this process.

        Raises:
            ValueError: the file is closed.
            OSError: it cannot be written, as on a full disk; nothing of it is there, and it may be given again.
        """
        self.heal()
        assert self._file is not None
        rest = memoryview(piece)
        self._torn = True
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._take_back()
            raise
        self._torn = False
        self._whole += len(piece)

    def heal(self) -> None:
        """Have the file be where it belongs, with whole pieces only.

        Raises:
            ValueError: the file is closed.
            OSError: it cannot be for now.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: the writer is closed")
        if self._torn:
            self._take_back()
        if not self.is_there:
            self._write_again(self._file)
            logger.warning(
                "%s was taken away while it was written, and is there again with all that was in it", self.path
            )

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to the open file."""
        if self._file is None:
            return False
        try:
            # At every piece: `Path.stat` takes several times as long.
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

    def _take_back(self) -> None:
        assert self._file is not None
        self._file.truncate(self._whole)
        self._torn = False

    def _write_again(self, old: FileIO) -> None:
        """What is open outlives its name: give it its name back, by a copy."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        set_earlier_aside(self.path)
        new = self._opened(new=True)
        try:
            done = 0
            while done < self._whole:
                rest = memoryview(os.pread(old.fileno(), min(_COPY_BYTES, self._whole - done), done))
                done += len(rest)
                while rest:
                    rest = rest[new.write(rest) :]
        except OSError:
            new.close()
            self.path.unlink(missing_ok=True)
            raise
        self._file = new
        old.close()
