"""btrack's tables of objects, `t,x,y,z` and more, with the tracks and their graph from files beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.tables import header_of, numbered, rows_of
from trackd_client.recordings.recording import RecordingError

COLUMNS = ("t", "x", "y", "z")
MAX_DIGITS = 15  # of a track's number


def read_btrack(path: Path) -> Spots:
    """All objects; z is not used.

    For `cells_data.csv` or `cells.csv`, `cells_ground_truth.json` lists the objects of each track by their row
    number, from 0, and `cells_graph.json` the parent of each child. Without the first file there are no identities.

    Raises:
        RecordingError: names the file and the row, or the track.
    """
    header = header_of(path)
    if missing := [name for name in COLUMNS if name not in header]:
        raise RecordingError(
            f"{path}, row 1: must hold btrack's columns {', '.join(COLUMNS)}; no {', '.join(missing)} in {header}"
        )
    truth = _beside(path, "ground_truth")
    members = {} if truth is None else _members(truth)
    track_of = {number: track for track, numbers in members.items() for number in numbers}
    table = rows_of(path)
    next(table)
    rows = SpotRows()
    n_rows = 0
    for row in numbered(path, header, table, first=2):
        rows.add(row.whole("t"), row.real("x"), row.real("y"), track=track_of.get(n_rows, -1), spot_id=n_rows)
        n_rows += 1
    if track_of and max(track_of) >= n_rows:
        last = max(track_of)
        raise RecordingError(f"{truth}, track {track_of[last]}: has object {last}, but {path.name} has {n_rows}")
    graph = _beside(path, "graph")
    lineage = {} if graph is None or truth is None else _lineage(graph, members)
    return one_a_frame(replace(rows.spots(), lineage=lineage), path)


def _beside(path: Path, what: str) -> Path | None:
    found = path.with_name(f"{path.stem.removesuffix('_data')}_{what}.json")
    return found if found.is_file() else None


def _members(path: Path) -> dict[int, list[int]]:
    """The objects of each track. btrack fills gaps with objects of negative numbers, which are left out."""
    members = {track: [number for number in numbers if number >= 0] for track, numbers in _lists(path).items()}
    taken: dict[int, int] = {}
    for track, numbers in members.items():
        for number in numbers:
            if taken.setdefault(number, track) != track:
                raise RecordingError(f"{path}, track {track}: object {number} already belongs to track {taken[number]}")
    return members


def _lineage(path: Path, members: dict[int, list[int]]) -> dict[int, int]:
    lineage = {}
    for child, parents in _lists(path).items():
        if child not in members or len(parents) != 1 or parents[0] not in members or parents[0] == child:
            raise RecordingError(f"{path}, track {child}: must be a track with one other track as parent")
        lineage[child] = parents[0]
    return lineage


def _lists(path: Path) -> dict[int, list[int]]:
    """A file's lists of whole numbers by track."""
    try:
        read: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: cannot be read as JSON: {error}") from None
    lists: dict[int, list[int]] = {}
    for track, numbers in read.items() if isinstance(read, dict) else [("", None)]:
        known = track.isdecimal() and len(track) <= MAX_DIGITS
        if known and isinstance(numbers, list) and all(type(number) is int for number in numbers):
            lists[int(track)] = numbers
        else:
            raise RecordingError(
                f"{path}, track {track[:40]!r}: must be a number with a list of whole numbers, and have at most "
                f"{MAX_DIGITS} digits"
            )
    return lists


BTRACK = LabelFormat(
    title="a btrack table of objects",
    read=read_btrack,
    source="btrack",
    columns=lambda header: set(COLUMNS) <= set(header),
)
