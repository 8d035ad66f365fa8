"""A text file that grows by whole frames: what was written is in it, whatever becomes of the process."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from trackd.outputs.writer import set_earlier_aside


class LineFile:
    """One write to the system per frame, nothing kept in memory; an earlier file of the name is kept under another."""

    def __init__(self, path: Path, encoding: str = "ascii") -> None:
        self.path = path
        self._encoding = encoding
        set_earlier_aside(path)
        self._file: IO[bytes] | None = path.open("xb", buffering=0)

    def write(self, text: str) -> None:
        """Add lines.

        Raises:
            ValueError: the file is closed.
            OSError: they cannot be written, as on a full disk.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: the writer is closed")
        rest = memoryview(text.encode(self._encoding))
        while rest:
            rest = rest[self._file.write(rest) :]

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file is None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None
