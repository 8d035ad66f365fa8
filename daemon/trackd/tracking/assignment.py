"""Which instance is which track: the best one-to-one assignment, and the threshold.

Letters: n instances, M live tracks, m accepted pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(slots=True, eq=False)
class Matches:
    """Accepted pairs."""

    rows: NDArray[np.intp]  # (m,) instances, ascending
    columns: NDArray[np.intp]  # (m,) tracks
    forced: bool  # some pair was accepted in spite of its threshold


def thresholds(overlap_thresh: float, mult_thresh: bool, observations: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a pair's score must exceed, (M,): `overlap_thresh`, times the track's observations in the window."""
    if mult_thresh:
        return np.asarray(overlap_thresh * observations, np.float64)
    return np.full(len(observations), overlap_thresh)


def assign(scores: NDArray[np.float32], threshold: NDArray[np.float64], force: bool) -> Matches:
    """Pairs of the largest total score whose own score exceeds the threshold.

    Args:
        scores: (n, M) finite.
        threshold: (M,).
        force: accept every pair, as the rule for `max_tracks` has it.
    """
    rows, columns = linear_sum_assignment(scores, maximize=True)
    accepted = scores[rows, columns] > threshold[columns]
    if accepted.all():
        return Matches(rows, columns, forced=False)
    if force:
        return Matches(rows, columns, forced=True)
    return Matches(rows[accepted], columns[accepted], forced=False)
