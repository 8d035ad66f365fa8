"""Tracks of ImageJ's Manual Tracking plugin."""

from __future__ import annotations

from pathlib import Path

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.tables import header_of, numbered, rows_of
from trackd_client.recordings.recording import RecordingError


def read_imagej(path: Path) -> Spots:
    """All points, in pixels. Tracks keep their numbers. Slices count from 1 in the file, frames from 0 here.

    Raises:
        RecordingError: names the file and the row.
    """
    header = [plain_name(name) for name in header_of(path)]
    if missing := [name for name in ("track n", "slice n", "x", "y") if name not in header]:
        raise RecordingError(
            f"{path}, row 1: must hold Manual Tracking's columns Track n°, Slice n°, X and Y; "
            f"no {', '.join(missing)} in {header}"
        )
    table = rows_of(path)
    next(table)
    rows = SpotRows()
    for row in numbered(path, header, table, first=2):
        track, slice_number = row.whole("track n", least=0), row.whole("slice n", least=1)
        rows.add(slice_number - 1, row.real("x"), row.real("y"), track=track)
    return one_a_frame(rows.spots().in_pixels((1.0, 1.0)), path)


def plain_name(name: str) -> str:
    """A column's name without its degree sign, which files hold in three encodings."""
    return "".join(letter for letter in name.lower() if letter.isascii()).strip()


IMAGEJ = LabelFormat(
    title="an ImageJ Manual Tracking table",
    read=read_imagej,
    source="imagej",
    other_sources=("trackmate",),  # DREEM's `source: trackmate` includes ImageJ's tables
    columns=lambda header: {"track n", "slice n"} <= {plain_name(name) for name in header},
)
