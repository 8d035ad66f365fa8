"""The regions of a mask: their boxes, centroids, and axes by the second moments.

Letters: n blobs, p pixels of all blobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.uint8]  # (h, w), 0 or 255


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The pixels of n blobs."""

    points: Floats  # (p, 2) x y
    rows: NDArray[np.int64]  # (p,) the blob of each, 0 to n - 1
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """n regions of an image, in pixels; a pixel's centre has integer coordinates."""

    areas: Floats  # (n,)
    boxes: Floats  # (n, 4) x1 y1 x2 y2
    centroids: Floats  # (n, 2)
    covariances: Floats  # (n, 2, 2) of the pixels
    axes: Floats  # (n, 2) unit vectors of the long axis; x ≥ 0
    half_lengths: Floats  # (n,) of the long axis of the ellipse with the same second moments

    def __len__(self) -> int:
        return len(self.areas)


def pixels_of(mask: Mask, min_area: float, max_area: float) -> Pixels:
    """Return the connected regions whose area is from `min_area` to `max_area`, in the order of their first rows."""
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = (areas >= min_area) & (areas <= max_area)
    kept[0] = False  # the background
    found = cv2.findNonZero(mask) if kept.any() else None
    if found is None:
        return Pixels(np.empty((0, 2)), np.empty(0, np.int64), 0)
    row_of = np.full(n_labels, -1, np.int64)
    row_of[kept] = np.arange(kept.sum())
    points = found.reshape(-1, 2)  # (p, 1, 2) in OpenCV 4, (p, 2) in 5
    rows = row_of[labels[points[:, 1], points[:, 0]]]
    inside = rows >= 0
    return Pixels(points[inside].astype(np.float64), rows[inside], int(kept.sum()))


def only(pixels: Pixels, wanted: NDArray[np.bool_]) -> Pixels:
    """Return the wanted (n,) ones of n blobs."""
    row_of = np.where(wanted, np.cumsum(wanted) - 1, -1)
    rows = row_of[pixels.rows]
    return Pixels(pixels.points[rows >= 0], rows[rows >= 0], int(wanted.sum()))


def measured(pixels: Pixels) -> Blobs:
    """Return the shapes of blobs, each of one pixel at least."""
    n, rows = pixels.n, pixels.rows
    x, y = pixels.points.T
    areas = np.bincount(rows, minlength=n).astype(float)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(rows, values, n) / areas)

    cx, cy = mean(x), mean(y)
    dx, dy = x - cx[rows], y - cy[rows]
    # A pixel is a square of variance 1/12, so that a line of pixels has a width.
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)
    angle = np.arctan2(2 * xy, xx - yy) / 2
    longest = (xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)  # the larger eigenvalue
    return Blobs(
        areas,
        _boxes(pixels),
        np.column_stack([cx, cy]),
        np.stack([np.column_stack([xx, xy]), np.column_stack([xy, yy])], axis=1),
        np.column_stack([np.cos(angle), np.sin(angle)]),
        2 * np.sqrt(longest),  # a uniform ellipse has the variance (half length)² / 4 along its axis
    )


def _boxes(pixels: Pixels) -> Floats:
    boxes = np.full((pixels.n, 4), np.inf)
    boxes[:, 2:] = -np.inf
    low: Any = boxes[:, :2]
    high: Any = boxes[:, 2:]
    np.minimum.at(low, pixels.rows, pixels.points - 0.5)
    np.maximum.at(high, pixels.rows, pixels.points + 0.5)
    return boxes
