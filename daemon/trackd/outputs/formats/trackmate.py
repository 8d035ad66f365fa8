"""TrackMate's spots table (v7 and later), as "Export all spots to CSV" writes it, appended frame by frame.

Four header rows: the features' keys, names, short names, units. A spot without a track has the track id `ø`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trackd.outputs.files.line_file import LineWriter
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position
from trackd_client.recordings.labels.spreadsheet_text import escaped

NO_TRACK = "ø"
# Key, name, short name, unit.
_FEATURES = (
    ("ID", "ID", "ID", ""),
    ("LABEL", "Label", "Label", ""),
    ("TRACK_ID", "Track ID", "Track ID", ""),
    ("TRACK_NAME", "Track name", "Track name", ""),
    ("TRACK_VISIBLE", "Track visibility", "Track visibility", ""),
    ("QUALITY", "Quality", "Quality", "(quality)"),
    ("POSITION_X", "X", "X", "(pixels)"),
    ("POSITION_Y", "Y", "Y", "(pixels)"),
    ("POSITION_Z", "Z", "Z", "(pixels)"),
    ("POSITION_T", "T", "T", "(sec)"),
    ("FRAME", "Frame", "Frame", ""),
    ("RADIUS", "Radius", "R", "(pixels)"),
    ("VISIBILITY", "Visibility", "Visibility", ""),
)


class TrackMateWriter(LineWriter):
    """Writes `<out_dir>/<name>_spots.csv`; after a kill the file is shorter.

    A spot is an instance: the mean of its visible nodes, or its box's centre. Its radius is that of the circle with
    the box's area, its quality the detection's score. Positions are in pixels; T is in seconds from the first frame.
    A frame without instances has no row, nor has an instance without a position. A track's name is the one that a
    person gave it by then, else `Track_` and its id.
    """

    suffix = "_spots.csv"
    encoding = "utf-8"
    head = "".join(",".join(row) + "\n" for row in zip(*_FEATURES, strict=True))

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        super().__init__(out_dir, stream, position)
        left = position or {}
        self._next_id: int = left.get("next_id", 0)
        self._first_t_ns: int | None = left.get("first_t_ns")

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._first_t_ns is None:
            self._first_t_ns = record.t_ns
        t_s = (record.t_ns - self._first_t_ns) / 1e9
        boxes = record.boxes.astype(np.float64)
        radii = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 0) / np.pi)
        scores = np.ones(len(boxes)) if record.scores is None else record.scores
        lines = []
        next_id = self._next_id
        for i, (x, y) in enumerate(places(record).tolist()):
            if not np.isfinite([x, y]).all():
                continue
            track_id = int(record.track_ids[i])
            label = _cell(record.names[track_id]) if track_id in record.names else f"Track_{track_id}"
            cells = (
                str(next_id),
                f"ID{next_id}",
                *((str(track_id), label, "1") if track_id >= 0 else (NO_TRACK, NO_TRACK, "0")),
                str(scores[i]),
                str(x),
                str(y),
                "0.0",
                str(t_s),
                str(record.frame_index),
                str(float(radii[i])) if np.isfinite(radii[i]) else "0.0",
                "1",
            )
            lines.append(",".join(cells) + "\n")
            next_id += 1
        self.append("".join(lines))
        self._next_id = next_id

    def position(self) -> Position:
        """Where the file ends, the next spot's number, and the time of the first frame."""
        return {**super().position(), "next_id": self._next_id, "first_t_ns": self._first_t_ns}


def _cell(name: str) -> str:
    """Return a name as one cell: no formula, and in quotes where it has a comma or a quote."""
    text = escaped(name)
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def places(record: OutputRecord) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Positions of the instances, (n, 2): the mean of the visible nodes, or the box's centre."""
    boxes = record.boxes.astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    if record.keypoints is None or not record.keypoints.shape[1]:
        return centres
    visible = np.isfinite(record.keypoints).all(axis=2, keepdims=True)
    count = visible.sum(axis=1)
    total = np.where(visible, record.keypoints, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), centres)
