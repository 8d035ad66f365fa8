"""What is expected of the live tracks at one frame, and how well observations fit it.

How well is the better of two explanations: a usual movement, to about where the best filter expects the track and with
about its size; or a burst, a movement that no filter expects, within the reach of the box. Place, burst and size are
each a two-dimensional Student t density with `TAIL` degrees of freedom, over the density of a stranger.

Letters: n instances, S slots, M tracks that are expected, K pairs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import (
    FLAG,
    FLOAT,
    FLOAT32_TABLE,
    FLOAT_TABLE,
    FLOATS,
    FLOATS32,
    GIVEN_BOXES,
    INT,
    INT_TABLE,
    INTS,
    compiled,
    piece,
    records,
)
from trackd.models.motion.records import EXPECTED, LAPSE, LEARNT, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

GATE = math.log(0.005)  # log odds below which a pair is far: `scorer.NEGLIGIBLE`
PRIOR = 2.0 - math.log(2 * math.pi)  # log odds of a sure sighting over a stranger at the same place
STRANGER_WEIGHT = 0.7  # how much of the log of the share of strangers counts,
USUAL_STRANGERS = 0.02  # over this
TAIL = 4.0
RESTLESS_MOST = 9.0
MIN_SIDE_PX = 1.0
_COUNT_AND_MODEL = types.UniTuple(types.int64, 2)


@compiled(None, GIVEN_BOXES, GIVEN_BOXES, FLOAT_TABLE)
def observe(centres: NDArray[np.float32], extents: NDArray[np.float32], observed: Floats) -> None:
    """X y, log width and height, (n, 4), of centres (n, 2) and boxes (n, 4)."""
    for i in range(len(centres)):
        observed[i, 0] = centres[i, 0]
        observed[i, 1] = centres[i, 1]
        observed[i, 2] = math.log(max(extents[i, 2] - extents[i, 0], MIN_SIDE_PX))
        observed[i, 3] = math.log(max(extents[i, 3] - extents[i, 1], MIN_SIDE_PX))


@piece
def _best_model(known: Any) -> int:
    """The filter that predicts best."""
    best = 0
    for model in range(1, len(known.evidence)):
        if known.evidence[model] > known.evidence[best]:
            best = model
    return best


@piece
def _size_peak(known: Any) -> float:
    """Log of how much a size speaks for a track at most."""
    ratio = 1.0
    for side in range(2):
        ratio *= max(known.size_spread[side] / known.size_noise[side], 1.0)
    return 0.5 * math.log(ratio)


@piece
def _predict(track: Any, lapse: Any, then: Any) -> None:
    """Let time pass without looking."""
    for b in range(len(track.x)):
        reach, kept = lapse.reach[b], lapse.kept[b]
        covariance = track.cov_xv[b] + reach * track.var_v[b]
        then.var_x[b] = track.var_x[b] + reach * (track.cov_xv[b] + covariance) + lapse.drift[b]
        then.cov_xv[b] = covariance * kept + lapse.cross[b]
        then.x[b] = track.x[b] + reach * track.vx[b]
        then.y[b] = track.y[b] + reach * track.vy[b]
        then.var_v[b] = track.var_v[b] * kept * kept + lapse.driven[b]
        then.vx[b] = track.vx[b] * kept
        then.vy[b] = track.vy[b] * kept


@piece
def _expect(track: Any, lapse: Any, known: Any, model: int, prior: float, row: Any) -> None:
    """What a predicted track is compared by; `prior` is its log odds before anything is."""
    row.centre[0], row.centre[1] = track.x[model], track.y[model]
    row.size[0], row.size[1] = track.log_w, track.log_h
    spread = min(max(track.restless, 1.0), RESTLESS_MOST) * (track.var_x[model] + 1.0)
    place_x, place_y = known.noise_x[model] * spread, known.noise_y[model] * spread  # variances over size squared
    burst_x, burst_y = place_x + track.reach_x, place_y + track.reach_y
    scale, odds = TAIL * track.area, math.exp(prior)
    row.place_precision[0], row.place_precision[1] = 1.0 / (scale * place_x), 1.0 / (scale * place_y)
    row.place_peak = odds / math.sqrt(place_x * place_y)
    row.burst_precision[0], row.burst_precision[1] = 1.0 / (scale * burst_x), 1.0 / (scale * burst_y)
    row.burst_peak = odds * known.bursts / math.sqrt(burst_x * burst_y)
    row.size_peak = 1.0
    for side in range(2):
        variance = known.size_noise[side] + lapse.growth
        row.size_precision[side] = 1.0 / (TAIL * variance)
        row.size_peak *= math.sqrt(max(known.size_spread[side], known.size_noise[side]) / variance)
    row.forgiven = known.strange


@compiled(
    _COUNT_AND_MODEL, records(TRACK), INTS, FLOAT, FLOAT, records(LAPSE), records(LEARNT), FLAG, INTS, records(TRACK),
    records(EXPECTED),
)  # fmt: skip
def foresee(
    tracks: NDArray[np.void],
    slots: Indices,
    frame_index: float,
    quarters: float,
    lapses: NDArray[np.void],
    learnt: NDArray[np.void],
    prune: bool,
    kept: Indices,
    predicted: NDArray[np.void],
    expected: NDArray[np.void],
) -> tuple[int, int]:
    """What is expected of tracks at a frame.

    Args:
        tracks: (S,) by slot.
        slots: (M,) of the live tracks, ascending.
        frame_index: the frame's number.
        quarters: quarter steps in a difference of one between frame indices.
        lapses: per quarter step.
        learnt: (1,) what the stream has taught.
        prune: leave out the tracks that an instance at the best place could not be.
        kept: (M,) written: the slots that were not left out.
        predicted: (M,) written: their tracks at the frame.
        expected: (M,) written.

    Returns:
        how many were not left out, and the filter that predicts best.
    """
    known = learnt[0]
    model, size_peak = _best_model(known), _size_peak(known)
    base = PRIOR + STRANGER_WEIGHT * math.log(USUAL_STRANGERS / max(known.strangers, 1e-4))
    vague = 0.5 * math.log(known.noise_x[model] * known.noise_y[model])
    count = 0
    for slot in slots:
        track = tracks[slot]
        lapse = lapses[min(int((frame_index - track.last) * quarters + 0.5), len(lapses) - 1)]
        prior = base - (lapse.gap + lapse.fleeting / track.hits)
        if prune and max(size_peak - math.log1p(lapse.drift[model]) - vague, 0.0) + prior <= GATE:
            continue
        kept[count] = slot
        predicted[count] = track
        _predict(track, lapse, predicted[count])
        _expect(predicted[count], lapse, known, model, prior, expected[count])
        count += 1
    return count, model


@piece
def _usual(seen: Floats, row: Any) -> float:
    """How likely an observation is by a usual movement, whose size is never worse evidence than one forgiven."""
    place, size = 1.0, 1.0
    for side in range(2):
        place += (seen[side] - row.centre[side]) ** 2 * row.place_precision[side]
        size += (seen[2 + side] - row.size[side]) ** 2 * row.size_precision[side]
    # To the power of −(TAIL + 2) / 2, in which a Student t density falls.
    return float(row.place_peak / (place * place * place) * max(row.size_peak / (size * size * size), row.forgiven))


@piece
def _burst(seen: Floats, row: Any) -> float:
    """How likely it is by a burst."""
    place = 1.0
    for side in range(2):
        place += (seen[side] - row.centre[side]) ** 2 * row.burst_precision[side]
    return float(row.burst_peak / (place * place * place))


@compiled(None, FLOAT_TABLE, records(EXPECTED), FLOAT32_TABLE)
def compare(observed: Floats, expected: NDArray[np.void], logits: NDArray[np.float32]) -> None:
    """Logits (n, M) of every observation (n, 4) and every track (M,)."""
    for i in range(len(observed)):
        for j in range(len(expected)):
            logits[i, j] = math.log(max(_usual(observed[i], expected[j]), _burst(observed[i], expected[j])))


@compiled(None, FLOAT_TABLE, records(EXPECTED), INT_TABLE, FLOATS32, nogil=True)
def compare_pairs(observed: Floats, expected: NDArray[np.void], pairs: Indices, logits: NDArray[np.float32]) -> None:
    """As `compare`, of pairs (2, K) of rows and columns; (K,)."""
    for k in range(len(logits)):
        seen, row = observed[pairs[0, k]], expected[pairs[1, k]]
        logits[k] = math.log(max(_usual(seen, row), _burst(seen, row)))


@compiled(None, FLOAT_TABLE, records(EXPECTED), INTS, INT, INTS, INTS, INTS, FLOATS)
def judge(
    observed: Floats,
    expected: NDArray[np.void],
    kept: Indices,
    n_kept: int,
    slots: Indices,
    rows: Indices,
    columns: Indices,
    shares: Floats,
) -> None:
    """Where the (m,) slots that were seen stand among the `n_kept` first of `kept`, and how they moved.

    Args:
        observed: (n, 4).
        expected: of what stands in `kept`.
        kept: slots, ascending.
        n_kept: how many.
        slots: (m,) each of them in `kept`.
        rows: (m,) their observations.
        columns: (m,) written: their places in `kept`.
        shares: (m,) written: how much a burst each movement is, 0 to 1.
    """
    for k in range(len(slots)):
        columns[k] = np.searchsorted(kept[:n_kept], slots[k])
        seen, row = observed[rows[k]], expected[columns[k]]
        burst = _burst(seen, row)
        shares[k] = burst / (burst + _usual(seen, row))


@compiled(INT, FLOAT_TABLE, INTS, records(EXPECTED), INT_TABLE, INTS, nogil=True)
def near_pairs(observed: Floats, by_x: Indices, expected: NDArray[np.void], pairs: Indices, places: Indices) -> int:
    """Pairs that could score above the gate, by row and then by column.

    Args:
        observed: (n, 4).
        by_x: (n,) its rows by ascending x, those that are NaN last.
        expected: (M,).
        pairs: (2, room), written where there is room for all: rows and columns.
        places: (n + 1,) scratch.

    Returns:
        how many there are.
    """
    n, m = len(by_x), len(expected)
    while n > 0 and math.isnan(observed[by_x[n - 1], 0]):
        n -= 1
    x = observed[by_x[:n], 0]
    places[:] = 0
    for filling in (False, True):
        for j in range(m):
            row = expected[j]
            usual = (row.place_peak * max(row.size_peak, 1.0) / math.exp(GATE)) ** (2.0 / (TAIL + 2.0)) - 1.0
            burst = (row.burst_peak / math.exp(GATE)) ** (2.0 / (TAIL + 2.0)) - 1.0
            reach_x = math.sqrt(max(usual / row.place_precision[0], burst / row.burst_precision[0], 0.0))
            reach_y = math.sqrt(max(usual / row.place_precision[1], burst / row.burst_precision[1], 0.0))
            for k in range(np.searchsorted(x, row.centre[0] - reach_x), n):
                if x[k] > row.centre[0] + reach_x:
                    break
                i = by_x[k]
                if abs(observed[i, 1] - row.centre[1]) <= reach_y:
                    if filling:
                        pairs[0, places[i]], pairs[1, places[i]] = i, j
                        places[i] += 1
                    else:
                        places[i + 1] += 1
        if not filling:
            for i in range(1, len(places)):
                places[i] += places[i - 1]  # where each row's pairs begin
            count = places[-1]
            if count > pairs.shape[1]:
                break
    return int(count)
