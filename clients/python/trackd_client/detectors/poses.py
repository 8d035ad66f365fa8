"""Poses of pose estimators as detections.

Letters: n instances, k nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trackd_client.detections import Detections


def as_array(values: Any) -> np.ndarray:
    """Return a torch tensor, on any device, or an array as an array."""
    for step in ("detach", "cpu", "numpy"):
        if isinstance(values, np.ndarray):
            break
        values = getattr(values, step, lambda values=values: values)()
    return np.asarray(values)


def pose_detections(
    keypoints: np.ndarray,
    keypoint_scores: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    confidence: float = 0.0,
) -> Detections:
    """Return poses as detections, without those that have no visible node.

    Args:
        keypoints: (n, k, 2) x y, pixels.
        keypoint_scores: (n, k), 0 to 1.
        scores: (n,), 0 to 1.
        confidence: nodes of a lower score are not visible.
    """
    points = np.asarray(keypoints, np.float32).copy()
    if keypoint_scores is not None:
        keypoint_scores = np.nan_to_num(np.asarray(keypoint_scores, np.float32))
        points[keypoint_scores < confidence] = np.nan
    points[~np.isfinite(points).all(axis=2)] = np.nan
    visible = np.asarray(np.isfinite(points).all(axis=2)).any(axis=1)
    return Detections(
        keypoints=points[visible],
        keypoint_scores=None if keypoint_scores is None else keypoint_scores[visible],
        scores=None if scores is None else np.nan_to_num(np.asarray(scores, np.float32)[visible]),
    )
