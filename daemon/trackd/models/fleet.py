"""The tracks of several streams side by side: predicted, compared and corrected in one pass.

Columns are tracks and rows are instances, a stream's next to each other. What is done to a column depends on nothing
but its own stream, so a stream's results are the same in any company. With one stream nothing is gathered that can be
broadcast.

Letters: n instances, N of all streams, M live tracks of all streams, m tracks seen, K pairs, P streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from trackd.models import forecast, kinematics, learnt, sizes
from trackd.models.forecast import AREA, HITS, LAST, LOG_H, LOG_W, PEAK, REACH_X, REACH_Y, RESTLESS, Model
from trackd.models.kinematics import N_MODELS, N_ROWS, QUARTERS, FloatArray
from trackd.models.stream_motion import StreamMotion
from trackd.tracking.instances import Instances
from trackd.tracking.window import Slots

RESTLESS_GAIN = 0.2  # of a track's running misfit
FASTEST = 8.0  # squared sizes per step squared that a velocity teaches at most
DENSE_PAIRS = 4000  # with more pairs than this, a stream's far ones are left out

Indices = NDArray[np.intp]


@dataclass(slots=True, eq=False)
class Query:
    """A stream's frame, to be compared with the stream's tracks."""

    motion: StreamMotion
    instances: Instances
    slots: Slots  # ascending, at least one
    frame_index: int
    complete: bool  # every pair is wanted
    prune: bool  # tracks that nothing can be are left out


@dataclass(slots=True, eq=False)
class Batch:
    """What was expected of all streams' tracks at once, and what was seen."""

    states: FloatArray  # (N_STATE, M) predicted
    table: NDArray[np.float32]  # (N_TABLE, M)
    observed: NDArray[np.float32]  # (4, N)
    terms: NDArray[np.float32]  # (3, K) of the streams that were compared pair by pair


@dataclass(slots=True, eq=False)
class Expectation:
    """One stream's part of a batch."""

    batch: Batch
    slots: Slots  # ascending: the columns
    first_column: int
    first_row: int
    first_pair: int  # −1: only near pairs were compared
    model: int  # the filter that predicts best
    peak: float


@dataclass(slots=True, eq=False)
class Compared:
    """One stream's logits: (n, columns), or (pairs,) with `pairs` (2, pairs) of rows and columns."""

    expectation: Expectation
    logits: NDArray[np.float32]
    pairs: Indices | None


@dataclass(slots=True, eq=False)
class Sighting:
    """Which of a stream's tracks were seen."""

    motion: StreamMotion
    expectation: Expectation
    slots: Slots  # (m,) at least one
    rows: Indices  # (m,)
    frame_index: int


def observe(frames: Sequence[Instances]) -> NDArray[np.float32]:
    """X y, log width and height, (4, N)."""
    if len(frames) == 1:
        centres, extents = frames[0].centres, frames[0].extents
    else:
        centres = np.concatenate([each.centres for each in frames])
        extents = np.concatenate([each.extents for each in frames])
    observed = np.empty((4, len(centres)), np.float32)
    observed[:2] = centres.T
    size = np.subtract(extents.T[2:], extents.T[:2], out=observed[2:])
    np.maximum(size, np.float32(sizes.MIN_SIDE_PX), out=size)
    np.log(size, out=size)
    return observed


# --- before the association ---


def compare(queries: Sequence[Query]) -> list[Compared]:
    """Every stream's instances against its tracks."""
    contexts, models = zip(*(forecast.context_of(query.motion.learnt) for query in queries), strict=True)
    context = np.array(contexts).T
    if len(queries) == 1:
        return [_compare_alone(queries[0], context, models[0])]
    return _compare_together(queries, context, np.array(models))


def _compare_alone(query: Query, context: FloatArray, model: int) -> Compared:
    states, slots = query.motion.states, query.slots
    quarters = QUARTERS / query.motion.step_before(query.frame_index)
    last, hits = states[LAST : HITS + 1].take(slots, axis=1)
    lapse = forecast.quarters_since(last, query.frame_index, quarters)
    prior = forecast.prior_of(lapse, hits, context)
    if query.prune:
        keep = forecast.possible(lapse, prior, context, model).nonzero()[0]
        slots, lapse, prior = slots[keep], lapse[keep], prior[keep]
    state, table = forecast.foresee(states.take(slots, axis=1), lapse, prior, context, model)
    observed = observe([query.instances])
    pairs, n, m = None, observed.shape[1], len(slots)
    if query.complete or n * m <= DENSE_PAIRS:
        column_table = table[:, None, :]
        terms = forecast.terms_of(observed[:, :, None], column_table)
        logits = forecast.combine(terms, column_table)
        terms = terms.reshape(3, -1)
    else:
        pairs = forecast.near_pairs(observed, table)
        terms, logits = _near(observed, table, pairs)
    batch = Batch(state, table, observed, terms)
    expectation = Expectation(batch, slots, 0, 0, 0 if pairs is None else -1, model, float(context[PEAK, 0]))
    return Compared(expectation, logits, pairs)


