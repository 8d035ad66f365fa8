"""Predict: the expected measurements of the live tracks at one frame, and the likelihood of observations.

The likelihood is the better of two explanations. A usual movement ends near the position that the best filter predicts,
with about the track's size. A burst is a movement that no filter predicts; its spread follows from the box's sides.
Position, burst and size are each a two-dimensional Student t density. A logit compares the track with a birth: an
observation that belongs to no track. It is the log of

    density of the position · chance that the track is observed / (1 − that chance) / density of the births

The births per frame, the area in which they occur and the chances are learnt from the stream (update.py). A chance is
that of the track's class: few or many observations before, a short or a long gap.

A track that was often seen at one place, also after gaps, and never elsewhere, is expected there, with its own spread
and its own chance, however long its gap is. So a static false detection keeps its id, and takes none of an animal that
passes over it.

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
PRIOR = -math.log(2 * math.pi)  # of the density of a position at its centre
# A logit is the log odds less this, since a wrong match costs more than a track that begins anew. With the usual
# `overlap_thresh` of 0.01 a track is matched if it is 4 times as likely as a birth, and after a gap 1.5 times.
CAUTION, CAUTION_AFTER_GAP = 6.0, 5.0
MAX_CHANCE = 0.99
MAX_EXPLAINED = 65_536  # pairs of unmatched observations and tracks; of more observations a part is explained
MIN_ARENA_SIDES = 6.0  # least side of the births' area over the box's side
N_GAPS = 8  # as `records.N_GAPS`
USUAL_TAIL = 6.0  # degrees of freedom of a usual movement; fewer give heavier tails
TAIL = 4.0  # the same of bursts and sizes
MAX_INNOVATION_RATIO = 9.0  # bound on the factor by which a track's `innovation_ratio` widens its density
MIN_SIDE_PX = 1.0
LEAST_HOME_HITS, LEAST_HOME_RETURNS = 12.0, 3.0  # of a track that is expected at its home
MOST_HOME_SPREAD = 0.05**2  # its variance over size squared
_COUNT_AND_MODEL = types.UniTuple(types.int64, 2)
_FLOAT_PAIR = types.UniTuple(types.float64, 2)


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
def _stays(track: Any) -> bool:
    """Whether a track is expected at its home."""
    return bool(
        track.home_returns >= LEAST_HOME_RETURNS
        and track.home_hits >= LEAST_HOME_HITS
        and track.home_left == 0.0
        and track.home_spread <= MOST_HOME_SPREAD
    )


@piece
def _log_odds(track: Any, stats: Any, chance: float) -> float:
    """The log odds of a track over a birth, before any evidence but that it may be anywhere.

    The density of births is `births` over the area of all observations, in units of the box's area.
    """
    least = MIN_ARENA_SIDES * math.sqrt(track.area)
    arena = max(stats.high[0] - stats.low[0], least) * max(stats.high[1] - stats.low[1], least)
    chance = min(chance, MAX_CHANCE)
    return PRIOR + math.log(arena / (track.area * stats.births) * (chance / (1.0 - chance)))


@piece
def _expected_measurement(track: Any, step: Any, stats: Any, model: int, prior: float, row: Any) -> None:
    """Write the expected measurement of a predicted track; `prior` is its log odds before any evidence."""
    row.centre[0], row.centre[1] = track.x[model], track.y[model]
    row.size[0], row.size[1] = track.log_w, track.log_h
    spread = min(max(track.innovation_ratio, 1.0), MAX_INNOVATION_RATIO) * (track.var_x[model] + 1.0)
    position_x, position_y = stats.noise_x[model] * spread, stats.noise_y[model] * spread  # variances over size squared
    burst_x, burst_y = position_x + track.burst_var_x, position_y + track.burst_var_y
    scale, odds = USUAL_TAIL * track.area, math.exp(prior)
    row.position_precision[0], row.position_precision[1] = 1.0 / (scale * position_x), 1.0 / (scale * position_y)
    row.position_peak = odds / math.sqrt(position_x * position_y)
    scale = TAIL * track.area
    row.burst_precision[0], row.burst_precision[1] = 1.0 / (scale * burst_x), 1.0 / (scale * burst_y)
    row.burst_peak = odds * stats.bursts / math.sqrt(burst_x * burst_y)
    row.size_peak = 1.0
    for side in range(2):
        variance = stats.size_noise[side] + step.size_process_noise
        row.size_precision[side] = 1.0 / (TAIL * variance)
        row.size_peak *= math.sqrt(max(stats.size_spread[side], stats.size_noise[side]) / variance)
    row.size_floor = stats.size_outliers


@piece
def _expect_at_home(track: Any, row: Any, stats: Any, model: int, prior: float) -> None:
    """Write the expected place of a track that stays at its home.

    It is not sharper than the stream's measurement noise. A burst is a departure, which was never seen.
    """
    row.centre[0], row.centre[1] = track.home_x, track.home_y
    variance, odds = max(track.home_spread, 0.5 * (stats.noise_x[model] + stats.noise_y[model])), math.exp(prior)
    burst_x, burst_y = variance + track.burst_var_x, variance + track.burst_var_y
    row.position_precision[0] = row.position_precision[1] = 1.0 / (USUAL_TAIL * track.area * variance)
    row.position_peak = odds / variance
    row.burst_precision[0] = 1.0 / (TAIL * track.area * burst_x)
    row.burst_precision[1] = 1.0 / (TAIL * track.area * burst_y)
    row.burst_peak = odds * stats.bursts / (track.home_hits + 2.0) / math.sqrt(burst_x * burst_y)


@compiled(
    _COUNT_AND_MODEL, records(TRACK), INTS, FLOAT, FLOAT, records(TIME_STEP), records(STATISTICS), FLAG, INTS, INTS,
    records(TRACK), records(EXPECTED), FLOATS,
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
    kinds: Indices,
    predicted: NDArray[np.void],
    expected: NDArray[np.void],
    exposed: Floats,
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
        kinds: (M,) written: their classes.
        predicted: (M,) written: the tracks at the frame.
        expected: (M,) written: their expected measurements.
        exposed: (N_CLASSES,) written: the number of tracks of each class, those left out included.

    Returns:
        the number of predicted tracks, and the filter that predicts best.
    """
    stats = statistics[0]
    model, size_peak = _best_model(stats), _size_peak(stats)
    exposed[:] = 0.0
    log_noise = 0.5 * math.log(stats.noise_x[model] * stats.noise_y[model])
    count = 0
    for slot in slots:
        track = tracks[slot]
        step = time_steps[min(int((frame_index - track.last_frame) * quarters + 0.5), len(time_steps) - 1)]
        kind = (0 if track.hits < 1.5 else (1 if track.hits < 4.5 else 2)) * N_GAPS + step.gap
        exposed[kind] += 1.0
        stays = _stays(track)
        chance = stats.returns[kind] / stats.exposures[kind]
        if stays:
            chance = (track.home_hits + 1.0) / (track.home_steps + 2.0)
        prior = _log_odds(track, stats, chance) - (CAUTION_AFTER_GAP if step.gap and not stays else CAUTION)
        if (
            prune
            and not stays
            and max(size_peak - math.log1p(step.process_noise_x[model]) - log_noise, 0.0) + prior <= GATE
        ):
            continue
        kept[count], kinds[count] = slot, kind
        predicted[count] = track
        _predict_state(track, step, predicted[count])
        _expected_measurement(predicted[count], step, stats, model, prior, expected[count])
        if stays:
            _expect_at_home(predicted[count], expected[count], stats, model, prior)
        count += 1
    return count, model


