"""Intersection over union, and the rule `iou` that weighs it into the scores.

Letters: n instances, M tracks, A anchors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_TABLE, GIVEN_BOXES, compiled
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Query
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


@compiled(None, GIVEN_BOXES, GIVEN_BOXES, FLOAT, FLOAT32_TABLE, nogil=True)
def _iou(boxes: NDArray[np.float32], others: NDArray[np.float32], unknown: float, overlap: NDArray[np.float32]) -> None:
    """Write the IoU (n, M), and `unknown` where it has no value."""
    zero = np.float32(0)
    for i in range(len(boxes)):
        x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        area = (x2 - x1) * (y2 - y1)
        for j in range(len(others)):
            u1, v1, u2, v2 = others[j, 0], others[j, 1], others[j, 2], others[j, 3]
            common = max(min(x2, u2) - max(x1, u1), zero) * max(min(y2, v2) - max(y1, v1), zero)
            ratio = common / (area + (u2 - u1) * (v2 - v1) - common)  # NaN with a NaN box, since its area is NaN
            overlap[i, j] = ratio if ratio == ratio else unknown


def iou(boxes: NDArray[np.float32], others: NDArray[np.float32], unknown: float = np.nan) -> NDArray[np.float32]:
    """Compute the intersection over union of (n, 4) with (M, 4) boxes x1 y1 x2 y2; (n, M).

    It is `unknown` if a box is NaN, or if both have no area.
    """
    overlap = np.empty((len(boxes), len(others)), np.float32)
    _iou(np.ascontiguousarray(boxes, np.float32), np.ascontiguousarray(others, np.float32), unknown, overlap)
    return overlap


def anchor_iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean IoU over the anchors that both have, (n, M); 0 if they share none.

    Args:
        boxes: (n, A, 4) of the instances.
        others: (M, A, 4) the last boxes of the tracks.
    """
    if boxes.shape[1] == 1:
        return iou(boxes[:, 0], others[:, 0], unknown=0.0)
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
