"""The one interface of all writers, and their choice by name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackd.output_formats import WRITERS
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd_client.configuration import ConfigError, nearest

# Where a file ends, and what its next frame depends on: plain values. Empty for a file without frames.
Position = Mapping[str, Any]


class Writer(ABC):
    """A file that a stream's tracks are written to.

    A context manager: leaving `with` closes it, also after an error, and keeps what was written so far.
    A finished file of the same name is never overwritten: it is renamed to `<name>.1<suffix>`, `.2`, … the highest
    the latest. After a kill, the written frames are in the file itself, or in a part beside it. `recover` makes the
    file of the part, and so does a writer that opens the same file again.
    """

    path: Path  # the finished file

    @abstractmethod
    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        """Open the stream's file in a folder that exists.

        Args:
            out_dir: the folder.
            stream: that the file belongs to.
            position: continue the file from here, and cut off what follows; None: begin a new file.

        Raises:
            LostFileError: the file to be continued is missing, or is not as it was left.
        """

    @classmethod
    @abstractmethod
    def set_aside(cls, out_dir: Path, name: str) -> None:
        """Make the place of a stream's new file free: rename an earlier file, or finish an earlier part.

        Raises:
            ConfigError: another process writes that file.
        """

    @abstractmethod
    def write(self, record: OutputRecord) -> None:
        """Add one frame; frames are added by rising frame index.

        Raises:
            OSError: the frame cannot be written for now, as on a full disk. Nothing of it was written, and the call
                may be repeated.
        """

    @abstractmethod
    def position(self) -> Position:
        """Where the file ends now. A writer that is opened with it writes the same file as this one would."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file; a second call does nothing."""

    @abstractmethod
    def park(self) -> None:
        """Close the file without finishing it; a writer that is opened with `position` continues it."""

    @classmethod
    def part_of(cls, out_dir: Path, name: str) -> Path | None:
        """The part of a stream's file; None for formats that write straight to their file."""
        return None

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a path is a part of this format."""
        return False

    @classmethod
    def recover(cls, part: Path) -> Path | None:
        """Make the finished file of a part; None where another process writes it, or where it holds nothing."""
        return None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def writer_class(kind: str) -> type[Writer]:
    """The writer of a format of the table, imported now."""
    module, _, name = WRITERS[kind].writer.partition(":")
    writer: type[Writer] = getattr(importlib.import_module(module), name)
    return writer


def open_writer(kind: str, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> Writer:
    """A writer of `<out_dir>/<stream name>.<kind's suffix>`; the folder is made if absent.

    With a position the file is continued from there.

    Raises:
        ConfigError: no such kind, a package that it needs is not installed, or another process writes the file.
        OSError: the folder or the file cannot be made; the call has left nothing behind.
        LostFileError: the file to be continued is missing, or is not as it was left.
    """
    if kind not in WRITERS:
        raise ConfigError(f"stream.outputs: no such output: {kind!r}; {nearest(kind, WRITERS)}")
    out_dir.mkdir(parents=True, exist_ok=True)
    return writer_class(kind)(out_dir, stream, position)


def set_earlier_aside(path: Path) -> Path | None:
    """Rename an earlier file or folder of that name to the next free number; None where there was none."""
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    return kept
