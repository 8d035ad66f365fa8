"""The folder of the journal, locked by one daemon at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_CLOCK_TICK_NS = 100_000_000  # more than the step of any file system's clock but FAT's


class StateDir:
    """A folder that is created if absent, and locked until `close` or the end of the process.

    Raises:
        OSError: it cannot be created or opened. BlockingIOError: another process has locked it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = _locked(path)
        self._disk = os.fstat(self._fd).st_dev
        self._known: tuple[int, int, int] | None = None

    def is_unchanged(self) -> bool:
        """Whether no file was added, moved or deleted in the folder since `remember`, and the folder is still there."""
        try:
            # This runs at every commit, and `Path.stat` takes several times as long.
            stat = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return False
        return (stat.st_ino, stat.st_dev, stat.st_mtime_ns) == self._known

    def remember(self) -> None:
        """Note that all files are in place now.

        A change in the same tick of the file system's clock would not show, so a folder that was changed just now is
        not remembered.
        """
        stat = self.path.stat()
        settled = time.time_ns() - stat.st_mtime_ns > _CLOCK_TICK_NS
        self._known = (stat.st_ino, stat.st_dev, stat.st_mtime_ns) if settled else None

    def create_if_missing(self) -> None:
        """Create and lock the folder again if it was moved or deleted.

        Raises:
            OSError: its disk is not mounted any more, or another process has locked the new folder.
        """
        if self.path.is_dir() and os.path.samestat(self.path.stat(), os.fstat(self._fd)):
            return
        above = next(parent for parent in self.path.absolute().parents if parent.is_dir())
        if (self.path if self.path.is_dir() else above).stat().st_dev != self._disk:
            raise OSError(f"the disk of {self.path} is not mounted")
        locked = _locked(self.path)
        os.close(self._fd)
        self._fd = locked

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._fd)


def _locked(path: Path) -> int:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
