"""Predict: the expected measurements of the live tracks at one frame, and the likelihood of observations.

The likelihood is the better of two explanations. A usual movement ends near the position that the best filter predicts,
with about the track's size. A burst is a movement that no filter predicts; its spread follows from the box's sides.
Position, burst and size are each a two-dimensional Student t density with `TAIL` degrees of freedom, over the density
of a new track.

Letters: n instances, S slots, M predicted tracks, K pairs.
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
from trackd.models.motion.records import EXPECTED, STATISTICS, TIME_STEP, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

GATE = math.log(0.005)  # log odds below which a pair is far: `scorer.NEGLIGIBLE`
PRIOR = 2.0 - math.log(2 * math.pi)  # constant term of the log odds of a track over a new track
# The stream's share of new tracks shifts the log odds by NEW_TRACK_WEIGHT · log(USUAL_NEW_TRACKS / share).
NEW_TRACK_WEIGHT = 0.7
USUAL_NEW_TRACKS = 0.02
TAIL = 4.0  # degrees of freedom; fewer give heavier tails
MAX_INNOVATION_RATIO = 9.0  # bound on the factor by which a track's `innovation_ratio` widens its density
MIN_SIDE_PX = 1.0
_COUNT_AND_MODEL = types.UniTuple(types.int64, 2)


@compiled(None, GIVEN_BOXES, GIVEN_BOXES, FLOAT_TABLE)
def observe(centres: NDArray[np.float32], extents: NDArray[np.float32], observed: Floats) -> None:
    """Write the measurements (n, 4): x y, log width and height, of centres (n, 2) and boxes (n, 4)."""
    for i in range(len(centres)):
        observed[i, 0] = centres[i, 0]
        observed[i, 1] = centres[i, 1]
        observed[i, 2] = math.log(max(extents[i, 2] - extents[i, 0], MIN_SIDE_PX))
        observed[i, 3] = math.log(max(extents[i, 3] - extents[i, 1], MIN_SIDE_PX))


@piece
def _best_model(stats: Any) -> int:
    """The filter that predicts best."""
    best = 0
    for model in range(1, len(stats.log_likelihood)):
        if stats.log_likelihood[model] > stats.log_likelihood[best]:
            best = model
    return best


@piece
def _size_peak(stats: Any) -> float:
    """The highest log likelihood ratio that a size can have."""
    ratio = 1.0
    for side in range(2):
        ratio *= max(stats.size_spread[side] / stats.size_noise[side], 1.0)
    return 0.5 * math.log(ratio)


@piece
def _predict_state(track: Any, step: Any, ahead: Any) -> None:
    """The Kalman filters' prediction: advance every filter by one time step."""
    for b in range(len(track.x)):
        displacement, velocity_kept = step.displacement[b], step.velocity_kept[b]
        covariance = track.cov_xv[b] + displacement * track.var_v[b]
        ahead.var_x[b] = track.var_x[b] + displacement * (track.cov_xv[b] + covariance) + step.process_noise_x[b]
        ahead.cov_xv[b] = covariance * velocity_kept + step.process_noise_xv[b]
        ahead.x[b] = track.x[b] + displacement * track.vx[b]
        ahead.y[b] = track.y[b] + displacement * track.vy[b]
        ahead.var_v[b] = track.var_v[b] * velocity_kept * velocity_kept + step.process_noise_v[b]
        ahead.vx[b] = track.vx[b] * velocity_kept
        ahead.vy[b] = track.vy[b] * velocity_kept


