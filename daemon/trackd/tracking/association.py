"""The association of one frame: from a scorer's logits to matched instances and tracks.

`associate` reads in order of time: usable logits, one score per instance and track, the rules, the best assignment,
its probabilities. Where a scorer gives near pairs only, `sparse` computes the same from those.

Letters: n instances, m of them matched, R references, K near pairs, M live tracks, T distinct frames with the query
frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLAG, FLOAT, FLOAT32_TABLE, FLOATS32, INT, INTS, compiled
from trackd.tracking import sparse
from trackd.tracking.linear_assignment import best_pairs, thresholds
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Matches, Query, Scores
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

FAR_LOGIT = 1e30
NO_ROWS = np.empty(0, np.intp)
NO_SCORES = np.empty(0, np.float32)
_NOTHING = 1e-8  # a score over the temperature that exp() cannot distinguish from 0


def associate(query: Query, scores: Scores | None, config: TrackerConfig, rules: Sequence[Rule]) -> Matches:
    """Match instances with tracks. Adds the flags of the frame to `query.flags`.

    Args:
        query: the frame.
        scores: the scorer's result; None: there was nothing to compare.
        config: the `tracker` section.
        rules: those that are on, in the order in which they apply.
    """
    if scores is None:
        return Matches(NO_ROWS, query.live_slots[:0], NO_SCORES, query.rows)
    if scores.pairs is not None:
        return _associate_near(query, scores, scores.pairs, config, rules)
    live, instances = query.live_slots, query.instances
    n = len(instances.valid)
    all_tracks = query.complete or scores.n_frames > 2 or len(scores.slots) == len(live)
    columns = live if all_tracks else scores.slots  # a track that the scorer left out scores 0
    logits, broken = usable_logits(scores.logits if len(query.rows) == n else scores.logits[query.rows])
    if broken is not None:
        query.rows, logits, query.flags = query.rows[~broken], logits[~broken], ["invalid_detection"]
    rows = query.rows
    if not len(columns) or not len(rows):
        return Matches(NO_ROWS, live[:0], NO_SCORES, rows)
    table = track_scores(logits, scores, columns, config.decay_time)
    for rule in rules:
        if rule.weigh is not None:
            table = rule.weigh(table, query, columns, config)
    counts = query.window.counts(columns) if config.mult_thresh else columns
    limits = thresholds(config.overlap_thresh, config.mult_thresh, counts)
    if query.force:
        matched, tracks = best_pairs(table)
        if (table[matched, tracks] <= limits[tracks]).any():
            query.flags.append("forced")
    else:
        matched, tracks = best_pairs(table, limits)
    for rule in rules:
        if rule.flag is not None and rule.flag(table, config):
            query.flags.append(rule.flag_name)
    probabilities = pair_probabilities(table, matched, tracks, config.temperature, len(live) - len(columns))
    return Matches(rows[matched], columns[tracks], probabilities, _unmatched(rows, matched))


def _unmatched(rows: NDArray[np.intp], matched: NDArray[np.intp]) -> NDArray[np.intp]:
    if len(matched) == len(rows):
        return NO_ROWS
    free = np.ones(len(rows), bool)
    free[matched] = False
    return rows[free]


def _associate_near(
    query: Query, scores: Scores, pairs: NDArray[np.intp], config: TrackerConfig, rules: Sequence[Rule]
) -> Matches:
    """As `associate`, from near pairs. All rows here are rows of the instances, (n)."""
    logits, instances = scores.logits, query.instances
    n, slots = len(instances.valid), scores.slots
    usable = instances.valid
    if np.isnan(logits).any():
        usable = usable.copy()
        usable[pairs[0, np.isnan(logits)]] = False
        query.rows, query.flags = np.flatnonzero(usable), ["invalid_detection"]
    rows = query.rows
    if len(rows) < n:
        kept = usable[pairs[0]]
        pairs, logits = pairs[:, kept], logits[kept]
    at, references = pairs
    values = sparse.softmax(at, logits)
    if rules:
        values = _weigh_near(values, query, at, references, slots, config, rules)
    counts = query.window.counts(slots) if config.mult_thresh else slots
    limits = thresholds(config.overlap_thresh, config.mult_thresh, counts)
    matched, tracks = sparse.assign_pairs(values, at, references, limits, n)
    probabilities = sparse.pair_probabilities(
        values, at, references, matched, tracks, len(query.live_slots), config.temperature
    )
    free = np.zeros(n, bool)
    free[rows] = True
    free[matched] = False
    return Matches(matched, slots[tracks], probabilities, free.nonzero()[0])


def _weigh_near(
    values: NDArray[np.float32],
    query: Query,
    at: NDArray[np.intp],
    references: NDArray[np.intp],
    slots: Slots,
    config: TrackerConfig,
    rules: Sequence[Rule],
) -> NDArray[np.float32]:
    """Apply rules that do not need every pair to near pairs, through a table of the rows that take part; (K,)."""
    place = np.zeros(len(query.instances.valid), np.intp)
    place[query.rows] = np.arange(len(query.rows))
    table = np.zeros((len(query.rows), len(slots)), np.float32)
    table[place[at], references] = values
    for rule in rules:
        if rule.weigh is not None:
            table = rule.weigh(table, query, slots, config)
    for rule in rules:
        if rule.flag is not None and rule.flag(table, config):
            query.flags.append(rule.flag_name)
    return np.ascontiguousarray(table[place[at], references], np.float32)


@compiled(FLAG, FLOAT32_TABLE, nogil=True)
def _is_usable(logits: NDArray[np.float32]) -> bool:
    """Whether no logit is NaN or plus infinity."""
    usable = True
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            usable &= logits[i, j] < np.inf  # NaN is not
    return usable


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE, nogil=True)
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
    """Replace NaN and infinity, and name the rows that stay unusable.

    A reference with NaN for every one of several instances has a broken observation: it counts as no match. Any other
    NaN makes its row unusable.

    Returns:
        (n, R) finite logits, and (n,) True for rows that hold NaN; None if no row does.
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
    """Compute a softmax per frame with a zero "no match" logit, apply the decay, sum per track.

    DREEM's association: within each window frame, an instance is one of that frame's references or none of them.
    The decay is the global tracking transformer's: the weight of frame t of T is decay_time ** (T − 2 − t).

    Args:
        logits: (n, R) finite, as `usable_logits` returns them.
        scores: the slots and frames of the references.
        live_slots: (M,) ascending.
        decay_time: weight per frame of age, in (0, 1], or None.

    Returns:
        (n, M); 0 for a track without a reference.
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


@compiled(None, FLOAT32_TABLE, INTS, INTS, FLOAT, INT, FLOATS32, nogil=True)
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
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    temperature: float,
    others: int = 0,
) -> NDArray[np.float32]:
    """Compute softmax(S / temperature) over the tracks, at the matched track; (m,), 0 to 1.

    Args:
        scores: (n, M).
        rows: (m,) matched instances.
        columns: (m,) their tracks.
        temperature: of the softmax.
        others: further tracks, whose scores are 0 in every row.
    """
    probabilities = np.empty(len(rows), np.float32)
    _pair_probabilities(
        np.ascontiguousarray(scores, np.float32), rows, columns, 1.0 / temperature, others, probabilities
    )
    return probabilities
