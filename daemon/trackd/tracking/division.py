"""Cell division: one track becomes two.

A track of the previous frame has divided if two instances near it belong to no other track (two unmatched detections,
or one and the track's own instance), are about equally large, have each about half of its size, and lie on both sides
of it. Lengths are in units of the parent's box diagonal, sizes in units of its area.

Letters: n instances, M tracks that may divide, c unmatched detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

# These give the best F1 on both CTC training sets (docs/evaluation.md); 9 of 10 divisions are within them.
MAX_DISTANCE = 0.9  # of a child from the parent
MAX_OFF_CENTRE = 0.3  # of the children's common centre from the parent
MIN_SIZE, MAX_SIZE = 0.15, 1.1  # "about half": a cell is round and small already before it divides
MIN_LIKENESS = 0.6  # ratio of the smaller child to the larger


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
    centres, sizes = _middles(extents), _areas(extents)
    middles, areas = _middles(parents), _areas(parents)
    diagonals = np.maximum(np.hypot(*(parents[:, 2:] - parents[:, :2]).T), 1e-6)
    near = _distances(middles, centres[unmatched]) <= MAX_DISTANCE * diagonals[:, None]  # (M, c); NaN is far
    found: list[tuple[float, Division]] = []
    for parent in np.flatnonzero(near.any(axis=1)).tolist():
        rows = unmatched[near[parent]].tolist()
        if own[parent] >= 0:
            rows.append(int(own[parent]))
        for pair in combinations(sorted(rows), 2):
            apart = np.abs(centres[list(pair)] - middles[parent])
            off_centre = float(np.hypot(*(centres[list(pair)].mean(axis=0) - middles[parent]))) / diagonals[parent]
            small, large = sorted(sizes[list(pair)] / max(areas[parent], 1e-6))
            if (
                off_centre <= MAX_OFF_CENTRE
                and float(np.hypot(*apart.T).max()) <= MAX_DISTANCE * diagonals[parent]
                and small >= MIN_SIZE
                and large <= MAX_SIZE
                and small >= MIN_LIKENESS * large
            ):
                found.append((off_centre, Division(parent, pair)))
    return _each_once(found)


def _each_once(found: list[tuple[float, Division]]) -> list[Division]:
    taken: set[int] = set()
    divided: set[int] = set()
    kept = []
    for _, division in sorted(found, key=lambda item: (item[0], item[1].parent, item[1].children)):
        if division.parent in divided or taken.intersection(division.children):
            continue
        divided.add(division.parent)
        taken.update(division.children)
        kept.append(division)
    return kept


def _middles(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.hypot(*np.moveaxis(a[:, None] - b[None], 2, 0)))
