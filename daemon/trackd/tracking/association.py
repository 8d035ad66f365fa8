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

from trackd.compiled import FLAG, FLOAT32_TABLE, compiled, piece
from trackd.tracking import odds, sparse
from trackd.tracking.forced import ODDS_WORTH, SCORE_WORTH, Forcing, match_left, weigh_forced
from trackd.tracking.linear_assignment import LARGE, best_pairs, likeliest_pairs, pair_probabilities, thresholds
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import Matches, Query, Scores
from trackd.tracking.weighing import weigh_pairs, weigh_table
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

FAR_LOGIT = 1e30
NO_ROWS = np.empty(0, np.intp)
NO_SCORES = np.empty(0, np.float32)
_BLOCK_CELLS = 1 << 22  # logits of several frames that are summed at once: bounds the memory
_LEAST_ODDS = 1e-12  # the threshold where `overlap_thresh` is 0


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
    if scores.one_each and not rules and not query.force and len(scores.slots) == len(columns):
        matches = _match_by_odds(query, scores, columns, config)
        if matches is not None:
            return matches
    logits, broken = usable_logits(scores.logits if len(query.rows) == n else scores.logits[query.rows])
    if broken is not None:
        query.rows, logits, query.flags = query.rows[~broken], logits[~broken], ["invalid_detection"]
    rows = query.rows
    if not len(columns) or not len(rows):
        return Matches(NO_ROWS, live[:0], NO_SCORES, rows)
    by_odds = scores.one_each and not change_scores(rules)
    if by_odds:
        log_odds, others = logits if len(scores.slots) == len(columns) else odds.spread(logits, scores, columns), 1
        values = log_odds - np.float32(_log_threshold(config.overlap_thresh))
        limits = _odds_limits(query, columns, config)
        table = odds.SCALE * (log_odds + np.float32(scores.caution))
        flags = weigh_table(odds.with_no_match(table), query, columns, config, rules)[1] if rules else []
    else:
        table, others = track_scores(logits, scores, columns, config.decay_time), len(live) - len(columns)
        table, flags = weigh_table(table, query, columns, config, rules) if rules else (table, [])
        values, limits = table, _limits(query, scores, columns, config)
    if query.force:
        worth = ODDS_WORTH if by_odds else SCORE_WORTH
        matched, tracks = _force(values, limits, query, columns, worth)
    else:
        matched, tracks = best_pairs(np.maximum(values, 0) if by_odds else values, limits)
    query.flags += flags
    probabilities = pair_probabilities(table, matched, tracks, config.temperature, others)
    return Matches(rows[matched], columns[tracks], probabilities, _unmatched(rows, matched))


def _match_by_odds(query: Query, scores: Scores, columns: Slots, config: TrackerConfig) -> Matches | None:
    """As `associate`, in one compiled pass, for the frames of a stream without rules; None: the frame needs more."""
    logits, rows = scores.logits, query.rows
    if not 0 < logits.size < LARGE or len(rows) < len(logits):
        return None
    found = likeliest_pairs(
        logits, _log_threshold(config.overlap_thresh), scores.caution, float(odds.SCALE), config.temperature,
        _odds_limits(query, columns, config),
    )  # fmt: skip
    if found is None:
        return None
    matched, tracks, probabilities = found
    return Matches(matched, columns[tracks], probabilities, _unmatched(rows, matched))


def change_scores(rules: Sequence[Rule]) -> bool:
    """Whether a rule changes scores; others only flag frames."""
    return bool(rules) and any(rule.weigh is not None for rule in rules)


