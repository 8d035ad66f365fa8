"""How sure an assignment is: `track_scores`, and the rule that flags a frame.

Letters: n instances, M live tracks, m accepted pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_TABLE, FLOATS32, INT, INTS, compiled
from trackd.tracking.assignment import Matches

_NOTHING = 1e-8  # a score over the temperature that exp cannot tell from 0


@compiled(None, FLOAT32_TABLE, INTS, INTS, FLOAT, INT, FLOATS32)
def _pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    sharpness: float,
    others: int,
    probabilities: NDArray[np.float32],
) -> None:
    for k in range(len(rows)):
        row = scores[rows[k]]
        top = 0.0 if others else row[0]
        for score in row:
            top = max(top, score)
        nothing = math.exp(-top * sharpness)
        total = others * nothing
        for score in row:
            total += nothing if abs(score) * sharpness < _NOTHING else math.exp((score - top) * sharpness)
        probabilities[k] = math.exp((row[columns[k]] - top) * sharpness) / total


def pair_probabilities(
    scores: NDArray[np.float32], matches: Matches, temperature: float, others: int = 0
) -> NDArray[np.float32]:
    """softmax(S / temperature) over the tracks at the assigned one; (m,), 0 to 1.

    Args:
        scores: (n, M).
        matches: m accepted pairs.
        temperature: the softmax's.
        others: further tracks, whose scores are 0 in every row.
    """
    probabilities = np.empty(len(matches.rows), np.float32)
    _pair_probabilities(
        np.ascontiguousarray(scores, np.float32),
        matches.rows,
        matches.columns,
        1.0 / temperature,
        others,
        probabilities,
    )
    return probabilities


def is_low(scores: NDArray[np.float32], temperature: float, confidence_threshold: float) -> bool:
    """Whether some instance could be nearly any track.

    A row's entropy of softmax(S / temperature), divided by that of a uniform row, ln M, exceeds
    1 − `confidence_threshold`. Never with one track, and never with a threshold of 0.
    """
    n_tracks = scores.shape[1]
    if confidence_threshold <= 0 or n_tracks < 2 or len(scores) == 0:
        return False
    sharpened = scores.astype(np.float64) / temperature
    sharpened -= sharpened.max(axis=1, keepdims=True)
    weights = np.exp(sharpened)
    total = weights.sum(axis=1)
    # −Σ p ln p with p = w / Σw, in the form that has no 0 · ln 0
    entropy = np.log(total) - (weights * sharpened).sum(axis=1) / total
    return bool((entropy / np.log(n_tracks) > 1.0 - confidence_threshold).any())
