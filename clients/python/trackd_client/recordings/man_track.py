"""The Cell Tracking Challenge's tables of tracks: label, first frame, last frame, parent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackRow:
    """One track."""

    begin: int  # first frame
    end: int  # last frame, included
    parent: int  # label, 0 for none


@dataclass(frozen=True, slots=True)
class ManTrack:
    """The tracks of a recording by label."""

    tracks: Mapping[int, TrackRow]

    @property
    def lineage(self) -> dict[int, int]:
        """Child → parent."""
        return {label: row.parent for label, row in self.tracks.items() if row.parent}


def read_man_track(path: Path) -> ManTrack:
    """The table in a man_track.txt or res_track.txt.

    A label should have one row. Several rows of one label, one for each fragment, count as one track from the first
    frame of all to the last. A parent that has no row is left out.

    Raises:
        RecordingError: names the file and the row.
    """
    tracks: dict[int, TrackRow] = {}
    merged: set[int] = set()
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                label, row = _row(line, f"{path}, row {number}")
                if (before := tracks.get(label)) is not None:
                    merged.add(label)
                    row = TrackRow(min(before.begin, row.begin), max(before.end, row.end), before.parent or row.parent)
                tracks[label] = row
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    if merged:
        logger.warning("several rows of one label count as one track file=%s labels=%s", path, sorted(merged))
    orphans = {label: row for label, row in tracks.items() if row.parent and row.parent not in tracks}
    if orphans:
        logger.warning("parents without a row are left out file=%s labels=%s", path, sorted(orphans))
        tracks |= {label: TrackRow(row.begin, row.end, 0) for label, row in orphans.items()}
    return ManTrack(tracks)


def _row(line: str, where: str) -> tuple[int, TrackRow]:
    try:
        label, begin, end, parent = (int(word) for word in line.split())
    except ValueError:
        raise RecordingError(
            f"{where}: must hold four whole numbers, label begin end parent; got {line.strip()[:80]!r}"
        ) from None
    if label < 1 or begin < 0 or end < begin or parent < 0 or parent == label:
        raise RecordingError(
            f"{where}: label must be ≥ 1, begin ≥ 0, end ≥ begin, parent another label or 0; got {line.strip()!r}"
        )
    return label, TrackRow(begin, end, parent)
