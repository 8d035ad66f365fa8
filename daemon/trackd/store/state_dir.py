"""The folder of the journal: one daemon's at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class StateDir:
    """A folder that is made if absent and belongs to this process until `close`, or its end however it comes.

    Raises:
        OSError: it cannot be made or opened. BlockingIOError: another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = _taken(path)
        self._disk = os.fstat(self._fd).st_dev

    def find_again(self) -> None:
        """Have a folder of that name once more, after it was taken away.

        Raises:
            OSError: it cannot be had: its disk is not there any more, or another daemon has it.
        """
        if self.path.is_dir() and os.path.samestat(self.path.stat(), os.fstat(self._fd)):
            return
        above = next(parent for parent in self.path.absolute().parents if parent.is_dir())
        if (self.path if self.path.is_dir() else above).stat().st_dev != self._disk:
            raise OSError(f"the disk of {self.path} is not there")
        taken = _taken(self.path)
        os.close(self._fd)
        self._fd = taken

    def close(self) -> None:
        """Let others have it."""
        os.close(self._fd)


def _taken(path: Path) -> int:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
