"""A text file that grows by whole frames: a frame that was written survives a kill of the process."""

from __future__ import annotations

from pathlib import Path

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.writer import set_earlier_aside


class LineFile:
    """One system call per frame, nothing buffered in memory; an earlier file of the same name is renamed.

    Args:
        path: the file.
        encoding: of the text.
        head: the first lines.
    """

    def __init__(self, path: Path, encoding: str = "ascii", head: str = "") -> None:
        self._encoding = encoding
        set_earlier_aside(path)
        self._file = AppendFile(path, head.encode(encoding))

    def write(self, text: str) -> None:
        """Add lines.

        Raises:
            ValueError: the file is closed.
            OSError: the lines cannot be written, as on a full disk. None of them was written, and the call may be
                repeated.
        """
        self._file.append(text.encode(self._encoding))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()