@piece
def _expected_measurement(track: Any, step: Any, stats: Any, model: int, prior: float, row: Any) -> None:
    """Write the expected measurement of a predicted track; `prior` is its log odds before any evidence."""
    row.centre[0], row.centre[1] = track.x[model], track.y[model]
    row.size[0], row.size[1] = track.log_w, track.log_h
    spread = min(max(track.innovation_ratio, 1.0), MAX_INNOVATION_RATIO) * (track.var_x[model] + 1.0)
    position_x, position_y = stats.noise_x[model] * spread, stats.noise_y[model] * spread  # variances over size squared
    burst_x, burst_y = position_x + track.burst_var_x, position_y + track.burst_var_y
    scale, odds = TAIL * track.area, math.exp(prior)
    row.position_precision[0], row.position_precision[1] = 1.0 / (scale * position_x), 1.0 / (scale * position_y)
    row.position_peak = odds / math.sqrt(position_x * position_y)
    row.burst_precision[0], row.burst_precision[1] = 1.0 / (scale * burst_x), 1.0 / (scale * burst_y)
    row.burst_peak = odds * stats.bursts / math.sqrt(burst_x * burst_y)
    row.size_peak = 1.0
    for side in range(2):
        variance = stats.size_noise[side] + step.size_process_noise
        row.size_precision[side] = 1.0 / (TAIL * variance)
        row.size_peak *= math.sqrt(max(stats.size_spread[side], stats.size_noise[side]) / variance)
    row.size_floor = stats.size_outliers


@compiled(
    _COUNT_AND_MODEL, records(TRACK), INTS, FLOAT, FLOAT, records(TIME_STEP), records(STATISTICS), FLAG, INTS,
    records(TRACK), records(EXPECTED),
)  # fmt: skip
def predict(
    tracks: NDArray[np.void],
    slots: Indices,
    frame_index: float,
    quarters: float,
    time_steps: NDArray[np.void],
    statistics: NDArray[np.void],
    prune: bool,
    kept: Indices,
    predicted: NDArray[np.void],
    expected: NDArray[np.void],
) -> tuple[int, int]:
    """Predict the tracks at a frame, and their expected measurements.

    Args:
        tracks: (S,) by slot.
        slots: (M,) of the live tracks, ascending.
        frame_index: the frame's number.
        quarters: quarter steps per frame index.
        time_steps: (quarters,) from `kalman.time_steps`.
        statistics: (1,) of the stream.
        prune: leave out the tracks whose best possible logit is below the gate.
        kept: (M,) written: the slots of the predicted tracks.
        predicted: (M,) written: the tracks at the frame.
        expected: (M,) written: their expected measurements.

    Returns:
        the number of predicted tracks, and the filter that predicts best.
    """
    stats = statistics[0]
    model, size_peak = _best_model(stats), _size_peak(stats)
    base = PRIOR + NEW_TRACK_WEIGHT * math.log(USUAL_NEW_TRACKS / max(stats.new_tracks, 1e-4))
    log_noise = 0.5 * math.log(stats.noise_x[model] * stats.noise_y[model])
    count = 0
    for slot in slots:
        track = tracks[slot]
        step = time_steps[min(int((frame_index - track.last_frame) * quarters + 0.5), len(time_steps) - 1)]
        prior = base - (step.gap_penalty + step.hits_penalty / track.hits)
        if prune and max(size_peak - math.log1p(step.process_noise_x[model]) - log_noise, 0.0) + prior <= GATE:
            continue
        kept[count] = slot
        predicted[count] = track
        _predict_state(track, step, predicted[count])
        _expected_measurement(predicted[count], step, stats, model, prior, expected[count])
        count += 1
    return count, model


@piece
def _usual_likelihood(measurement: Floats, row: Any) -> float:
    """The likelihood of a measurement under a usual movement; its size counts at least `size_floor`."""
    position, size = 1.0, 1.0
    for side in range(2):
        position += (measurement[side] - row.centre[side]) ** 2 * row.position_precision[side]
        size += (measurement[2 + side] - row.size[side]) ** 2 * row.size_precision[side]
    # The power −(TAIL + 2) / 2 of a Student t density.
    return float(
        row.position_peak / (position * position * position) * max(row.size_peak / (size * size * size), row.size_floor)
    )


@piece
def _burst_likelihood(measurement: Floats, row: Any) -> float:
    """The likelihood of a measurement under a burst."""
    position = 1.0
    for side in range(2):
        position += (measurement[side] - row.centre[side]) ** 2 * row.burst_precision[side]
    return float(row.burst_peak / (position * position * position))


