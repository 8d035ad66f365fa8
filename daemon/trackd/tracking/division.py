"""Cell division: one track becomes two.

A track of the previous frame has divided if two instances near it belong to no other track (two unmatched detections,
or one and the track's own instance), are about equally large, have each about half of its size, and lie on both sides
of it. Lengths are in units of the parent's box diagonal, sizes in units of its area.

The work is bounded, whatever the boxes: where more than `MAX_PAIRS` pairs of instances are near the tracks, each track
considers only the unmatched detections that are nearest to it.

Letters: n instances, M tracks that may divide, c unmatched detections, K pairs of possible children.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT32_TABLE, FLOATS32, INT, INT_TABLE, INTS, compiled, piece

# These give the best F1 on both CTC training sets (docs/evaluation.md); 9 of 10 divisions are within them.
MAX_DISTANCE = 0.9  # of a child from the parent
MAX_OFF_CENTRE = 0.3  # of the children's common centre from the parent
MIN_SIZE, MAX_SIZE = 0.15, 1.1  # "about half": a cell is round and small already before it divides
MIN_LIKENESS = 0.6  # ratio of the smaller child to the larger

MAX_PAIRS = 1 << 17  # pairs of possible children that are compared in one frame
_MIN_LENGTH = 1e-6  # of a diagonal, and the smallest area


@dataclass(frozen=True, slots=True)
class Division:
    """One division."""

    parent: int  # its position among the M tracks
    children: tuple[int, int]  # rows of the instances, ascending


def find_divisions(
    parents: NDArray[np.float32], own: NDArray[np.intp], unmatched: NDArray[np.intp], extents: NDArray[np.float32]
) -> list[Division]:
    """Find the divisions of a frame, the best centred first. Each track and each instance is in at most one.

    Args:
        parents: (M, 4) boxes of the tracks of the previous frame.
        own: (M,) the row that each track matched in this frame, -1 for none.
        unmatched: (c,) ascending rows without a track.
        extents: (n, 4) the instances' boxes.
    """
    if not len(parents) or not len(unmatched):
        return []
    centres, sizes = _middles(extents), areas(extents)
    middles, parent_sizes = _middles(parents), np.maximum(areas(parents), np.float32(_MIN_LENGTH))
    diagonals = np.maximum(np.hypot(*(parents[:, 2:] - parents[:, :2]).T), np.float32(_MIN_LENGTH))
    candidates = unmatched[np.argsort(centres[unmatched, 0], kind="stable")]  # NaN last
    across, own = np.ascontiguousarray(centres[candidates, 0]), np.ascontiguousarray(own)
    most = len(candidates)
    capacity = _count(middles, diagonals, own, candidates, across, centres)
    if capacity > MAX_PAIRS:
        most = max(math.isqrt(2 * MAX_PAIRS // len(parents)) - 1, 2)
        capacity = len(parents) * most * (most + 1) // 2
    pairs, off_centres = np.empty((3, capacity), np.intp), np.empty(capacity, np.float32)
    count = _find(
        middles, diagonals, parent_sizes, own, candidates, across, centres, sizes, most, pairs, off_centres
    )  # fmt: skip
    order = np.argsort(off_centres[:count], kind="stable")  # the pairs are in order of the track and the children
    kept = order[: _each_once(pairs, order, len(parents), len(extents))]
    return [Division(parent, (one, other)) for parent, one, other in pairs[:, kept].T.tolist()]


@piece
def _distance(middles: NDArray[np.float32], parent: int, centres: NDArray[np.float32], row: int) -> Any:
    return math.hypot(centres[row, 0] - middles[parent, 0], centres[row, 1] - middles[parent, 1])


@piece
def _nearest(
    middles: NDArray[np.float32],
    parent: int,
    reach: Any,
    candidates: NDArray[np.intp],
    across: NDArray[np.float32],
    centres: NDArray[np.float32],
    most: int,
    rows: NDArray[np.intp],
    distances: NDArray[np.float32],
) -> int:
    """Write the `most` nearest candidates within a track's reach, in any order; return their number.

    The search goes outwards from the track's x. Of candidates at one distance every track takes others.
    """
    x = middles[parent, 0]
    first, last = np.searchsorted(across, x), np.searchsorted(across, x, side="right")
    right = first + parent * (last - first) // len(middles)
    left = right - 1
    farthest, count = 0, 0
    limit = np.float32(1.001) * reach  # the differences are rounded
    while True:
        to_left = x - across[left] if left >= 0 else np.float32(np.inf)
        to_right = across[right] - x if right < len(across) else np.float32(np.inf)
        if to_right <= to_left:
            k, away = right, to_right
            right += 1
        else:
            k, away = left, to_left
            left -= 1
        if not away <= limit or (count == most and away >= distances[farthest]):
            return count
        row = candidates[k]
        distance = _distance(middles, parent, centres, row)
        if not distance <= reach:
            continue
        place = count
        if count == most:
            if distance >= distances[farthest]:
                continue
            place = farthest
        else:
            count += 1
        rows[place], distances[place] = row, distance
        if count == most < len(candidates):
            farthest = 0
            for other in range(1, most):
                if distances[other] > distances[farthest]:
                    farthest = other


@piece
def _are_children(off_centre: Any, one: Any, other: Any) -> bool:
    """Whether two rows can be children, by their common centre and their sizes over the parent's."""
    small, large = min(one, other), max(one, other)
    return bool(
        off_centre <= np.float32(MAX_OFF_CENTRE)
        and small >= np.float32(MIN_SIZE)
        and large <= np.float32(MAX_SIZE)
        and small >= np.float32(MIN_LIKENESS) * large
    )


