"""Log odds as scores: of a scorer that gives each track one reference, in one frame, against "no match".

The assignment with the largest sum of log odds is the likeliest one, since the matches of a frame exclude each other.
What is published is a probability: the softmax of a row with "no match" as one more alternative. Caution, by which a
match must be likelier than a new object, decides on matches; it is no evidence, and is not in these probabilities.

Letters: n instances, R references, M tracks, K near pairs, r rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.scorer import Scores
from trackd.tracking.window import Slots

SCALE = np.float32(0.1)  # of log odds as scores: at the default `temperature` their softmax is that of log odds
_NONE = -1e3  # log odds of a track that the scorer left out
_FAR = np.float32(10.0)  # scores by which a pair that is not given is below "no match"


def spread(logits: NDArray[np.float32], scores: Scores, live_slots: Slots) -> NDArray[np.float32]:
    """Return the log odds of each track, (n, M), where the scorer left out some.

    Args:
        logits: (n, R) finite.
        scores: the slots of the references.
        live_slots: (M,) ascending.
    """
    values = np.full((len(logits), len(live_slots)), _NONE, np.float32)
    values[:, np.searchsorted(live_slots, scores.slots)] = logits
    return values


def with_no_match(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores (n, M) with one more column: "no match", (n, M + 1)."""
    return np.concatenate([table, np.zeros((len(table), 1), np.float32)], axis=1)


def pairs_with_no_match(
    values: NDArray[np.float32], pairs: NDArray[np.intp], rows: NDArray[np.intp], n_tracks: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return near pairs and, for each row, one with the column `n_tracks`: "no match".

    All scores are raised by 10, so that a pair that is not given, whose score is 0, counts as very unlikely.

    Args:
        values: (K,) scores.
        pairs: (2, K) rows, ascending, and columns.
        rows: (r,) that take part, ascending.
        n_tracks: M.
    """
    nothing = np.stack([rows, np.full(len(rows), n_tracks)])
    together = np.concatenate([pairs, nothing], axis=1)
    order = np.argsort(together[0], kind="stable")
    scores = np.concatenate([np.maximum(values + _FAR, 0), np.full(len(rows), _FAR)])
    return scores[order], together[:, order]
