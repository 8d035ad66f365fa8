"""From logits to one score per instance and track.

Letters: n instances, R references, M live tracks, T distinct frames with the query.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLAG, FLOAT32_TABLE, compiled
from trackd.tracking.scorer import Scores
from trackd.tracking.window import Slots

FAR_LOGIT = 1e30


@compiled(FLAG, FLOAT32_TABLE)
def _is_usable(logits: NDArray[np.float32]) -> bool:
    """Whether no logit is NaN or infinitely sure."""
    usable = True
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            usable &= logits[i, j] < np.inf  # NaN is not
    return usable


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE)
def _softmax(logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    """Softmax of each row with a zero "no match" logit; (n, R)."""
    for i in range(logits.shape[0]):
        top = np.float32(0.0)
        for j in range(logits.shape[1]):
            top = max(top, logits[i, j])
        total = math.exp(-top)
        for j in range(logits.shape[1]):
            probabilities[i, j] = math.exp(logits[i, j] - top)
            total += probabilities[i, j]
        for j in range(logits.shape[1]):
            probabilities[i, j] /= total


def usable_logits(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Logits without NaN and infinity, and the rows that could not be saved.

    A reference that is NaN for every one of several instances is itself at fault: it counts as no match. Any other
    NaN is its row's.

    Returns:
        (n, R) finite logits, and (n,) True for rows that hold NaN, or None where none does.
    """
    if _is_usable(np.ascontiguousarray(logits, np.float32)):
        return logits, None
    missing: NDArray[np.bool_] = np.isnan(logits)
    if len(logits) > 1:
        missing &= ~missing.all(axis=0, keepdims=True)
    rows = np.asarray(missing.any(axis=1))
    clean = np.nan_to_num(logits, nan=-FAR_LOGIT, posinf=FAR_LOGIT, neginf=-FAR_LOGIT)
    return clean, rows if rows.any() else None


def track_scores(
    logits: NDArray[np.float32], scores: Scores, live_slots: Slots, decay_time: float | None = None
) -> NDArray[np.float32]:
    """Per-frame softmax with a zero "no match" logit, decay, sum per track.

    DREEM's association: within each window frame, an instance is one of that frame's references or none of them.
    The decay is the global tracking transformer's: frame t of T weighs decay_time ** (T − 2 − t).

    Args:
        logits: (n, R) finite, as `usable_logits` gives them.
        scores: the slots and frames of the references.
        live_slots: (M,) ascending.
        decay_time: weight per frame of age, in (0, 1], or None.

    Returns:
        (n, M), 0 for a track without a reference.
    """
    frames, latest = scores.frames, scores.n_frames - 2
    one_frame = scores.one_each or len(frames) == 0 or frames[0] == frames[-1] == latest
    if one_frame and scores.n_frames == 2:
        if not logits.size:
            return np.zeros((len(logits), len(live_slots)), np.float32)
        probabilities = np.empty(logits.shape, np.float32)
        _softmax(np.ascontiguousarray(logits, np.float32), probabilities)
        if scores.slots is live_slots:  # one reference per track, in order
            return probabilities
    else:
        probabilities = _softmax_by_frame(logits, scores, decay_time)
    return _sum_by_track(probabilities, np.searchsorted(live_slots, scores.slots), len(live_slots))


def _softmax_by_frame(logits: NDArray[np.float32], scores: Scores, decay_time: float | None) -> NDArray[np.float32]:
    order = np.argsort(scores.frames, kind="stable")
    frames = scores.frames[order]
    starts = np.flatnonzero(np.concatenate([[True], frames[1:] != frames[:-1]]))
    sizes = np.diff(np.append(starts, len(frames)))
    grouped = logits[:, order]
    top = np.maximum(np.maximum.reduceat(grouped, starts, axis=1), np.float32(0))
    weights = np.exp(grouped - np.repeat(top, sizes, axis=1))
    total = np.add.reduceat(weights, starts, axis=1) + np.exp(-top)
    factor = np.float32(1) / total
    if decay_time is not None:
        factor = factor * np.float32(decay_time) ** (scores.n_frames - 2 - frames[starts]).astype(np.float32)
    probabilities: NDArray[np.float32] = np.empty_like(weights)
    probabilities[:, order] = weights * np.repeat(factor, sizes, axis=1)
    return probabilities


def _sum_by_track(probabilities: NDArray[np.float32], columns: NDArray[np.intp], n_tracks: int) -> NDArray[np.float32]:
    totals = np.zeros((len(probabilities), n_tracks), np.float32)
    if len(columns):
        order = np.argsort(columns, kind="stable")
        ranked = columns[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        totals[:, ranked[starts]] = np.add.reduceat(probabilities[:, order], starts, axis=1)
    return totals