def _compare_together(queries: Sequence[Query], context: FloatArray, models: Indices) -> list[Compared]:
    slots = [query.slots for query in queries]
    of = np.repeat(np.arange(len(queries)), [len(some) for some in slots])
    columns, model = context.take(of, axis=1), _of_columns(models, of)
    frames = np.array([query.frame_index for query in queries], np.float64)
    quarters = np.array([QUARTERS / query.motion.step_before(query.frame_index) for query in queries])
    old = [query.motion.states[LAST : HITS + 1].take(query.slots, axis=1) for query in queries]
    last, hits = np.concatenate(old, axis=1)
    lapse = forecast.quarters_since(last, frames[of], quarters[of])
    prior = forecast.prior_of(lapse, hits, columns)
    if any(query.prune for query in queries):
        stays = forecast.possible(lapse, prior, columns, model)
        stays |= ~np.array([query.prune for query in queries])[of]
        keep = stays.nonzero()[0]
        ends = accumulate(len(some) for some in slots)
        slots = [some[stays[end - len(some) : end]] for some, end in zip(slots, ends, strict=True)]
        lapse, prior, columns = lapse[keep], prior[keep], columns[:, keep]
        model = model if isinstance(model, int) else model[keep]
    state = np.concatenate([q.motion.states.take(some, axis=1) for q, some in zip(queries, slots, strict=True)], axis=1)
    states, table = forecast.foresee(state, lapse, prior, columns, model)
    observed = observe([query.instances for query in queries])

    n, m = [len(query.instances) for query in queries], [len(some) for some in slots]
    dense = [q.complete or n[i] * m[i] <= DENSE_PAIRS for i, q in enumerate(queries)]
    counts = [n[i] * m[i] if dense[i] else 0 for i in range(len(queries))]
    first_row, first_column, first_pair = ([0, *accumulate(each)] for each in (n, m, counts))
    row, column = _pairs([n[i] if dense[i] else 0 for i in range(len(n))], m, first_row, first_column)
    terms, logits = _near(observed, table, np.stack([row, column]))
    batch = Batch(states, table, observed, terms)
    results = []
    for i, query_slots in enumerate(slots):
        pair = first_pair[i] if dense[i] else -1
        expectation = Expectation(
            batch, query_slots, first_column[i], first_row[i], pair, int(models[i]), float(context[PEAK, i])
        )
        if dense[i]:
            results.append(Compared(expectation, logits[pair : first_pair[i + 1]].reshape(n[i], m[i]), None))
        else:
            part = table[:, first_column[i] : first_column[i + 1]]
            seen = observed[:, first_row[i] : first_row[i + 1]]
            pairs = forecast.near_pairs(seen, part)
            results.append(Compared(expectation, _near(seen, part, pairs)[1], pairs))
    return results


