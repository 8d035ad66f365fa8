"""Which instance is which track: the best one-to-one assignment, and the threshold.

Letters: n instances, M live tracks, m accepted pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT32_TABLE, FLOATS, INT, INTS, compiled
from trackd.tracking.linear_assignment import best_pairs


@dataclass(slots=True, eq=False)
class Matches:
    """Accepted pairs."""

    rows: NDArray[np.intp]  # (m,) instances, ascending
    columns: NDArray[np.intp]  # (m,) tracks
    forced: bool  # some pair was accepted in spite of its threshold


@compiled(INT, FLOAT32_TABLE, FLOATS, INTS, INTS)
def _accept(
    scores: NDArray[np.float32], threshold: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> int:
    """Move the pairs that exceed their threshold to the front; how many there are."""
    count = 0
    for k in range(len(rows)):
        if scores[rows[k], columns[k]] > threshold[columns[k]]:
            rows[count], columns[count] = rows[k], columns[k]
            count += 1
    return count


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
    scores = np.ascontiguousarray(scores, np.float32)
    rows, columns = best_pairs(scores)
    if force:
        return Matches(rows, columns, forced=bool((scores[rows, columns] <= threshold[columns]).any()))
    count = _accept(scores, np.ascontiguousarray(threshold, np.float64), rows, columns)
    return Matches(rows[:count], columns[:count], forced=False)