@piece
def _usual_likelihood(measurement: Floats, row: Any) -> float:
    """The likelihood of a measurement under a usual movement; its size counts at least `size_floor`."""
    position, size = 1.0, 1.0
    for side in range(2):
        position += (measurement[side] - row.centre[side]) ** 2 * row.position_precision[side]
        size += (measurement[2 + side] - row.size[side]) ** 2 * row.size_precision[side]
    # The powers −(degrees of freedom + 2) / 2 of Student t densities.
    position *= position
    return float(row.position_peak / (position * position) * max(row.size_peak / (size * size * size), row.size_floor))


@piece
def _burst_likelihood(measurement: Floats, row: Any) -> float:
    """The likelihood of a measurement under a burst."""
    position = 1.0
    for side in range(2):
        position += (measurement[side] - row.centre[side]) ** 2 * row.burst_precision[side]
    return float(row.burst_peak / (position * position * position))


@piece
def _compare(observed: Floats, expected: NDArray[np.void], logits: NDArray[np.float32]) -> None:
    for i in range(len(observed)):
        for j in range(len(expected)):
            logits[i, j] = math.log(
                max(_usual_likelihood(observed[i], expected[j]), _burst_likelihood(observed[i], expected[j]))
            )


@compiled(None, FLOAT_TABLE, records(EXPECTED), FLOAT32_TABLE)
def compare(observed: Floats, expected: NDArray[np.void], logits: NDArray[np.float32]) -> None:
    """Logits (n, M) of every observation (n, 4) and every track (M,)."""
    _compare(observed, expected, logits)


