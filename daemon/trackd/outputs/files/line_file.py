"""The base of writers of text that grows by whole frames: a frame that was written survives a kill of the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.files.part import is_abandoned
from trackd.outputs.records import StreamInfo
from trackd.outputs.writer import Position, Writer, set_earlier_aside
from trackd_client.configuration import ConfigError


class LineWriter(Writer):
    """Writes `<out_dir>/<name><suffix>`, one system call per frame; nothing is buffered in memory."""

    suffix: ClassVar[str]
    encoding: ClassVar[str] = "ascii"
    head: ClassVar[str] = ""  # the first lines

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        self.path = out_dir / f"{stream.name}{self.suffix}"
        if position is None:
            self.set_aside(out_dir, stream.name)
        self._file = AppendFile(self.path, self.first_lines(stream).encode(self.encoding), position)

    @classmethod
    def first_lines(cls, stream: StreamInfo) -> str:
        """The first lines of a stream's file."""
        return cls.head

    @classmethod
    def set_aside(cls, out_dir: Path, name: str) -> None:
        """Rename an earlier file.

        Raises:
            ConfigError: another process writes it.
        """
        path = out_dir / f"{name}{cls.suffix}"
        if path.is_file() and os.access(path, os.W_OK) and not is_abandoned(path):
            raise ConfigError(f"{path} is being written by another process; give one of them another out_dir")
        set_earlier_aside(path)

    def append(self, lines: str) -> None:
        """Add the lines of a frame.

        Raises:
            ValueError: the writer is closed.
            OSError: the lines cannot be written, as on a full disk. None of them was written, and the call may be
                repeated.
        """
        self._file.append(lines.encode(self.encoding))

    def position(self) -> Position:
        """Where the file ends."""
        return self._file.end

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def park(self) -> None:
        """Close the file; it is continued later."""
        self._file.close()
