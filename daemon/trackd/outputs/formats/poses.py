"""The nodes of a stream, and their places: a stream of boxes has one node at the centre of each box.

Letters: n instances of a frame, k nodes.
"""

from __future__ import annotations

import numpy as np

from trackd.outputs.records import Floats, OutputRecord
from trackd_client.detections import Skeleton

CENTROID = Skeleton(nodes=("centroid",))


def unnamed(record: OutputRecord) -> Skeleton:
    """A skeleton for a stream without one, by the nodes of its first instances."""
    if record.keypoints is None:
        return CENTROID
    return Skeleton(tuple(f"node{i}" for i in range(record.keypoints.shape[1])))


def points_of(record: OutputRecord, k: int) -> Floats | None:
    """The nodes (n, k, 2): as sent, or the boxes' centres for k = 1; None where the record has another k."""
    if record.keypoints is not None and record.keypoints.shape[1] == k:
        return record.keypoints.astype(np.float64)
    boxes = record.boxes.astype(np.float64)
    return ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None] if k == 1 else None
