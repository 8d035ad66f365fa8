"""The rule `max_center_dist` in both meanings: a filter ("2024") and a soft penalty ("2026").

Letters: n instances, M tracks, W observations per track, A anchors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_CUBE, FLOAT32_TABLE, FLOATS32, compiled
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Query
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

EPSILON = np.float32(1e-8)


def box_centres(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean centre of the anchors that are present, (…, 2), of boxes (…, A, 4); NaN if none is."""
    centres = (boxes[..., :2] + boxes[..., 2:]) * np.float32(0.5)
    if boxes.shape[-2] == 1:
        return np.asarray(centres[..., 0, :])
    there = np.isfinite(centres)
    count = there.sum(axis=-2)
    total = np.where(there, centres, 0).sum(axis=-2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def filter_far(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    window_boxes: NDArray[np.float32],
    max_center_dist: float,
    frame_shape: tuple[int, int] | None,
) -> NDArray[np.float32]:
    """Set to 0 the scores of instances that are not near any of the track's window boxes ("2024").

    Near: squared centre distance / squared diagonal of the instance's box < `max_center_dist`, both of boxes divided
    by the frame's width and height (the global tracking transformer's rule). If the frame's shape is unknown,
    the boxes stay in pixels: on a square frame the result is the same.

    Args:
        scores: (n, M).
        boxes: (n, A, 4) of the instances.
        window_boxes: (M, W, A, 4), NaN where the window holds no observation.
        max_center_dist: dimensionless, such as 0.1.
        frame_shape: (h, w) in pixels, or None.
    """
    if frame_shape is not None:
        unit = np.array([frame_shape[1], frame_shape[0]] * 2, np.float32)
        boxes, window_boxes = boxes / unit, window_boxes / unit
    size = boxes[..., 2:] - boxes[..., :2]
    diagonals = np.square(size).sum(axis=-1)  # (n, A)
    diagonal = np.nan_to_num(diagonals).max(axis=1, initial=0.0)  # (n,)
    query = box_centres(boxes)
    held = box_centres(window_boxes)
    kept = np.zeros(scores.shape, np.float32)
    _keep_near(
        np.ascontiguousarray(scores, np.float32), np.ascontiguousarray(query), np.ascontiguousarray(held),
        np.float32(max_center_dist) * diagonal, kept,
    )  # fmt: skip
    return kept


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE, FLOAT32_CUBE, FLOATS32, FLOAT32_TABLE, nogil=True)
def _keep_near(
    scores: NDArray[np.float32],
    centres: NDArray[np.float32],
    held: NDArray[np.float32],
    limits: NDArray[np.float32],
    kept: NDArray[np.float32],
) -> None:
    """Copy the scores (n, M) of centres (n, 2) whose squared distance to one of the (M, W, 2) is below limits (n,)."""
    for i in range(scores.shape[0]):
        for j in range(scores.shape[1]):
            if scores[i, j] == 0:
                continue
            for age in range(held.shape[1]):
                dx, dy = centres[i, 0] - held[j, age, 0], centres[i, 1] - held[j, age, 1]
                if dx * dx + dy * dy < limits[i]:  # false for NaN
                    kept[i, j] = scores[i, j]
                    break


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE, FLOAT, FLOAT, FLOAT32_TABLE, nogil=True)
def _excess(
    centres: NDArray[np.float32], last: NDArray[np.float32], limit: float, unit: float, excess: NDArray[np.float32]
) -> None:
    """Write the distance (n, M) beyond `limit` of centres (n, 2) from (M, 2), over `unit`; 0 if one is NaN."""
    most, over, zero = np.float32(limit), np.float32(unit), np.float32(0)
    for i in range(len(centres)):
        for j in range(len(last)):
            dx, dy = centres[i, 0] - last[j, 0], centres[i, 1] - last[j, 1]
            beyond = np.sqrt(dx * dx + dy * dy) - most
            excess[i, j] = (beyond if beyond > zero else zero) / over


def penalise_far(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    last_boxes: NDArray[np.float32],
    max_center_dist: float,
    multiplier: float,
    frame_shape: tuple[int, int] | None,
) -> NDArray[np.float32]:
    """Lower the scores of instances beyond `max_center_dist` pixels of the track's last box ("2026").

    DREEM 0.5's rule: excess = max(0, distance − max_center_dist) / frame diagonal, then `penalise`.

    Args:
        scores: (n, M).
        boxes: (n, A, 4) of the instances.
        last_boxes: (M, A, 4).
        max_center_dist: pixels.
        multiplier: `distance_penalty_multiplier`.
        frame_shape: (h, w) in pixels; None: the diagonal is 1, which changes only the effect of the epsilon.
    """
    diagonal = 1.0 if frame_shape is None else float(np.hypot(*frame_shape))
    query, last = box_centres(boxes), box_centres(last_boxes)
    excess = np.empty((len(query), len(last)), np.float32)
    _excess(np.ascontiguousarray(query), np.ascontiguousarray(last), max_center_dist, diagonal, excess)
    return penalise(scores, excess, multiplier)


def penalise(scores: NDArray[np.float32], excess: NDArray[np.float32], multiplier: float) -> NDArray[np.float32]:
    """Apply DREEM's penalty: S − multiplier · mean|S| / mean(excess) · excess, means over the row; (n, M)."""
    size = np.abs(scores).mean(axis=1, keepdims=True)
    weight = np.float32(multiplier) * size / (excess.mean(axis=1, keepdims=True) + EPSILON)
    return np.asarray(scores - weight * excess)


def _weigh(scores: NDArray[np.float32], query: Query, slots: Slots, config: TrackerConfig) -> NDArray[np.float32]:
    far, shape = config.max_center_dist, query.instances.frame_shape
    assert far is not None
    boxes = query.instances.boxes[query.rows]
    if config.semantics == "2024":
        return filter_far(scores, boxes, query.window.boxes[slots], far, shape)
    last = query.window.last_boxes(slots)
    return penalise_far(scores, boxes, last, far, config.distance_penalty_multiplier, shape)


RULE = Rule("max_center_dist", lambda config: bool(config.max_center_dist), weigh=_weigh)
