"""DeepLabCut's table of tracked animals: four header rows, then a row for each frame."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.track_table import TrackTable, check_places
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd_client.recordings.labels.spreadsheet_text import escaped

SCORER = "DLC_trackd"  # DeepLabCut finds the predictions of a video by its name and the scorer's
# DeepLabCut takes a row's position for its frame, so missing frames get empty rows; but not a jump of the counter.
MAX_EMPTY_FRAMES = 10_000


class DlcWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>DLC_trackd.csv` at close: scorer, individuals, bodyparts, coords.

    An animal is a track, by its name. A row is a frame: from 0, or from the first frame where more than
    `MAX_EMPTY_FRAMES` frames would be empty before it. A body part that is not visible has empty cells. Unassigned
    instances are left out.
    """

    suffix = f"{SCORER}.csv"

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""
        table = TrackTable.of(stream, records)
        nodes = table.skeleton.nodes
        numbers = _row_numbers(table.frame_index.tolist())
        check_places(stream.name, len(numbers), len(table.names), len(nodes))
        # DeepLabCut stores x, y and likelihood of a part side by side.
        values = np.concatenate([table.points, table.point_scores[..., None]], axis=3)
        values = values.reshape(len(table.t_ns), 3 * len(table.names) * len(nodes))
        at = dict(zip(table.frame_index.tolist(), range(len(values)), strict=True))
        empty = [""] * values.shape[1]
        columns = [(name, node, value) for name in table.names for node in nodes for value in ("x", "y", "likelihood")]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["scorer", *[SCORER] * len(columns)])
            for place, title in enumerate(("individuals", "bodyparts", "coords")):
                writer.writerow([title, *(escaped(column[place]) for column in columns)])
            for number in numbers:
                row = at.get(number)
                cells = empty if row is None else ["" if v != v else repr(v) for v in values[row].tolist()]
                writer.writerow([number, *cells])


def _row_numbers(frame_index: list[int]) -> list[int]:
    """The frames that have rows: those of the stream, and the missing ones before and between them."""
    numbers: list[int] = []
    expected = 0
    for number in frame_index:
        if number - expected <= MAX_EMPTY_FRAMES:
            numbers += range(expected, number)
        numbers.append(number)
        expected = number + 1
    return numbers
