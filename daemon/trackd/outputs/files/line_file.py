"""A text file that grows by whole frames: what was written is in it, whatever becomes of the process."""

from __future__ import annotations

from pathlib import Path

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.writer import set_earlier_aside


class LineFile:
    """One write to the system per frame, nothing kept in memory; an earlier file of the name is kept under another.

    Args:
        path: the file.
        encoding: its text's.
        head: its first lines.
    """

    def __init__(self, path: Path, encoding: str = "ascii", head: str = "") -> None:
        self._encoding = encoding
        set_earlier_aside(path)
        self._file = AppendFile(path, head.encode(encoding))

    def write(self, text: str) -> None:
        """Add lines.

        Raises:
            ValueError: the file is closed.
            OSError: they cannot be written, as on a full disk; none of them is there, and they may be given again.
        """
        self._file.append(text.encode(self._encoding))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()
