"""Label images of tracked instances, from masks or from boxes.

Letters: h × w the image, n instances, m of them tracked.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.outputs.records import Floats
from trackd_client.detections import IntArray


def paint_labels(
    shape: tuple[int, ...], masks: IntArray | None, boxes: Floats, rows: NDArray[np.intp], labels: IntArray
) -> NDArray[np.uint16]:
    """A label image in which every tracked instance has at least one pixel.

    Args:
        shape: (h, w).
        masks: (h, w) label i + 1 is instance i; None: the ellipse in each box is filled.
        boxes: (n, 4) x1 y1 x2 y2, pixels.
        rows: (m,) the tracked instances.
        labels: (m,) their labels.

    Returns:
        (h, w), 0 for the background.
    """
    if masks is None:
        image = _ellipses(shape, boxes[rows], labels)
    else:
        table = np.zeros(max(int(masks.max(initial=0)), len(boxes)) + 1, np.uint16)
        table[rows + 1] = labels
        image = table[masks]
    _mark_hidden(image, boxes[rows], labels)
    return image


def _ellipses(shape: tuple[int, ...], boxes: Floats, labels: IntArray) -> NDArray[np.uint16]:
    image = np.zeros(shape[:2], np.uint16)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    # Smaller ellipses are drawn later, so that one inside another stays visible.
    for i in np.argsort(-np.nan_to_num(areas), kind="stable"):
        if np.isfinite(boxes[i]).all():
            window = _window(shape, boxes[i])
            image[window][_ellipse(window, boxes[i])] = labels[i]
    return image


def _window(shape: tuple[int, ...], box: Floats) -> tuple[slice, slice]:
    """The rows and columns of the image that a box touches."""
    (x1, x2), (y1, y2) = (np.clip(box[axis::2], 0, shape[1 - axis]) for axis in (0, 1))
    return slice(int(y1), math.ceil(y2)), slice(int(x1), math.ceil(x2))


def _ellipse(window: tuple[slice, slice], box: Floats) -> NDArray[np.bool_]:
    """The pixels of a window whose centres lie in the ellipse that a box bounds."""
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1e-9)
    rows, columns = (np.arange(part.start, part.stop) + 0.5 for part in window)
    across, down = (columns - centre[0]) / radius[0], (rows - centre[1]) / radius[1]
    return np.asarray(across[None] ** 2 + down[:, None] ** 2 <= 1)


def _mark_hidden(image: NDArray[np.uint16], boxes: Floats, labels: IntArray) -> None:
    """Give each label without a pixel one near its box's centre, but not the only pixel of another label."""
    counts = np.bincount(image.ravel(), minlength=int(labels.max(initial=0)) + 1)
    for i in np.flatnonzero(counts[labels] == 0):
        size = np.array([image.shape[1], image.shape[0]])
        centre = np.nan_to_num((boxes[i, :2] + boxes[i, 2:]) / 2, posinf=0, neginf=0)
        x, y = np.clip(centre, 0, size - 1).astype(int)
        if image[y, x] != 0 and counts[image[y, x]] < 2:
            free = np.argwhere(image == 0)
            if not len(free):
                continue
            y, x = free[np.argmin(((free - [y, x]) ** 2).sum(axis=1))]
        counts[image[y, x]] -= 1
        image[y, x] = labels[i]
        counts[labels[i]] = 1
