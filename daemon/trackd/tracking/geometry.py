"""The anchor points of a pose, and the crop boxes around points.

Letters: n instances, k nodes of the skeleton, A anchors per instance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackd_client.detections import Detections, Skeleton

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


def anchor_nodes(anchors: Anchors, skeleton: Skeleton | None, rng: np.random.Generator) -> tuple[int, ...]:
    """Return the node number of each anchor, −1 for the centroid.

    An integer draws that many different nodes, the same for every instance, so that the crops of all instances show the
    same nodes.

    Raises:
        ValueError: a name that the skeleton does not have, no anchor at all, or more anchors than nodes.
    """
    nodes = () if skeleton is None else skeleton.nodes
    if isinstance(anchors, int):
        if not 1 <= anchors <= len(nodes):
            raise ValueError(f"anchors must be between 1 and the number of nodes, {len(nodes)}; got {anchors}")
        return tuple(int(node) for node in np.sort(rng.permutation(len(nodes))[:anchors]))
    names = [anchors] if isinstance(anchors, str) else anchors
    if not names:
        raise ValueError("anchors must name at least one node; got an empty list")
    unknown = [name for name in names if name not in CENTROID_NAMES and name not in nodes]
    if unknown:
        known = f"the skeleton's nodes are {', '.join(nodes)}" if nodes else "the stream has no skeleton"
        raise ValueError(f"anchors: unknown node {unknown[0]!r}; {known}")
    return tuple(-1 if name in CENTROID_NAMES else nodes.index(name) for name in names)


def anchor_points(
    detections: Detections,
    skeleton: Skeleton | None,
    anchors: Anchors,
    handle_missing: str,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Compute the points on which crops and boxes are centred.

    Args:
        detections: boxes alone give their centres, for any `anchors`.
        skeleton: names the nodes of the keypoints.
        anchors: a node's name; a list of them; an int: that many nodes at random; "", "centroid" or
            "midpoint": the mean of the visible nodes.
        handle_missing: "centroid" replaces an anchor that is not visible by that mean; "ignore" and "drop" leave NaN.
        rng: draws the nodes if `anchors` is an int; must have the same seed for every frame of a stream.

    Returns:
        (n, A, 2) x y in pixels, NaN where an anchor is missing.

    Raises:
        ValueError: an unknown node; the text names the known ones.
    """
    if detections.keypoints is None:
        n_anchors = len(anchors) if isinstance(anchors, list) else anchors if isinstance(anchors, int) else 1
        boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)
        centres = (boxes[:, :2] + boxes[:, 2:]) * 0.5
        return np.repeat(centres[:, None], n_anchors, axis=1)
    numbers = anchor_nodes(anchors, skeleton, rng)
    keypoints = np.asarray(detections.keypoints, np.float64)
    visible = visible_nodes(keypoints)
    middle = centroids(keypoints, visible)
    points = np.empty((len(keypoints), len(numbers), 2))
    for column, number in enumerate(numbers):
        if number < 0:
            points[:, column] = middle
            continue
        missing = middle if handle_missing == "centroid" else np.nan
        points[:, column] = np.where(visible[:, number, None], keypoints[:, number], missing)
    return points


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
