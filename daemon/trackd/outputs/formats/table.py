"""The columns of the CSV and Parquet tables: one row per detection and frame, the same in both.

`frame_index, t_ns, detection, track_id, track_score, score, x1, y1, x2, y2`, then `<node>_x, <node>_y, <node>_score`
for each node, then `track_name, parent_id, corrections`. `detection` counts a frame's rows from 0. A frame without
detections has one row with -1 for `detection` and `track_id`, so that each frame is in the table; `track_id >= 0`
selects the tracked rows. `parent_id` is in the first row of a track that began by a division, and -1 elsewhere.
`corrections` is in the first row of a frame: a JSON list of what people corrected before that frame.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trackd.outputs.records import OutputRecord, StreamInfo

FIXED = ("frame_index", "t_ns", "detection", "track_id", "track_score", "score", "x1", "y1", "x2", "y2")
ABOUT_TRACKS = ("track_name", "parent_id", "corrections")  # the last columns, so that those before have their places
INTEGERS = frozenset({*FIXED[:4], "parent_id"})
TEXTS = frozenset({"track_name", "corrections"})
Column = np.ndarray[Any, Any]


def node_names(stream: StreamInfo, record: OutputRecord | None) -> tuple[str, ...]:
    """The nodes that have columns: those of the skeleton, else as many as the record has."""
    if stream.skeleton is not None and stream.skeleton.nodes:
        return stream.skeleton.nodes
    k = 0 if record is None or record.keypoints is None else record.keypoints.shape[1]
    return tuple(f"node{i}" for i in range(k))


def column_names(nodes: tuple[str, ...]) -> list[str]:
    """The names of all columns, in order."""
    return [*FIXED, *(f"{node}_{value}" for node in nodes for value in ("x", "y", "score")), *ABOUT_TRACKS]


def columns(record: OutputRecord, n_nodes: int) -> list[Column]:
    """A frame's rows, by column, in the order of `column_names`; NaN or None where there is no value."""
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
    ids = [-1] if empty else record.track_ids.tolist()
    corrections = np.full(n, None, object)
    corrections[0] = corrections_text(record)
    return [
        *found,
        np.array([record.names.get(track_id) for track_id in ids], object),
        np.array([record.parents.get(track_id, -1) for track_id in ids], np.int32),
        corrections,
    ]


def corrections_text(record: OutputRecord) -> str | None:
    """The corrections before a frame as JSON; None without any.

    It has no semicolon: spreadsheet programs may begin a new cell there, and a cell may be a formula.
    """
    if not record.corrections:
        return None
    text = json.dumps(list(record.corrections), ensure_ascii=False, separators=(",", ":"))
    return text.replace(";", "\\u003b")