def _force(
    values: NDArray[np.float32],
    limits: NDArray[np.float64],
    query: Query,
    columns: Slots,
    worth: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match where few or no more tracks may begin, and add the flags that say so."""
    forcing = query.forcing
    if forcing is None:  # every pair is accepted, as in DREEM
        matched, tracks = best_pairs(values)
    else:
        weights, centres = values.copy(), query.instances.centres[query.rows]
        boxes, missed = forcing.boxes[columns], forcing.missed[columns]
        weigh_forced(weights, limits, worth, centres, boxes, missed, forcing.reach)
        if len(query.window.candidates):
            weights[(query.window.ids[columns] < 0) & (values <= limits)] = 0
        if forcing.places:  # each is one more column, worth as much as a pair at its threshold
            begun = np.full((len(weights), forcing.places), worth, np.float32)
            weights = np.concatenate([weights, begun], axis=1)
        matched, tracks = best_pairs(weights, np.zeros(weights.shape[1]))
        there = tracks < len(columns)
        matched, tracks = matched[there], tracks[there]
    if (values[matched, tracks] <= limits[tracks]).any():
        query.flags.append("forced")
    return matched, tracks


def associate_left(query: Query, matches: Matches, forcing: Forcing) -> None:
    """Match unmatched instances with missing tracks within their reach, where no object comes or leaves.

    Args:
        query: the frame; its flags are added to.
        matches: of the frame, changed.
        forcing: of the live tracks.
    """
    left = np.setdiff1d(query.live_slots, matches.slots)
    centres = query.instances.centres[matches.unmatched]
    found, tracks = match_left(centres, forcing.boxes[left], forcing.missed[left] + 1)
    if not len(found):
        return
    query.flags.append("forced")
    matches.add(matches.unmatched[found], left[tracks], np.zeros(len(found), np.float32))


def _limits(query: Query, scores: Scores, slots: Slots, config: TrackerConfig) -> NDArray[np.float64]:
    """Return the score that a pair must exceed, by track."""
    multiplied = not scores.one_each if config.mult_thresh is None else config.mult_thresh
    return thresholds(config.overlap_thresh, multiplied, query.window.counts(slots) if multiplied else slots)


def _odds_limits(query: Query, slots: Slots, config: TrackerConfig) -> NDArray[np.float64]:
    """Return by how much the log odds of a pair must exceed those of `overlap_thresh`, by track.

    The score has one observation behind it, so the threshold is multiplied only where `mult_thresh` is set to true.
    """
    if not config.mult_thresh or config.overlap_thresh == 0:
        return np.zeros(len(slots))
    return np.asarray(np.log(query.window.counts(slots)))


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
    by_odds = not change_scores(rules)
    if by_odds:
        values = odds.SCALE * (logits + np.float32(scores.caution))
        gains = np.maximum(logits - np.float32(_log_threshold(config.overlap_thresh)), 0)
        limits = _odds_limits(query, slots, config)
        if rules:
            given = odds.pairs_with_no_match(values, pairs, rows, len(slots))
            query.flags += weigh_pairs(*given, query, np.append(slots, 0), config, rules)[2]
        values = np.maximum(values, 0)
    else:
        values = sparse.softmax(pairs[0], logits)
        values, pairs, flags = weigh_pairs(values, pairs, query, slots, config, rules)
        query.flags += flags
        gains, limits = values, _limits(query, scores, slots, config)
    at, references = pairs
    matched, tracks = sparse.assign_pairs(gains, at, references, limits, n)
    n_tracks = None if by_odds else len(query.live_slots)
    probabilities = sparse.pair_probabilities(values, at, references, matched, tracks, n_tracks, config.temperature)
    free = np.zeros(n, bool)
    free[rows] = True
    free[matched] = False
    return Matches(matched, slots[tracks], probabilities, free.nonzero()[0])


@compiled(FLAG, FLOAT32_TABLE)
def _is_usable(logits: NDArray[np.float32]) -> bool:
    """Whether no logit is NaN or plus infinity."""
    usable = True
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            usable &= logits[i, j] < np.inf  # NaN is not
    return usable


@piece
def _softmax_rows(logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
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


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE)
def _softmax(logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    _softmax_rows(logits, probabilities)


@compiled(None, FLOAT32_TABLE, FLOAT32_TABLE, nogil=True)
def _softmax_of_many(logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    _softmax_rows(logits, probabilities)


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
        softmax = _softmax if logits.size < LARGE else _softmax_of_many
        softmax(np.ascontiguousarray(logits, np.float32), probabilities)
        if scores.slots is live_slots:  # one reference per track, in order
            return probabilities
    elif logits.size > _BLOCK_CELLS:
        height = max(_BLOCK_CELLS // logits.shape[1], 1)
        blocks = [logits[start : start + height] for start in range(0, len(logits), height)]
        return np.concatenate([track_scores(block, scores, live_slots, decay_time) for block in blocks])
    else:
        probabilities = _softmax_by_frame(logits, scores, decay_time)
    return _sum_by_track(probabilities, np.searchsorted(live_slots, scores.slots), len(live_slots))


def _log_threshold(overlap_thresh: float) -> float:
    return math.log(max(overlap_thresh, _LEAST_ODDS))


def _softmax_by_frame(logits: NDArray[np.float32], scores: Scores, decay_time: float | None) -> NDArray[np.float32]:
    in_order = bool((scores.frames[1:] >= scores.frames[:-1]).all())  # as the transformer gives them
    order = slice(None) if in_order else np.argsort(scores.frames, kind="stable")
    frames = scores.frames[order]
    starts = np.flatnonzero(np.concatenate([[True], frames[1:] != frames[:-1]]))
    sizes = np.diff(np.append(starts, len(frames)))
    grouped = logits[:, order]
    top = np.maximum(np.maximum.reduceat(grouped, starts, axis=1), np.float32(0))
    weights: NDArray[np.float32] = grouped - np.repeat(top, sizes, axis=1)
    np.exp(weights, out=weights)
    total = np.add.reduceat(weights, starts, axis=1) + np.exp(-top)
    factor = np.float32(1) / total
    if decay_time is not None:
        factor = factor * np.float32(decay_time) ** (scores.n_frames - 2 - frames[starts]).astype(np.float32)
    weights *= np.repeat(factor, sizes, axis=1)
    if in_order:
        return weights
    probabilities: NDArray[np.float32] = np.empty_like(weights)
    probabilities[:, order] = weights
    return probabilities


def _sum_by_track(probabilities: NDArray[np.float32], columns: NDArray[np.intp], n_tracks: int) -> NDArray[np.float32]:
    totals = np.zeros((len(probabilities), n_tracks), np.float32)
    if len(columns):
        order = np.argsort(columns, kind="stable")
        ranked = columns[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        totals[:, ranked[starts]] = np.add.reduceat(probabilities[:, order], starts, axis=1)
    return totals
