"""Which instance is which track: the best one-to-one assignment, and the threshold.

Letters: n instances, M live tracks, m accepted pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOATS, INTS, compiled
from trackd.tracking.linear_assignment import best_pairs


@dataclass(slots=True, eq=False)
class Matches:
    """Accepted pairs."""

    rows: NDArray[np.intp]  # (m,) instances, ascending
    columns: NDArray[np.intp]  # (m,) tracks
    forced: bool  # some pair was accepted in spite of its threshold


@compiled(None, INTS, FLOAT, FLOATS)
def _times(counts: NDArray[np.int64], value: float, products: NDArray[np.float64]) -> None:
    for j in range(len(counts)):
        products[j] = value * counts[j]


def thresholds(overlap_thresh: float, mult_thresh: bool, observations: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a pair's score must exceed, (M,): `overlap_thresh`, times the track's observations in the window."""
    if not mult_thresh:
        return np.full(len(observations), overlap_thresh)
    limits = np.empty(len(observations))
    _times(observations, overlap_thresh, limits)
    return limits


def assign(scores: NDArray[np.float32], threshold: NDArray[np.float64], force: bool) -> Matches:
    """Pairs of the largest total score whose own score exceeds the threshold.

    Args:
        scores: (n, M) finite.
        threshold: (M,).
        force: accept every pair, as the rule for `max_tracks` has it.
    """
    if not force:
        return Matches(*best_pairs(scores, threshold), forced=False)
    rows, columns = best_pairs(scores)
    return Matches(rows, columns, forced=bool((scores[rows, columns] <= threshold[columns]).any()))
