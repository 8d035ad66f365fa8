"""Cells divide: two daughters where one track was.

A track that was there in the frame before has divided when two instances lie in its neighbourhood that no other track
claims (newcomers, or a newcomer and the one that the track itself was given), about as large as each other, each
about half of it, and it stands between them. Lengths are in units of the mother's box diagonal, sizes of its area.
Letters: n instances, M tracks that may divide, c newcomers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

# Where F1 is best on both CTC training sets at hand (docs/evaluation.md): 9 divisions of 10 are within them.
MAX_DISTANCE = 0.9  # of a daughter from the mother
MAX_OFF_CENTRE = 0.3  # of the daughters' middle from the mother
MIN_SIZE, MAX_SIZE = 0.15, 1.1  # "about half": round before they divide, cells are small already
MIN_LIKENESS = 0.6  # of the smaller daughter to the larger


@dataclass(frozen=True, slots=True)
class Division:
    """One track becomes two."""

    mother: int  # its position among the M tracks
    daughters: tuple[int, int]  # rows of the instances, ascending


def find_divisions(
    mothers: NDArray[np.float32], own: NDArray[np.intp], newcomers: NDArray[np.intp], extents: NDArray[np.float32]
) -> list[Division]:
    """The divisions of a frame, each track and each instance in one at most; the best centred first.

    Args:
        mothers: (M, 4) the boxes of the tracks that the frame before saw.
        own: (M,) the row that each was given in this frame, -1 for none.
        newcomers: (c,) rows that no track was given to, ascending.
        extents: (n, 4) the instances' boxes.
    """
    if not len(mothers) or not len(newcomers):
        return []
    centres, sizes = _middles(extents), _areas(extents)
    middles, areas = _middles(mothers), _areas(mothers)
    diagonals = np.maximum(np.hypot(*(mothers[:, 2:] - mothers[:, :2]).T), 1e-6)
    near = _distances(middles, centres[newcomers]) <= MAX_DISTANCE * diagonals[:, None]  # (M, c); NaN is far
    found: list[tuple[float, Division]] = []
    for mother in np.flatnonzero(near.any(axis=1)).tolist():
        rows = newcomers[near[mother]].tolist()
        if own[mother] >= 0:
            rows.append(int(own[mother]))
        for pair in combinations(sorted(rows), 2):
            apart = np.abs(centres[list(pair)] - middles[mother])
            off_centre = float(np.hypot(*(centres[list(pair)].mean(axis=0) - middles[mother]))) / diagonals[mother]
            small, large = sorted(sizes[list(pair)] / max(areas[mother], 1e-6))
            if (
                off_centre <= MAX_OFF_CENTRE
                and float(np.hypot(*apart.T).max()) <= MAX_DISTANCE * diagonals[mother]
                and small >= MIN_SIZE
                and large <= MAX_SIZE
                and small >= MIN_LIKENESS * large
            ):
                found.append((off_centre, Division(mother, pair)))
    return _each_once(found)


def _each_once(found: list[tuple[float, Division]]) -> list[Division]:
    taken: set[int] = set()
    divided: set[int] = set()
    kept = []
    for _, division in sorted(found, key=lambda item: (item[0], item[1].mother, item[1].daughters)):
        if division.mother in divided or taken.intersection(division.daughters):
            continue
        divided.add(division.mother)
        taken.update(division.daughters)
        kept.append(division)
    return kept


def _middles(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.hypot(*np.moveaxis(a[:, None] - b[None], 2, 0)))
