"""Spots of TrackMate's tables, which have one header row up to version 6, and four from version 7 on."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.tables import Row, numbered, rows_of
from trackd_client.recordings.labels.tracklets import Links, linear_tracklets
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

N_HEADER_ROWS = (1, 4)  # keys; from version 7 on keys, names, short names, units
_SPOTS_AT_THE_END = re.compile(r"(all_|tracked_)?spots$", re.IGNORECASE)


def read_trackmate_csv(path: Path) -> Spots:
    """All visible spots, tracked or not, in the table's unit.

    With a table of links beside it (`…edges.csv`), splits become tracklets with parents. Without it, a track's second
    spot in a frame is a detection without identity.

    Raises:
        RecordingError: names the file and the row.
    """
    unit, table = open_table(path, ("POSITION_X", "POSITION_Y", "FRAME"))
    rows = SpotRows()
    names: dict[int, tuple[int, str]] = {}
    for row in table:
        if row.whole("VISIBILITY", 1) == 0:
            continue
        frame, track = row.whole("FRAME"), row.whole("TRACK_ID", -1)
        rows.add(
            frame,
            row.real("POSITION_X"),
            row.real("POSITION_Y"),
            track=track,
            spot_id=row.whole("ID", -1),
            radius=row.real("RADIUS", -1.0),
        )
        name = row.values.get("TRACK_NAME", "")
        if track >= 0 and name and frame >= names.get(track, (0,))[0]:  # the last name counts
            names[track] = (frame, name)
    # TrackMate names a track Track_ and its id, until a person does.
    given = {track: name for track, (_, name) in names.items() if name not in (f"Track_{track}", "ø")}
    spots = replace(rows.spots(), unit=unit, names=given)
    edges = edges_beside(path)
    return one_a_frame(spots if edges is None else _linked(spots, edges), path)


def open_table(path: Path, columns: tuple[str, ...]) -> tuple[str | None, Iterator[Row]]:
    """The unit of POSITION_X, or None if the table has no units, and the rows.

    Raises:
        RecordingError: a column is missing, or the header does not have one row or four.
    """
    table = rows_of(path)
    header = [name.strip() for name in next(table, [])]
    if missing := [name for name in columns if name not in header]:
        raise RecordingError(f"{path}, row 1: must hold {', '.join(columns)}; no {', '.join(missing)}")
    at = header.index(columns[0])
    more: list[list[str]] = []
    for cells in table:
        if len(cells) <= at or _is_number(cells[at]):
            table = itertools.chain([cells], table)
            break
        more.append(cells)
        if len(more) == max(N_HEADER_ROWS):
            raise RecordingError(f"{path}, row {len(more) + 1}: {columns[0]} must be a number; got {cells[at]!r}")
    if 1 + len(more) not in N_HEADER_ROWS:
        raise RecordingError(
            f"{path}, row 2: {columns[0]} must be a number, or a header of 4 rows; got {more[0][at]!r} "
            f"and {1 + len(more)} header rows"
        )
    unit = more[-1][at].strip().strip("()").lower() if more else None
    return unit, numbered(path, header, table, first=2 + len(more))


def edges_beside(path: Path) -> Path | None:
    """The table of links that TrackMate writes beside the table of spots, if it exists."""
    if not _SPOTS_AT_THE_END.search(path.stem):
        return None
    edges = path.with_name(_SPOTS_AT_THE_END.sub("edges", path.stem) + path.suffix)
    return edges if edges.is_file() else None


def _linked(spots: Spots, edges: Path) -> Spots:
    row_of = {int(spot): row for row, spot in enumerate(spots.spot_ids) if spot >= 0}
    tracks = spots.gt_ids
    ends = []
    _, table = open_table(edges, ("SPOT_SOURCE_ID", "SPOT_TARGET_ID"))
    for row in table:
        named = [row.whole(column) for column in ("SPOT_SOURCE_ID", "SPOT_TARGET_ID")]
        # A table may hold a selection of the spots. Links to other spots are not used.
        if all(spot in row_of for spot in named):
            source, target = sorted(row_of[spot] for spot in named)
            if spots.frame_index[source] == spots.frame_index[target]:
                raise RecordingError(f"{row.where}: links spots {named[0]} and {named[1]} of the same frame")
            ends.append((source, target))
    if not ends:
        return spots
    pairs = np.array(ends, np.int64)
    links = Links(pairs[:, 0], pairs[:, 1], tracks[pairs[:, 0]])
    ids, lineage = linear_tracklets(spots.frame_index, spots.points, links, int(tracks.max(initial=-1)))
    # A track of one spot has no link.
    return replace(spots, gt_ids=np.where(ids >= 0, ids, tracks), lineage=lineage)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


TRACKMATE_SPOTS = LabelFormat(
    title="a TrackMate table of spots",
    read=read_trackmate_csv,
    source="trackmate",
    columns=lambda header: "POSITION_X" in header,
)
TRACKMATE_EDGES = LabelFormat(
    title="a TrackMate table of edges",
    refusal="name the table of spots instead",
    columns=lambda header: "SPOT_SOURCE_ID" in header,
)
TRACKMATE_TRACKS = LabelFormat(
    title="a TrackMate table of tracks",
    refusal="name the table of spots instead",
    columns=lambda header: "NUMBER_SPOTS" in header,
)
