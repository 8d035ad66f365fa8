"""The orientation rule `max_angle_diff`: a body axis turns little from one frame to the next.

Letters: n instances, M tracks, k nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.geometry import centroids, visible_nodes
from trackd.tracking.instances import Instances
from trackd.tracking.rules.distance import penalise
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Query
from trackd.tracking.window import Slots
from trackd_client.detections import Skeleton

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


def axes_of(instances: Instances, config: TrackerConfig) -> NDArray[np.float32] | None:
    """Compute the body axes of all instances, (n, 2); None if the rule is off or the instances have no poses."""
    if config.max_angle_diff <= 0 or instances.keypoints is None:
        return None
    return body_axes(instances.keypoints, instances.skeleton, config.front_nodes, config.back_nodes)


def body_axes(
    keypoints: NDArray[np.floating[Any]],
    skeleton: Skeleton | None,
    front_nodes: list[str] | None,
    back_nodes: list[str] | None,
) -> NDArray[np.float32]:
    """Compute a unit vector along each body, (n, 2); NaN if the body has no axis.

    It points from the first visible back node to the first visible front node. Without these it is the principal axis
    of the visible nodes (at least two that differ).
    """
    points = np.asarray(keypoints, np.float64)
    visible = visible_nodes(points)
    axes = _principal_axes(points, visible)
    front = _first_visible(points, visible, skeleton, front_nodes)
    back = _first_visible(points, visible, skeleton, back_nodes)
    named = _unit(front - back)
    return np.where(np.isfinite(named), named, axes).astype(np.float32)


def penalise_turned(
    scores: NDArray[np.float32],
    axes: NDArray[np.float32],
    last_axes: NDArray[np.float32],
    max_angle_diff: float,
    multiplier: float,
) -> NDArray[np.float32]:
    """Apply DREEM's orientation penalty; a pair with a missing axis has none.

    Angles are between lines, 0 to 90 degrees; excess = max(0, angle − limit) in radians, then `penalise`.

    Args:
        scores: (n, M).
        axes: (n, 2) of the instances.
        last_axes: (M, 2) of the tracks' last observations.
        max_angle_diff: degrees.
        multiplier: `angle_diff_penalty_multiplier`.
    """
    cosine = np.abs(axes[:, None, 0] * last_axes[None, :, 0] + axes[:, None, 1] * last_axes[None, :, 1])
    angle = np.arccos(np.minimum(cosine, np.float32(1)))
    excess = np.fmax(angle - np.float32(np.radians(max_angle_diff)), np.float32(0))  # 0 where the angle is NaN
    return penalise(scores, excess, multiplier)


def _first_visible(
    points: NDArray[np.float64],
    visible: NDArray[np.bool_],
    skeleton: Skeleton | None,
    names: list[str] | None,
) -> NDArray[np.float64]:
    known = () if skeleton is None else skeleton.nodes
    numbers = [known.index(name) for name in names or () if name in known]
    if not numbers:
        return np.full((len(points), 2), np.nan)
    first = np.asarray(numbers)[visible[:, numbers].argmax(axis=1)]
    chosen = points[np.arange(len(points)), first]
    return np.where(visible[:, numbers].any(axis=1, keepdims=True), chosen, np.nan)


def _principal_axes(points: NDArray[np.float64], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the direction of the largest variance of the visible nodes, (n, 2), in closed form for 2 × 2."""
    offsets = np.where(visible[:, :, None], points - centroids(points, visible)[:, None], 0.0)
    x, y = offsets[..., 0], offsets[..., 1]
    xx, yy, xy = (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    axes = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lengthy = np.hypot(xx - yy, 2 * xy) > 1e-12 * np.maximum(xx + yy, 1e-12)  # else the body is round, or a point
    return np.where(lengthy[:, None], axes, np.nan)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.hypot(vectors[:, 0], vectors[:, 1])[:, None]
    return np.divide(vectors, length, out=np.full_like(vectors, np.nan), where=length > 0)


def _weigh(scores: NDArray[np.float32], query: Query, slots: Slots, config: TrackerConfig) -> NDArray[np.float32]:
    if query.axes is None or query.last_axes is None:
        return scores
    axes, limit, multiplier = query.axes[query.rows], config.max_angle_diff, config.angle_diff_penalty_multiplier
    return penalise_turned(scores, axes, query.last_axes[slots], limit, multiplier)


RULE = Rule("max_angle_diff", lambda config: config.max_angle_diff > 0, weigh=_weigh)
