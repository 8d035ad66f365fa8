"""The columns of the CSV and Parquet tables: one row per detection and frame, the same in both.

`frame_index, t_ns, detection, track_id, track_score, score, x1, y1, x2, y2`, then `<node>_x, <node>_y, <node>_score`
for each node. `detection` counts a frame's rows from 0. A frame without detections has one row with -1 for
`detection` and `track_id`, so that each frame is in the table; `track_id >= 0` selects the tracked rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trackd.outputs.records import OutputRecord, StreamInfo

FIXED = ("frame_index", "t_ns", "detection", "track_id", "track_score", "score", "x1", "y1", "x2", "y2")
INTEGERS = frozenset(FIXED[:4])
Column = np.ndarray[Any, Any]


def node_names(stream: StreamInfo, record: OutputRecord | None) -> tuple[str, ...]:
    """The nodes that have columns: those of the skeleton, else as many as the record has."""
    if stream.skeleton is not None and stream.skeleton.nodes:
        return stream.skeleton.nodes
    k = 0 if record is None or record.keypoints is None else record.keypoints.shape[1]
    return tuple(f"node{i}" for i in range(k))


def column_names(nodes: tuple[str, ...]) -> list[str]:
    """The names of all columns, in order."""
    return [*FIXED, *(f"{node}_{value}" for node in nodes for value in ("x", "y", "score"))]


def columns(record: OutputRecord, n_nodes: int) -> list[Column]:
    """A frame's rows, by column, in the order of `column_names`; NaN where there is no value."""
    n = max(len(record.track_ids), 1)  # an empty frame has one row
    empty = not len(record.track_ids)
    nothing = np.full(n, np.nan, np.float32)
    minus_one = np.full(n, -1, np.int32)
    boxes = np.full((n, 4), np.nan, np.float32) if empty else record.boxes
    found: list[Column] = [
        np.full(n, record.frame_index, np.int64),
        np.full(n, record.t_ns, np.int64),
        minus_one if empty else np.arange(n, dtype=np.int32),
        minus_one if empty else record.track_ids,
        nothing if empty else record.track_scores,
        nothing if empty or record.scores is None else record.scores,
        *boxes.T,
    ]
    points, weights = record.keypoints, record.keypoint_scores
    posed = not empty and points is not None and points.shape[1] == n_nodes
    for node in range(n_nodes):
        found += [points[:, node, 0], points[:, node, 1]] if posed and points is not None else [nothing, nothing]
        found.append(weights[:, node] if posed and weights is not None else nothing)
    return found
