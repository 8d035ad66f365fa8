"""The description of a format of finished tracks: its name, the files that it recognises, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.written.written_frames import WrittenFrames


@dataclass(frozen=True, slots=True)
class WrittenFormat:
    """One format of `dataset.test_dataset.track_files`, and how its files are recognised.

    A file is of this format if its name has one of `suffixes`, and `recognises` agrees where it is given.
    """

    kind: str  # its name in `stream.outputs`, and for `trackd convert --from`
    title: str  # completes "must be …"
    suffixes: tuple[str, ...]  # of the file's name, in lower case
    read: Callable[[Path, RecordingLimits], WrittenFrames]
    recognises: Callable[[Path], bool] | None = None  # looks into the file
    is_folder: bool = False  # whether it is a folder of files
