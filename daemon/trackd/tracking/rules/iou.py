"""Intersection over union, and the rule `iou` that weighs it into the scores.

Letters: n instances, M tracks, A anchors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Query
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


def iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the intersection over union of (n, 4) with (M, 4) boxes x1 y1 x2 y2; (n, M).

    NaN if a box is NaN, or if both have no area.
    """
    x1, y1, x2, y2 = boxes.T[:, :, None]
    u1, v1, u2, v2 = others.T[:, None, :]
    width = np.minimum(x2, u2)
    width -= np.maximum(x1, u1)
    np.maximum(width, 0, out=width)
    height = np.minimum(y2, v2)
    height -= np.maximum(y1, v1)
    np.maximum(height, 0, out=height)
    width *= height
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)
    union -= width
    with np.errstate(invalid="ignore", divide="ignore"):
        width /= union
    return np.asarray(width)


def anchor_iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean IoU over the anchors that both have, (n, M); 0 if they share none.

    Args:
        boxes: (n, A, 4) of the instances.
        others: (M, A, 4) the last boxes of the tracks.
    """
    if boxes.shape[1] == 1:
        return np.nan_to_num(iou(boxes[:, 0], others[:, 0]), nan=0.0)
    total = np.zeros((len(boxes), len(others)), np.float32)
    count = np.zeros_like(total)
    for anchor in range(boxes.shape[1]):
        one = iou(boxes[:, anchor], others[:, anchor])
        there = ~np.isnan(one)
        total += np.where(there, one, 0)
        count += there
    return np.asarray(total / np.maximum(count, 1))


def weigh_overlap(
    scores: NDArray[np.float32], overlap: NDArray[np.float32], mode: Literal["mult", "max"]
) -> NDArray[np.float32]:
    """Apply DREEM's `weight_iou`: "mult" adds |IoU − S| · IoU to S, "max" takes the maximum; all (n, M)."""
    if mode == "max":
        return np.asarray(np.maximum(scores, overlap))
    return np.asarray(scores + np.abs(overlap - scores) * overlap)


def _weigh(scores: NDArray[np.float32], query: Query, slots: Slots, config: TrackerConfig) -> NDArray[np.float32]:
    assert config.iou is not None
    overlap = anchor_iou(query.instances.boxes[query.rows], query.window.last_boxes(slots))
    return weigh_overlap(scores, overlap, config.iou)


RULE = Rule("iou", lambda config: config.iou is not None, weigh=_weigh)
