"""The rule `confidence_threshold`: it flags a frame in which an instance could be nearly any track.

Letters: n instances, M tracks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.rules.rule import Rule


def is_low(scores: NDArray[np.float32], temperature: float, confidence_threshold: float) -> bool:
    """Return whether some instance could be nearly any track.

    That is: the entropy of some row's softmax(S / temperature), divided by that of a uniform row, ln M, exceeds
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


RULE = Rule(
    "confidence_threshold",
    lambda config: config.confidence_threshold > 0,
    flag=lambda scores, config: is_low(scores, config.temperature, config.confidence_threshold),
    flag_name="low_confidence",
)
