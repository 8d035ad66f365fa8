"""The selection and order of a frame's detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections


def take_rows(detections: Detections, order: NDArray[np.intp]) -> Detections:
    """The detections of the rows `order`, in that order. The labels of their masks are renumbered to match."""
    masks = detections.masks
    if masks is not None:
        label = np.zeros(len(detections) + 1, masks.dtype)
        label[order + 1] = np.arange(1, len(order) + 1)
        masks = label[masks]
    taken = {
        name: None if (array := getattr(detections, name)) is None else array[order]
        for name in ("boxes", "keypoints", "scores", "keypoint_scores", "classes", "gt_ids")
    }
    return Detections(**taken, masks=masks)
