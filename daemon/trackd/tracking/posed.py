"""What the tracker needs of poses: anchor points, the boxes of their crops, published boxes, centres; in one pass.

Letters: n instances, k nodes of the skeleton, A anchors per instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import FLAG, FLAGS, FLOAT, FLOAT32_CUBE, FLOAT32_TABLE, GIVEN_BOXES, INT, INTS, compiled
from trackd.tracking.geometry import anchor_nodes
from trackd_client.detections import Skeleton

if TYPE_CHECKING:
    from trackd_client.recordings.config import LiveDataset

_POSES, _POINTS = types.Array(types.float64, 3, "C", readonly=True), types.float64[:, :, ::1]
_NO_BOXES = np.empty((0, 4), np.float32)


@dataclass(slots=True, eq=False)
class Posed:
    """The geometry of n poses."""

    points: NDArray[np.float64]  # (n, A, 2) the anchors, pixels; NaN for a missing one
    crops: NDArray[np.float32]  # (n, A, 4) x1 y1 x2 y2 of the crops about them
    extents: NDArray[np.float32]  # (n, 4) about at least two visible nodes, else the first complete crop; or as sent
    centres: NDArray[np.float32]  # (n, 2) the mean of the anchors that are present, else the centre of the extents
    usable: NDArray[np.bool_]  # (n,) has a visible node or a box, and no coordinate that is a fault
    all_usable: bool


def read_poses(
    keypoints: NDArray[np.floating[Any]],
    boxes: NDArray[np.float32] | None,
    dataset: LiveDataset,
    skeleton: Skeleton | None,
    limit: float,
) -> Posed:
    """Return the geometry of the poses of one frame.

    Args:
        keypoints: (n, k, 2) pixels; a node with NaN is not visible.
        boxes: (n, 4) as sent with them; None: none were.
        dataset: crop size, padding, anchors, handling of missing anchors and seed.
        skeleton: the names of the nodes.
        limit: a coordinate beyond it, also an infinite one, is a fault.

    Raises:
        ValueError: an unknown anchor.
    """
    nodes = np.array(anchor_nodes(dataset.anchors, skeleton, dataset.seed or 0), np.intp)
    n, (width, height) = len(keypoints), dataset.crop_width_height
    points, crops = np.empty((n, len(nodes), 2)), np.empty((n, len(nodes), 4), np.float32)
    extents = np.empty((n, 4), np.float32) if boxes is None else boxes
    centres, usable = np.empty((n, 2), np.float32), np.empty(n, np.bool_)
    all_usable = _read(
        np.ascontiguousarray(keypoints, np.float64), nodes, dataset.handle_missing == "centroid", width, height,
        dataset.padding, limit, boxes is not None, _NO_BOXES if boxes is None else boxes, points, crops,
        extents if boxes is None else _NO_BOXES, centres, usable,
    )  # fmt: skip
    return Posed(points, crops, extents, centres, usable, all_usable)


@compiled(
    FLAG, _POSES, INTS, FLAG, INT, INT, INT, FLOAT, FLAG, GIVEN_BOXES, _POINTS, FLOAT32_CUBE, FLOAT32_TABLE,
    FLOAT32_TABLE, FLAGS,
)  # fmt: skip
def _read(
    poses: NDArray[np.float64],
    nodes: NDArray[np.intp],
    replaces: bool,
    width: int,
    height: int,
    padding: int,
    limit: float,
    has_boxes: bool,
    boxes: NDArray[np.float32],
    points: NDArray[np.float64],
    crops: NDArray[np.float32],
    extents: NDArray[np.float32],
    centres: NDArray[np.float32],
    usable: NDArray[np.bool_],
) -> bool:
    """Write the results for poses (n, k, 2); return whether all are usable.

    Sums begin with their first term and run in the order of nodes or anchors.

    Args:
        poses: (n, k, 2) pixels.
        nodes: (A,) the node of each anchor, −1 for the mean of the visible nodes.
        replaces: an anchor that is not visible becomes that mean.
        width: of a crop without the padding, as the height, pixels.
        height: of it.
        padding: added on each side.
        limit: of a coordinate.
        has_boxes: whether boxes were sent.
        boxes: (n, 4) those; else (0, 4).
        points: (n, A, 2) written, as the following.
        crops: (n, A, 4).
        extents: (n, 4); not with boxes.
        centres: (n, 2).
        usable: (n,).
    """
    all_usable = True
    sides = (width, height)
    low, high, middle, total = np.empty(2), np.empty(2), np.empty(2), np.empty(2)
    for i in range(len(poses)):
        n_visible, is_seen, is_faulty = 0, False, False
        total[:] = 0.0
        low[:] = np.inf
        high[:] = -np.inf
        for node in range(poses.shape[1]):
            x, y = poses[i, node, 0], poses[i, node, 1]
            is_faulty |= abs(x) > limit or abs(y) > limit  # false for NaN
            is_seen |= not np.isnan(x) and not np.isnan(y)
            visible = abs(x) < np.inf and abs(y) < np.inf
            n_visible += visible
            for axis in range(2):
                value = poses[i, node, axis] if visible else 0.0
                total[axis] = value if node == 0 else total[axis] + value
                if visible:
                    low[axis], high[axis] = min(low[axis], value), max(high[axis], value)
        for axis in range(2):
            middle[axis] = total[axis] / n_visible if n_visible > 0 else np.nan
        usable[i] = (has_boxes or is_seen) and not is_faulty
        all_usable &= usable[i]
        n_there, complete = 0, -1
        for anchor in range(len(nodes)):
            node = nodes[anchor]
            visible = node >= 0 and abs(poses[i, node, 0]) < np.inf and abs(poses[i, node, 1]) < np.inf
            for axis in range(2):
                point = np.nan
                if visible:
                    point = poses[i, node, axis]
                elif node < 0 or replaces:
                    point = middle[axis]
                points[i, anchor, axis] = point
                side = sides[axis]
                begin = point + (-side // 2)
                if begin <= 0.0:  # false for NaN
                    begin = 0.0
                end = side if begin == 0.0 else point + side // 2
                crops[i, anchor, axis], crops[i, anchor, 2 + axis] = begin - padding, end + padding
            is_there = not np.isnan(points[i, anchor, 0])
            n_there += is_there
            if is_there and complete < 0:
                complete = anchor
            for axis in range(2):
                value = points[i, anchor, axis] if is_there else 0.0
                total[axis] = value if anchor == 0 else total[axis] + value
        if not has_boxes:
            for axis in range(2):
                if n_visible >= 2:
                    extents[i, axis], extents[i, 2 + axis] = low[axis], high[axis]
                else:
                    first = max(complete, 0)
                    extents[i, axis], extents[i, 2 + axis] = crops[i, first, axis], crops[i, first, 2 + axis]
        for axis in range(2):
            if n_there > 0:
                centres[i, axis] = total[axis] / n_there
            elif has_boxes:
                centres[i, axis] = (boxes[i, axis] + boxes[i, 2 + axis]) * np.float32(0.5)
            else:
                centres[i, axis] = (extents[i, axis] + extents[i, 2 + axis]) * np.float32(0.5)
    return all_usable