def _near(
    observed: NDArray[np.float32], table: NDArray[np.float32], pairs: Indices
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Terms (3, K) and logits (K,) of pairs (2, K)."""
    pair_table = table.take(pairs[1], axis=1)
    terms = forecast.terms_of(observed.take(pairs[0], axis=1), pair_table)
    return terms, forecast.combine(terms, pair_table)


def _pairs(n: list[int], m: list[int], first_row: list[int], first_column: list[int]) -> tuple[Indices, Indices]:
    """Row and column of every pair within each stream, (K,), stream by stream and row by row."""
    rows = np.concatenate([np.arange(first, first + count) for first, count in zip(first_row, n, strict=False)])
    width = np.repeat(m, n)
    starts = width.cumsum() - width
    columns = np.arange(int(width.sum())) + np.repeat(np.repeat(first_column[:-1], n) - starts, width)
    return np.repeat(rows, width), columns


# --- after it ---


def correct(sightings: Sequence[Sighting]) -> None:
    """Bring the tracks that were seen up to date, and learn from them; all were compared in one batch."""
    batch = sightings[0].expectation.batch
    alone = len(sightings) == 1
    chosen = [each.expectation.slots.searchsorted(each.slots) for each in sightings]
    counts = [len(some) for some in chosen]
    starts = [0, *accumulate(counts)]
    of: Indices | None = None if alone else np.repeat(np.arange(len(sightings)), counts)
    terms, table, rows, columns = _matched(sightings, chosen, of)
    state = batch.states.take(columns, axis=1)
    observed = batch.observed.take(rows, axis=1).astype(np.float64)
    known = _side_by_side([each.motion.learnt for each in sightings])
    if of is None:
        only = sightings[0].expectation
        ours = known
        model: Model = only.model
        peaks: FloatArray | float = only.peak
        state[LAST] = sightings[0].frame_index
    else:
        ours = known.take(of, axis=1)
        model = _of_columns(np.array([each.expectation.model for each in sightings]), of)
        peaks = np.array([each.expectation.peak for each in sightings])[of]
        state[LAST] = np.array([each.frame_index for each in sightings], np.float64)[of]
    sums = np.empty((learnt.N_SUMS, len(rows)))
    own = _correct_motion(state, observed[:2], ours, model, sums)
    sums[learnt.BURSTS] = expit(terms[1] - forecast.usual(terms, table))
    own -= state[RESTLESS]
    own *= RESTLESS_GAIN
    state[RESTLESS] += own
    state[HITS] += 1.0
    size = state[LOG_W : LOG_H + 1]
    sizes.correct(size, observed[2:], state[HITS], ours, peaks, sums)
    forecast.reach_and_area(size, state[REACH_X : REACH_Y + 1], state[AREA])
    learnt.learn(known, sums, starts[:-1], np.array(counts, np.float64))
    for i, each in enumerate(sightings):
        if alone:
            each.motion.states[:, each.slots] = state
        else:
            each.motion.learnt[:] = known[:, i]
            each.motion.states[:, each.slots] = state[:, starts[i] : starts[i + 1]]


def _matched(
    sightings: Sequence[Sighting], chosen: list[Indices], of: Indices | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], Indices, Indices]:
    """Terms (3, m) and table (N_TABLE, m) of the pairs that were matched, and their rows and columns in the batch."""
    batch = sightings[0].expectation.batch
    if of is None:
        only = sightings[0].expectation
        rows, columns = only.first_row + sightings[0].rows, only.first_column + chosen[0]
        pairs = only.first_pair + sightings[0].rows * len(only.slots) + chosen[0]
    else:
        rows, columns = np.concatenate([each.rows for each in sightings]), np.concatenate(chosen)
        places = [
            (each.first_pair, each.first_row, each.first_column, len(each.slots))
            for each in (sighting.expectation for sighting in sightings)
        ]
        first_pair, first_row, first_column, width = np.array(places).T[:, of]
        pairs = first_pair + rows * width + columns
        rows, columns = rows + first_row, columns + first_column
    table = batch.table.take(columns, axis=1)
    if all(each.expectation.first_pair >= 0 for each in sightings):
        return batch.terms.take(pairs, axis=1), table, rows, columns
    return forecast.terms_of(batch.observed.take(rows, axis=1), table), table, rows, columns


def _correct_motion(
    state: FloatArray, centres: FloatArray, ours: FloatArray, model: Model, sums: FloatArray
) -> FloatArray:
    """Correct the filters; each track's squared misfit under the best one, (m,), 1 on average where it fits."""
    shape = (2, N_MODELS, -1)
    squared, total = kinematics.correct(state[:N_ROWS], centres)
    squared /= state[AREA]
    squared /= ours[learnt.NOISE].reshape(shape) * total
    x, y = squared[:, model] if isinstance(model, int) else squared[:, model, np.arange(len(model))]
    own = x + y
    own *= 0.5
    tailed = squared[0] + squared[1]
    tailed += learnt.MOTION_TAIL
    np.divide(squared, tailed, out=sums[learnt.NOISE].reshape(shape))
    np.log(tailed, out=tailed)
    tailed *= learnt.MOTION_TAIL / 2 + 1
    np.add(tailed, np.log(total), out=sums[learnt.EVIDENCE])
    fast = kinematics.velocity(state, model)
    fast = fast * fast
    speed = np.add(fast[0], fast[1], out=sums[learnt.SPEED])
    speed /= state[AREA]
    np.minimum(speed, FASTEST, out=speed)
    return np.asarray(own)


def _side_by_side(vectors: list[FloatArray]) -> FloatArray:
    """(rows, P); a view of the only one."""
    return vectors[0][:, None] if len(vectors) == 1 else np.stack(vectors, axis=1)


def _of_columns(models: Indices, of: Indices) -> Model:
    first = int(models[0])
    return first if (models == first).all() else models[of]