@compiled(None, FLOAT_TABLE, records(EXPECTED), FLOAT32_TABLE, nogil=True)
def compare_many(observed: Floats, expected: NDArray[np.void], logits: NDArray[np.float32]) -> None:
    """As `compare`, for a table that takes milliseconds: other threads run meanwhile."""
    _compare(observed, expected, logits)


@compiled(None, FLOAT_TABLE, records(EXPECTED), INT_TABLE, FLOATS32, nogil=True)
def compare_pairs(observed: Floats, expected: NDArray[np.void], pairs: Indices, logits: NDArray[np.float32]) -> None:
    """As `compare`, for pairs (2, K) of rows and columns: logits (K,)."""
    for k in range(len(logits)):
        measurement, row = observed[pairs[0, k]], expected[pairs[1, k]]
        logits[k] = math.log(max(_usual_likelihood(measurement, row), _burst_likelihood(measurement, row)))


@compiled(
    _FLOAT_PAIR, FLOAT_TABLE, records(EXPECTED), INTS, INTS, INT, INTS, INTS, INTS, FLOATS, FLOATS, FLOATS
)  # fmt: skip
def explain(
    observed: Floats,
    expected: NDArray[np.void],
    kept: Indices,
    kinds: Indices,
    n_kept: int,
    slots: Indices,
    rows: Indices,
    columns: Indices,
    bursts: Floats,
    returned: Floats,
    unowned: Floats,
) -> tuple[float, float]:
    """Explain the observations of a frame: each belongs to a track, or is a birth.

    A matched one belongs to its track or is a birth; another one may belong to each track that is not matched. The
    shares are the probabilities at the odds of now (the E step of an expectation-maximization). So a movement that was
    out of reach counts as a movement, as far as it is likelier than a birth, and not as evidence for births.

    Args:
        observed: (n, 4).
        expected: of the tracks in `kept`.
        kept: slots, ascending.
        kinds: their classes.
        n_kept: number of predicted tracks.
        slots: (m,) of the matched tracks, all in `kept`.
        rows: (≥ m,) their observations, and behind them those that have no track.
        columns: (m,) written: the indices of the matched tracks in `kept`.
        bursts: (m,) written: the probability that each movement is a burst.
        returned: (N_CLASSES,) written: the expected number of tracks of each class that are observed.
        unowned: written, of each of the `rows`: its chance of being a birth; NaN where it was not computed.

    Returns:
        the expected numbers of births, and of movements between this frame and the one before that found no match.
    """
    factor, factor_after_gap = math.exp(CAUTION), math.exp(CAUTION_AFTER_GAP)
    free = np.ones(n_kept, np.bool_)
    odds, taken = np.zeros(n_kept), np.zeros(n_kept)
    returned[:] = 0.0
    births, missed = 0.0, 0.0
    for k in range(len(slots)):
        j = columns[k] = np.searchsorted(kept[:n_kept], slots[k])
        measurement, row = observed[rows[k]], expected[j]
        burst, usual = _burst_likelihood(measurement, row), _usual_likelihood(measurement, row)
        bursts[k] = burst / (burst + usual)
        birth = 1.0 / (1.0 + max(usual, burst) * (factor_after_gap if kinds[j] % N_GAPS else factor))
        unowned[k] = birth
        births += birth
        returned[kinds[j]] += 1.0 - birth
        free[j] = False
    unmatched = len(rows) - len(slots)
    explained = min(unmatched, max(MAX_EXPLAINED // max(n_kept, 1), 1))
    scale = unmatched / max(explained, 1)
    unowned[len(slots) + explained : len(rows)] = math.nan
    for k in range(len(slots), len(slots) + explained):
        measurement = observed[rows[k]]
        total = 1.0
        for j in range(n_kept):
            if free[j]:
                row = expected[j]
                likelihood = max(_usual_likelihood(measurement, row), _burst_likelihood(measurement, row))
                odds[j] = likelihood * (factor_after_gap if kinds[j] % N_GAPS else factor)
                total += odds[j]
        unowned[k] = 1.0 / total
        births += scale / total
        for j in range(n_kept):
            if free[j]:
                taken[j] += scale * odds[j] / total
    for j in range(n_kept):
        share = min(taken[j], 1.0)
        returned[kinds[j]] += share
        if kinds[j] % N_GAPS == 0:
            missed += share
    return births, missed


@compiled(None, FLOAT_TABLE, records(EXPECTED), INTS, records(STATISTICS), INTS, INTS, FLOATS)
def rate_jumps(
    observed: Floats,
    expected: NDArray[np.void],
    kept: Indices,
    statistics: NDArray[np.void],
    slots: Indices,
    rows: Indices,
    ratios: Floats,
) -> None:
    """Write how much likelier movements are if they are certainly bursts, at least 1.

    Args:
        observed: (n, 4).
        expected: (M,) of the tracks in `kept`.
        kept: (M,) slots, ascending.
        statistics: (1,) of the stream.
        slots: (k,) of the tracks; one that is not in `kept` is left out.
        rows: (k,) their observations, or −1.
        ratios: (k,) written, where there is a row.
    """
    bursts = statistics[0].bursts
    for k in range(len(slots)):
        j = np.searchsorted(kept, slots[k])
        if rows[k] < 0 or j == len(kept) or kept[j] != slots[k]:
            continue
        measurement, row = observed[rows[k]], expected[j]
        burst, usual = _burst_likelihood(measurement, row), _usual_likelihood(measurement, row)
        ratios[k] = max(burst / (bursts * max(usual, burst)), 1.0)


@compiled(INT, FLOAT_TABLE, INTS, records(EXPECTED), INT_TABLE, INTS, INT, nogil=True)
def near_pairs(
    observed: Floats, by_x: Indices, expected: NDArray[np.void], pairs: Indices, starts: Indices, most: int
) -> int:
    """Find the pairs whose logit can be above the gate, by row and then by column.

    Args:
        observed: (n, 4).
        by_x: (n,) its rows by ascending x, NaN last.
        expected: (M,).
        pairs: (2, capacity) of rows and columns, written if all pairs fit.
        starts: (n + 1,) scratch.
        most: more pairs are not counted to the end.

    Returns:
        the number of pairs, or a number above `most`.
    """
    n, m = len(by_x), len(expected)
    while n > 0 and math.isnan(observed[by_x[n - 1], 0]):
        n -= 1
    x, y = observed[by_x[:n], 0], observed[by_x[:n], 1]
    capacity = pairs.shape[1]
    found = np.empty((2, capacity), np.int64)  # by column and then by x
    starts[:] = 0
    count = 0
    for j in range(m):
        row = expected[j]
        usual = (row.position_peak * max(row.size_peak, 1.0) / math.exp(GATE)) ** (2.0 / (USUAL_TAIL + 2.0)) - 1.0
        burst = (row.burst_peak / math.exp(GATE)) ** (2.0 / (TAIL + 2.0)) - 1.0
        reach_x = math.sqrt(max(usual / row.position_precision[0], burst / row.burst_precision[0], 0.0))
        reach_y = math.sqrt(max(usual / row.position_precision[1], burst / row.burst_precision[1], 0.0))
        right, middle = row.centre[0] + reach_x, row.centre[1]
        for k in range(np.searchsorted(x, row.centre[0] - reach_x), n):
            if x[k] > right:
                break
            if abs(y[k] - middle) <= reach_y:
                if count < capacity:
                    found[0, count], found[1, count] = by_x[k], j
                starts[by_x[k] + 1] += 1
                count += 1
        if count > most:
            return count
    if count > capacity:
        return count
    for i in range(1, len(starts)):
        starts[i] += starts[i - 1]  # the index of each row's first pair
    for k in range(count):
        i = found[0, k]
        pairs[0, starts[i]], pairs[1, starts[i]] = i, found[1, k]
        starts[i] += 1
    return count