@compiled(INT, FLOAT32_TABLE, FLOATS32, INTS, INTS, FLOATS32, FLOAT32_TABLE, nogil=True)
def _count(
    middles: NDArray[np.float32],
    diagonals: NDArray[np.float32],
    own: NDArray[np.intp],
    candidates: NDArray[np.intp],
    across: NDArray[np.float32],
    centres: NDArray[np.float32],
) -> int:
    """The number of pairs of rows near each track; more than `MAX_PAIRS` are not counted to the end."""
    pairs = 0
    for parent in range(len(middles)):
        x, reach = middles[parent, 0], np.float32(MAX_DISTANCE) * diagonals[parent]
        limit = np.float32(1.001) * reach
        n_rows = 0
        for k in range(np.searchsorted(across, x - limit), len(across)):
            if not across[k] - x <= limit:
                break
            if _distance(middles, parent, centres, candidates[k]) <= reach:
                n_rows += 1
        if n_rows > 0 and own[parent] >= 0:
            n_rows += 1
        pairs += n_rows * (n_rows - 1) // 2
        if pairs > MAX_PAIRS:
            break
    return pairs


@compiled(
    INT, FLOAT32_TABLE, FLOATS32, FLOATS32, INTS, INTS, FLOATS32, FLOAT32_TABLE, FLOATS32, INT, INT_TABLE, FLOATS32,
    nogil=True,
)  # fmt: skip
def _find(
    middles: NDArray[np.float32],
    diagonals: NDArray[np.float32],
    areas: NDArray[np.float32],
    own: NDArray[np.intp],
    candidates: NDArray[np.intp],
    across: NDArray[np.float32],
    centres: NDArray[np.float32],
    sizes: NDArray[np.float32],
    most: int,
    pairs: NDArray[np.intp],
    off_centres: NDArray[np.float32],
) -> int:
    """Find the pairs of rows that can be a track's children.

    Args:
        middles: (M, 2) of the tracks.
        diagonals: (M,) above 0.
        areas: (M,) above 0.
        own: (M,) as of `find_divisions`.
        candidates: (c,) unmatched rows by ascending x.
        across: (c,) their x.
        centres: (n, 2) of the instances.
        sizes: (n,) their areas.
        most: so many of the nearest candidates are considered for a track, beside its own instance.
        pairs: (3, K) written: the track and its two rows, all ascending.
        off_centres: (K,) written: from the children's common centre to the track's, over its diagonal.

    Returns:
        the number of pairs.
    """
    rows, distances = np.empty(most + 1, np.int64), np.empty(most + 1, np.float32)
    found = 0
    for parent in range(len(middles)):
        reach = np.float32(MAX_DISTANCE) * diagonals[parent]
        n_rows = _nearest(middles, parent, reach, candidates, across, centres, most, rows, distances)
        if n_rows == 0:
            continue
        if own[parent] >= 0 and _distance(middles, parent, centres, own[parent]) <= reach:
            rows[n_rows] = own[parent]
            n_rows += 1
        rows[:n_rows].sort()
        for first in range(n_rows):
            for second in range(first + 1, n_rows):
                a, b = rows[first], rows[second]
                x = (centres[a, 0] + centres[b, 0]) * np.float32(0.5) - middles[parent, 0]
                y = (centres[a, 1] + centres[b, 1]) * np.float32(0.5) - middles[parent, 1]
                off_centre = math.hypot(x, y) / diagonals[parent]
                if _are_children(off_centre, sizes[a] / areas[parent], sizes[b] / areas[parent]):
                    pairs[0, found], pairs[1, found], pairs[2, found] = parent, a, b
                    off_centres[found] = off_centre
                    found += 1
    return found


@compiled(INT, INT_TABLE, INTS, INT, INT, nogil=True)
def _each_once(pairs: NDArray[np.intp], order: NDArray[np.intp], n_parents: int, n_rows: int) -> int:
    """Move the pairs whose track and rows are in no earlier pair to the front of `order`; return their number."""
    divided, taken = np.zeros(n_parents, np.bool_), np.zeros(n_rows, np.bool_)
    kept = 0
    for k in range(len(order)):
        pair = order[k]
        parent, one, other = pairs[0, pair], pairs[1, pair], pairs[2, pair]
        if not (divided[parent] or taken[one] or taken[other]):
            divided[parent] = taken[one] = taken[other] = True
            order[kept] = pair
            kept += 1
    return kept


def _middles(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))


def areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas (n,) of boxes (n, 4), pixels²."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
