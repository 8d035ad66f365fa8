"""The rules of the configuration that weigh the scores between the softmax and the assignment.

Letters: n instances that take part, M live tracks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.instances import Instances
from trackd.tracking.rules import distance, iou, orientation
from trackd.tracking.scorer import NEGLIGIBLE
from trackd.tracking.window import RollingWindow

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

Axes = NDArray[np.float32] | None


def axes_of(instances: Instances, config: TrackerConfig) -> Axes:
    """Body axes of all instances, or None where the orientation rule is off or there are no poses."""
    if config.max_angle_diff <= 0 or instances.keypoints is None:
        return None
    return orientation.body_axes(instances.keypoints, instances.skeleton, config.front_nodes, config.back_nodes)


def need_every_pair(config: TrackerConfig) -> bool:
    """Whether a pair that the scorer finds unlikely could still matter."""
    weighed = config.iou or config.max_center_dist or config.max_angle_diff or config.confidence_threshold
    return bool(weighed) or config.overlap_thresh < NEGLIGIBLE


def apply_rules(
    scores: NDArray[np.float32],
    config: TrackerConfig,
    instances: Instances,
    axes: Axes,
    rows: NDArray[np.intp],
    window: RollingWindow,
    last_axes: NDArray[np.float32],
) -> NDArray[np.float32]:
    """IoU, centre distance and orientation, in this order.

    Args:
        scores: (n, M).
        config: the `tracker` section.
        instances: the frame's.
        axes: of all instances, as `axes_of` gives them.
        rows: (n,) the instances that take part.
        window: its live slots are the M columns.
        last_axes: (S, 2) the tracks' last body axes by slot.

    Returns:
        (n, M).
    """
    live, far = window.live, config.max_center_dist
    if config.iou or far:
        boxes, last = instances.boxes[rows], window.last_boxes(live)
        if config.iou:
            scores = iou.weigh_overlap(scores, iou.anchor_iou(boxes, last), config.iou)
        if far and config.semantics == "2024":
            scores = distance.filter_far(scores, boxes, window.boxes[live], far, instances.frame_shape)
        elif far:
            multiplier = config.distance_penalty_multiplier
            scores = distance.penalise_far(scores, boxes, last, far, multiplier, instances.frame_shape)
    if axes is not None:
        limit, multiplier = config.max_angle_diff, config.angle_diff_penalty_multiplier
        scores = orientation.penalise_turned(scores, axes[rows], last_axes[live], limit, multiplier)
    return scores