@compiled(None, FLOAT_TABLE, records(EXPECTED), FLOAT32_TABLE, nogil=True)
def compare(observed: Floats, expected: NDArray[np.void], logits: NDArray[np.float32]) -> None:
    """Logits (n, M) of every observation (n, 4) and every track (M,)."""
    for i in range(len(observed)):
        for j in range(len(expected)):
            logits[i, j] = math.log(
                max(_usual_likelihood(observed[i], expected[j]), _burst_likelihood(observed[i], expected[j]))
            )


@compiled(None, FLOAT_TABLE, records(EXPECTED), INT_TABLE, FLOATS32, nogil=True)
def compare_pairs(observed: Floats, expected: NDArray[np.void], pairs: Indices, logits: NDArray[np.float32]) -> None:
    """As `compare`, for pairs (2, K) of rows and columns: logits (K,)."""
    for k in range(len(logits)):
        measurement, row = observed[pairs[0, k]], expected[pairs[1, k]]
        logits[k] = math.log(max(_usual_likelihood(measurement, row), _burst_likelihood(measurement, row)))


@compiled(None, FLOAT_TABLE, records(EXPECTED), INTS, INT, INTS, INTS, INTS, FLOATS)
def locate_matches(
    observed: Floats,
    expected: NDArray[np.void],
    kept: Indices,
    n_kept: int,
    slots: Indices,
    rows: Indices,
    columns: Indices,
    bursts: Floats,
) -> None:
    """Find the columns of the (m,) matched slots among the first `n_kept` of `kept`, and their burst probabilities.

    Args:
        observed: (n, 4).
        expected: of the tracks in `kept`.
        kept: slots, ascending.
        n_kept: number of predicted tracks.
        slots: (m,) of the matched tracks, all in `kept`.
        rows: (m,) of their observations.
        columns: (m,) written: their indices in `kept`.
        bursts: (m,) written: the probability that each movement is a burst.
    """
    for k in range(len(slots)):
        columns[k] = np.searchsorted(kept[:n_kept], slots[k])
        measurement, row = observed[rows[k]], expected[columns[k]]
        burst = _burst_likelihood(measurement, row)
        bursts[k] = burst / (burst + _usual_likelihood(measurement, row))


@compiled(INT, FLOAT_TABLE, INTS, records(EXPECTED), INT_TABLE, INTS, nogil=True)
def near_pairs(observed: Floats, by_x: Indices, expected: NDArray[np.void], pairs: Indices, starts: Indices) -> int:
    """Find the pairs whose logit can be above the gate, by row and then by column.

    Args:
        observed: (n, 4).
        by_x: (n,) its rows by ascending x, NaN last.
        expected: (M,).
        pairs: (2, capacity) of rows and columns, written if all pairs fit.
        starts: (n + 1,) scratch.

    Returns:
        the number of pairs.
    """
    n, m = len(by_x), len(expected)
    while n > 0 and math.isnan(observed[by_x[n - 1], 0]):
        n -= 1
    x = observed[by_x[:n], 0]
    starts[:] = 0
    for filling in (False, True):
        for j in range(m):
            row = expected[j]
            usual = (row.position_peak * max(row.size_peak, 1.0) / math.exp(GATE)) ** (2.0 / (TAIL + 2.0)) - 1.0
            burst = (row.burst_peak / math.exp(GATE)) ** (2.0 / (TAIL + 2.0)) - 1.0
            reach_x = math.sqrt(max(usual / row.position_precision[0], burst / row.burst_precision[0], 0.0))
            reach_y = math.sqrt(max(usual / row.position_precision[1], burst / row.burst_precision[1], 0.0))
            for k in range(np.searchsorted(x, row.centre[0] - reach_x), n):
                if x[k] > row.centre[0] + reach_x:
                    break
                i = by_x[k]
                if abs(observed[i, 1] - row.centre[1]) <= reach_y:
                    if filling:
                        pairs[0, starts[i]], pairs[1, starts[i]] = i, j
                        starts[i] += 1
                    else:
                        starts[i + 1] += 1
        if not filling:
            for i in range(1, len(starts)):
                starts[i] += starts[i - 1]  # the index of each row's first pair
            count = starts[-1]
            if count > pairs.shape[1]:
                break
    return int(count)
