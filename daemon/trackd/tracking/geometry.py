"""The anchor points of a pose, and the crop boxes around points.

Letters: n instances, k nodes of the skeleton, A anchors per instance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackd_client.detections import Skeleton

CENTROID_NAMES = ("", "centroid", "midpoint")
Anchors = str | int | list[str]


def visible_nodes(keypoints: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which nodes are visible, (n, k): those with two finite coordinates."""
    return np.asarray(np.isfinite(keypoints).all(axis=2))


def centroids(keypoints: NDArray[np.float64], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the mean of the visible nodes, (n, 2) in pixels; NaN if none is visible."""
    count = visible.sum(axis=1)
    total = np.where(visible[:, :, None], keypoints, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / np.where(count > 0, count, np.nan)[:, None])


def anchor_nodes(anchors: Anchors, skeleton: Skeleton | None, seed: int) -> tuple[int, ...]:
    """Return the node number of each anchor, −1 for the centroid.

    An integer draws that many different nodes by the seed, the same for every instance, so that the crops of all
    instances show the same nodes. A stream has one seed for all of its frames.

    Raises:
        ValueError: a name that the skeleton does not have, no anchor at all, or more anchors than nodes.
    """
    nodes = () if skeleton is None else skeleton.nodes
    if isinstance(anchors, int):
        if not 1 <= anchors <= len(nodes):
            raise ValueError(f"anchors must be between 1 and the number of nodes, {len(nodes)}; got {anchors}")
        drawn = np.random.default_rng(seed).permutation(len(nodes))[:anchors]
        return tuple(int(node) for node in np.sort(drawn))
    names = [anchors] if isinstance(anchors, str) else anchors
    if not names:
        raise ValueError("anchors must name at least one node; got an empty list")
    unknown = [name for name in names if name not in CENTROID_NAMES and name not in nodes]
    if unknown:
        known = f"the skeleton's nodes are {', '.join(nodes)}" if nodes else "the stream has no skeleton"
        raise ValueError(f"anchors: unknown node {unknown[0]!r}; {known}")
    return tuple(-1 if name in CENTROID_NAMES else nodes.index(name) for name in names)


def box_points(boxes: NDArray[np.floating[Any]], anchors: Anchors) -> NDArray[np.float64]:
    """Return the centre of each box (n, 4) for each anchor, (n, A, 2): without a pose all anchors are there."""
    n_anchors = len(anchors) if isinstance(anchors, list) else anchors if isinstance(anchors, int) else 1
    sides = np.asarray(boxes, np.float64).reshape(-1, 4)
    centres = (sides[:, :2] + sides[:, 2:]) * 0.5
    return np.repeat(centres[:, None], n_anchors, axis=1)


def crop_boxes(centres: ArrayLike, crop_size: int | list[int], padding: int) -> NDArray[np.float32]:
    """Compute the boxes of the crops around points, as DREEM's `get_bbox` and `pad_bbox` do.

    A side of s pixels reaches from centre + (−s // 2), clipped at 0, to centre + s // 2; a clipped
    box ends at s instead, so only boxes at the top and left are moved into the frame. The padding is added afterwards
    and may extend below 0.

    Args:
        centres: (n, A, 2) x y in pixels; NaN gives a NaN box.
        crop_size: side, or [width, height], in pixels, without the padding.
        padding: pixels added on each side.

    Returns:
        (n, A, 4) x1 y1 x2 y2, unrounded.
    """
    points = np.asarray(centres, np.float64)
    width, height = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    sides = np.array([width, height])
    low = np.maximum(points + (-sides // 2), 0.0)
    high = np.where(low == 0.0, sides, points + sides // 2)
    return np.concatenate([low - padding, high + padding], axis=-1).astype(np.float32)
