"""Zones, lines and pairs, over all points of a frame at once.

Letters: n points, m edges of a polygon. Coordinates are pixels, y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEW = 48  # boxes, of which all pairs are examined
MOST_PAIRS = 1 << 20  # of one frame; candidates beyond it are not examined


class Polygon:
    """A zone with straight edges; the even-odd rule decides what is inside.

    Args:
        corners: (m, 2) x y.
    """

    def __init__(self, corners: Sequence[Sequence[float]]) -> None:
        self._a = np.asarray(corners, np.float64)  # (m, 2) the edges' first ends
        self._b = np.roll(self._a, -1, axis=0)

    def contains(self, points: Floats) -> NDArray[np.bool_]:
        """Return for (n, 2) points whether they are inside."""
        x, y = points[:, 0, None], points[:, 1, None]
        ax, ay, bx, by = self._a[:, 0], self._a[:, 1], self._b[:, 0], self._b[:, 1]
        spans = (ay > y) != (by > y)  # (n, m)
        height = np.where(by == ay, 1.0, by - ay)
        inside: NDArray[np.bool_] = np.logical_xor.reduce(spans & (x < (bx - ax) * (y - ay) / height + ax), axis=1)
        return inside

    def distance(self, points: Floats) -> Floats:
        """Return for (n, 2) points the distance to the nearest edge."""
        edge = self._b - self._a  # (m, 2)
        length2 = np.maximum((edge**2).sum(axis=1), 1e-12)
        offset = points[:, None] - self._a  # (n, m, 2)
        along = np.clip((offset * edge).sum(axis=2) / length2, 0.0, 1.0)
        nearest: Floats = np.sqrt(((offset - along[..., None] * edge) ** 2).sum(axis=2).min(axis=1))
        return nearest


class Line:
    """A line from `start` to `end`. Its right side is the right hand of someone who walks along it in the picture."""

    def __init__(self, start: Sequence[float], end: Sequence[float]) -> None:
        # The ends are ordered, so that a line and its reverse give exactly opposite numbers.
        self._sign = 1.0 if tuple(start) <= tuple(end) else -1.0
        low, high = (start, end) if self._sign > 0 else (end, start)
        self._a = np.asarray(low, np.float64)
        self._along = np.asarray(high, np.float64) - self._a
        self._length = float(np.hypot(*self._along))

    def offset(self, points: Floats) -> Floats:
        """Return for (n, 2) points the distance from the infinite line: positive on the right side."""
        d = points - self._a
        offsets: Floats = self._sign * (self._along[0] * d[:, 1] - self._along[1] * d[:, 0]) / self._length
        return offsets

    def is_between(self, before: Floats, after: Floats) -> NDArray[np.bool_]:
        """Return for n steps whether they pass between the two ends of the line.

        Args:
            before: (n, 2) on one side.
            after: (n, 2) on the other side.
        """
        d0, d1 = self.offset(before), self.offset(after)
        share = d0 / np.where(d0 == d1, 1.0, d0 - d1)
        crossing = before + share[:, None] * (after - before)
        along = ((crossing - self._a) * self._along).sum(axis=1) / self._length**2
        between: NDArray[np.bool_] = (along >= 0.0) & (along <= 1.0)
        return between


def box_gap(a: Floats, b: Floats) -> Floats:
    """Return for (n, 4) boxes the greater of their gaps in x and in y; negative if they overlap."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    gap: Floats = (low - high).max(axis=1)
    return gap


@lru_cache(maxsize=FEW + 1)
def _all_pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n, 1)


def pairs_within(boxes: Floats, gap: float) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return the pairs of (n, 4) boxes with a `box_gap` of at most `gap`, as two arrays of rows.

    None if more than `MOST_PAIRS` pairs would have to be examined. More than `FEW` boxes are swept in the order of
    their left edges.
    """
    if len(boxes) <= FEW:
        i, j = _all_pairs(len(boxes))
        near = box_gap(boxes[i], boxes[j]) <= gap
        return i[near], j[near]
    order = np.argsort(boxes[:, 0], kind="stable")
    swept = boxes[order]
    numbers = np.arange(len(swept))
    counts = np.searchsorted(swept[:, 0], swept[:, 2] + gap, side="right") - numbers - 1
    counts = np.maximum(counts, 0)
    total = int(counts.sum())
    if total > MOST_PAIRS:
        return None
    i = np.repeat(numbers, counts)
    j = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + i + 1
    near = box_gap(swept[i], swept[j]) <= gap
    return order[i[near]], order[j[near]]
