"""Update: correct the tracks by their matched observations, and update the stream's statistics.

Every statistic is a running mean with a bounded memory: it moves towards each frame's mean by the frame's share of the
observations remembered.

Births, and the chances that a track of a class is observed, are expected numbers (`predict.explain`): that an
observation begins a track is no evidence that it belongs to none.

Either objects come, and then births are a Poisson process with an unknown rate, or the stream is closed, and they are
errors. The chance of the one and of the other follows from the births after the first frames, in which detectors often
miss some, and the births that are expected are the mean over both. So a stream of animals in an arena is known as
closed long before a rate of births could be estimated to be that low.

A track's home is the place that it has not left, if it has one: a static false detection, such as a reflection, never
leaves it, also after a gap of any length. Predict.py uses it for a track that has been there often enough.

Letters: n instances, S slots, M predicted tracks, m of them matched.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT_TABLE, FLOATS, INT, INTS, compiled, piece, records
from trackd.models.motion.records import STATISTICS, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

FIRST_MODEL = 2  # the filter that predicts before the first statistics
FIRST_NOISE = 0.06  # std of the measurement noise over the size, before the first update
FIRST_VELOCITY = 0.15  # std of a new track's velocity over the size, per step
FIRST_SIZE_NOISE = 0.1  # std of a log size about its track's own
FIRST_SPREAD = 0.2  # std of the stream's log sizes about their mean
FIRST_SIZE_OUTLIERS = 0.05  # share of sizes unrelated to their track's: wings spread, half hidden
FIRST_BURSTS = 0.2  # share of movements that no filter predicts
FIRST_BIRTHS = 0.03  # per frame, for each observation of the first frame
# The chance that a track is observed, by the class of its gap; and the factors for tracks with 1, 2 to 4, more hits.
FIRST_CHANCES = (0.95, 0.3, 0.2, 0.12, 0.07, 0.04, 0.02, 0.01)
FIRST_FACTORS = (0.5, 0.8, 1.0)
FIRST_EXPOSURES, EXPOSURES_MEMORY = 20.0, 2000.0  # of each class
FIRST_FRAMES, FRAMES_MEMORY = 10.0, 500.0
MIN_BIRTHS = 1e-4
START_FRAMES = 3.0  # whose births say nothing about later ones
CLOSED_BIRTHS = 1e-3  # errors per frame of a closed stream that look like births
FIRST_WEIGHT, MEMORY = 20.0, 600.0  # observations that the initial statistics count as, and the most remembered
FIRST_SHARES_WEIGHT, SHARES_MEMORY = 50.0, 1000.0  # the same for `bursts`
MIN_SHARE, MAX_SHARE = 0.002, 0.3  # bounds on the shares of size outliers and of bursts
MIN_NOISE, MIN_SIZE_NOISE = 1e-8, 0.01**2

MOTION_TAIL = 6.0  # degrees of freedom of the Student t of the innovations: fewer give a heavier tail
SIZE_TAIL = 4.0  # the same of the sizes
MAX_NOISE_RATIO = 4.0  # of a frame's noise over the running one: bounds the effect of a single frame
MAX_VELOCITY_SQUARED = 8.0  # bound on one velocity's contribution, in squared sizes per squared step
INNOVATION_GAIN = 0.2  # weight of a new value in a track's `innovation_ratio`
SIZE_GAIN = 0.2  # least weight of a new observation in the track's size
FIRST_HOME_SPREAD, MIN_HOME_SPREAD = 0.03**2, 0.015**2
HOME_DEVIATIONS_SQUARED = 50.0  # a squared distance from home over its spread: from here on a track is elsewhere,
HOME_REACH_SQUARED = 0.25**2  # or from this one on, in squared sizes
HOME_MEMORY = 100.0  # steps
MOVED = -1e9  # `home_returns` of a track that has left its home
GAP_STEPS = 1.5  # a longer time between two observations is a gap
BURST = 0.4  # std of a burst over the box's sides


def initial_statistics() -> NDArray[np.void]:
    """(1,) `STATISTICS` of a stream without observations."""
    stats = np.zeros(1, STATISTICS)
    stats["noise_x"] = stats["noise_y"] = FIRST_NOISE**2
    stats["log_likelihood"][0, FIRST_MODEL] = 1e-3
    stats["velocity_var"] = FIRST_VELOCITY**2
    stats["size_noise"] = FIRST_SIZE_NOISE**2
    stats["size_mean"] = np.nan
    stats["size_spread"] = FIRST_SPREAD**2
    stats["size_outliers"], stats["bursts"], stats["births"] = FIRST_SIZE_OUTLIERS, FIRST_BURSTS, FIRST_BIRTHS
    stats["weight"], stats["shares_weight"], stats["frames"] = FIRST_WEIGHT, FIRST_SHARES_WEIGHT, FIRST_FRAMES
    stats["first_births"] = stats["open_births"] = FIRST_BIRTHS
    stats["settled_frames"] = -START_FRAMES
    stats["low"], stats["high"] = np.inf, -np.inf
    stats["exposures"] = FIRST_EXPOSURES
    stats["returns"] = FIRST_EXPOSURES * np.outer(FIRST_FACTORS, FIRST_CHANCES).ravel()
    return stats


@piece
def _count_births(stats: Any, births: float) -> None:
    """Update the births per frame, and the chance that the stream is closed.

    The evidence is the likelihood of B births in T frames: the mean of that of a Poisson process over an exponential
    prior on its rate, whose mean is 1 / r, is Γ(B + 1) r / (T + r)^(B + 1); that of a closed stream has a known rate.
    Both are equally likely before. A factor that both have is left out.
    """
    stats.frames = min(stats.frames + 1.0, FRAMES_MEMORY)
    stats.open_births += (births - stats.open_births) / stats.frames
    if stats.settled_frames >= 0.0:
        stats.settled_births += births
    stats.settled_frames += 1.0
    if stats.settled_frames > FRAMES_MEMORY:
        stats.settled_births *= FRAMES_MEMORY / stats.settled_frames
        stats.settled_frames = FRAMES_MEMORY
    count, frames, rate = stats.settled_births, max(stats.settled_frames, 0.0), 1.0 / stats.first_births
    log_open = math.lgamma(count + 1.0) + math.log(rate) - (count + 1.0) * math.log(frames + rate)
    log_closed = count * math.log(CLOSED_BIRTHS) - CLOSED_BIRTHS * frames
    stats.closed = 1.0 / (1.0 + math.exp(min(log_open - log_closed, 700.0)))
    stats.births = max((1.0 - stats.closed) * stats.open_births, MIN_BIRTHS)


@piece
def _widen(stats: Any, measurement: Floats) -> None:
    """Widen the area of the observations by one."""
    for side in range(2):
        stats.low[side] = min(stats.low[side], measurement[side])
        stats.high[side] = max(stats.high[side], measurement[side])


@piece
def _count_returns(stats: Any, exposed: Floats, returned: Floats) -> None:
    """Add a frame to the exposures and returns of each class; the oldest ones are forgotten."""
    for kind in range(len(exposed)):
        before = stats.exposures[kind]
        kept = min(max(EXPOSURES_MEMORY - exposed[kind], 0.0) / before, 1.0)
        stats.exposures[kind] = before * kept + exposed[kind]
        stats.returns[kind] = stats.returns[kind] * kept + min(returned[kind], exposed[kind])


@piece
def _update_size_terms(track: Any) -> None:
    """Compute the fields of a track that follow from its log width and height."""
    width, height = math.exp(track.log_w), math.exp(track.log_h)
    track.area = width * height
    track.burst_var_x = BURST**2 * width / height
    track.burst_var_y = BURST**2 * height / width


@piece
def _update_motion(track: Any, measurement: Floats, stats: Any, model: int, sums: Any) -> None:
    """Update a predicted track's filters with a measurement, and add its innovations to `sums`."""
    ratio_of_model = 0.0
    for b in range(len(track.x)):
        total = track.var_x[b] + 1.0
        innovation_x, innovation_y = measurement[0] - track.x[b], measurement[1] - track.y[b]
        gain, gain_v = track.var_x[b] / total, track.cov_xv[b] / total
        track.var_v[b] -= track.cov_xv[b] * gain_v
        track.var_x[b], track.cov_xv[b] = gain, gain_v
        track.x[b] += gain * innovation_x
        track.y[b] += gain * innovation_y
        track.vx[b] += gain_v * innovation_x
        track.vy[b] += gain_v * innovation_y
        # Squared innovations over their variance: 1 on average if the filter fits.
        ratio_x = innovation_x * innovation_x / (track.area * stats.noise_x[b] * total)
        ratio_y = innovation_y * innovation_y / (track.area * stats.noise_y[b] * total)
        if b == model:
            ratio_of_model = 0.5 * (ratio_x + ratio_y)
        tailed = ratio_x + ratio_y + MOTION_TAIL
        sums.noise_x[b] += ratio_x / tailed
        sums.noise_y[b] += ratio_y / tailed
        sums.log_likelihood[b] -= (MOTION_TAIL / 2 + 1) * math.log(tailed) + math.log(total)
    velocity_var = (track.vx[model] ** 2 + track.vy[model] ** 2) / track.area
    sums.velocity_var += min(velocity_var, MAX_VELOCITY_SQUARED)
    track.innovation_ratio += INNOVATION_GAIN * (ratio_of_model - track.innovation_ratio)


@piece
def _update_size(track: Any, measurement: Floats, stats: Any, sums: Any) -> None:
    """Update a track's size with a measurement, which `hits` counts already, and add it to `sums`."""
    innovation_w, innovation_h = measurement[2] - track.log_w, measurement[3] - track.log_h
    gain = max(1.0 / track.hits, SIZE_GAIN)
    track.log_w += gain * innovation_w
    track.log_h += gain * innovation_h
    _update_size_terms(track)
    tailed, peak = 1.0, 1.0
    for side in range(2):
        innovation = innovation_w if side == 0 else innovation_h
        ratio = innovation * innovation / stats.size_noise[side]
        tailed += ratio / SIZE_TAIL
        peak *= max(stats.size_spread[side] / stats.size_noise[side], 1.0)
        sums.size_noise[side] += innovation * innovation / (ratio + SIZE_TAIL)
        sums.size_mean[side] += measurement[2 + side]
        sums.size_spread[side] += (measurement[2 + side] - stats.size_mean[side]) ** 2
    usual = math.sqrt(peak) / tailed ** (SIZE_TAIL / 2 + 1)
    sums.size_outliers += stats.size_outliers / (stats.size_outliers + usual)


@piece
def _update_statistics(stats: Any, sums: Any, count: int, missed: float) -> None:
    """Move the running means towards those of a frame; `sums` is over its `count` matched tracks.

    The noise of positions and of sizes is the maximum-likelihood scale of a Student t, in which outliers count little.
    """
    stats.weight = min(stats.weight + count, MEMORY)
    stats.shares_weight = min(stats.shares_weight + count, SHARES_MEMORY)
    rate, share = min(count / stats.weight, 0.5), count / stats.shares_weight
    for b in range(len(stats.log_likelihood)):
        log_likelihood = sums.log_likelihood[b] / count - 0.5 * math.log(stats.noise_x[b] * stats.noise_y[b])
        stats.log_likelihood[b] += rate * (log_likelihood - stats.log_likelihood[b])
        noise_ratio_x = min((MOTION_TAIL + 2.0) * sums.noise_x[b] / count, MAX_NOISE_RATIO)
        noise_ratio_y = min((MOTION_TAIL + 2.0) * sums.noise_y[b] / count, MAX_NOISE_RATIO)
        stats.noise_x[b] = max(stats.noise_x[b] * (1.0 + rate * (noise_ratio_x - 1.0)), MIN_NOISE)
        stats.noise_y[b] = max(stats.noise_y[b] * (1.0 + rate * (noise_ratio_y - 1.0)), MIN_NOISE)
    stats.velocity_var += rate * (0.5 * sums.velocity_var / count - stats.velocity_var)
    for side in range(2):
        noise = (SIZE_TAIL + 1.0) * sums.size_noise[side] / count
        noise = stats.size_noise[side] + rate * (noise - stats.size_noise[side])
        stats.size_noise[side] = max(noise, MIN_SIZE_NOISE)
        stats.size_mean[side] += rate * (sums.size_mean[side] / count - stats.size_mean[side])
        stats.size_spread[side] += rate * (sums.size_spread[side] / count - stats.size_spread[side])
    stats.size_outliers += rate * (sums.size_outliers / count - stats.size_outliers)
    stats.size_outliers = min(max(stats.size_outliers, MIN_SHARE), MAX_SHARE)
    stats.bursts += share * ((sums.bursts + missed) / (count + missed) - stats.bursts)
    stats.bursts = min(max(stats.bursts, MIN_SHARE), MAX_SHARE)


@piece
def _move_home(track: Any, measurement: Floats) -> None:
    """Let a track's home begin at a measurement."""
    track.home_x, track.home_y, track.home_spread = measurement[0], measurement[1], FIRST_HOME_SPREAD
    track.home_hits = track.home_steps = 1.0
    track.home_returns = track.home_left = 0.0


@piece
def _update_home(track: Any, measurement: Floats, steps: float) -> None:
    """Update a track's home with a measurement, the given number of steps after the one before.

    One measurement elsewhere is an exception, two in a row are a movement.
    """
    deviation_x, deviation_y = measurement[0] - track.home_x, measurement[1] - track.home_y
    squared = (deviation_x * deviation_x + deviation_y * deviation_y) / track.area
    limit = HOME_DEVIATIONS_SQUARED * max(track.home_spread, MIN_HOME_SPREAD)
    if track.home_hits < 1.0 or (squared > min(limit, HOME_REACH_SQUARED) and track.home_left > 0.0):
        _move_home(track, measurement)
        track.home_returns = MOVED
        return
    track.home_steps += steps
    track.home_left = 1.0 if squared > min(limit, HOME_REACH_SQUARED) else 0.0
    if track.home_left == 0.0:
        track.home_hits += 1.0
        track.home_x += deviation_x / track.home_hits
        track.home_y += deviation_y / track.home_hits
        track.home_spread += (0.5 * squared - track.home_spread) / track.home_hits
        if steps > GAP_STEPS:
            track.home_returns += 1.0
    if track.home_steps > HOME_MEMORY:
        track.home_hits *= HOME_MEMORY / track.home_steps
        track.home_steps = HOME_MEMORY


@compiled(
    FLOAT, records(TRACK), records(STATISTICS), INT, records(TRACK), FLOAT_TABLE, INTS, INTS, INTS, FLOATS, FLOAT,
    FLOAT, FLOATS, FLOATS, FLOAT, FLOAT, records(STATISTICS),
)  # fmt: skip
def update(
    tracks: NDArray[np.void],
    statistics: NDArray[np.void],
    model: int,
    predicted: NDArray[np.void],
    observed: Floats,
    slots: Indices,
    rows: Indices,
    columns: Indices,
    bursts: Floats,
    births: float,
    missed: float,
    exposed: Floats,
    returned: Floats,
    frame_index: float,
    indices_per_step: float,
    scratch: NDArray[np.void],
) -> float:
    """Update the matched tracks, and the stream's statistics.

    Args:
        tracks: (S,), written.
        statistics: (1,) of the stream, written.
        model: the filter that predicts best.
        predicted: (M,) the tracks at the frame.
        observed: (n, 4) x y, log width and height.
        slots: (m,) of the matched tracks.
        rows: (≥ m,) of their observations.
        columns: (m,) their indices in `predicted`.
        bursts: (m,) the probability that each movement is a burst.
        births: the expected number of observations that belong to no track.
        missed: the expected number of movements that found no match.
        exposed: (N_CLASSES,) the number of tracks of each class.
        returned: (N_CLASSES,) the expected number of those that are observed.
        frame_index: the frame's number.
        indices_per_step: frame indices per time step.
        scratch: (1,) overwritten.

    Returns:
        the chance that the stream is closed.
    """
    stats, sums = statistics[0], scratch[0]
    _count_births(stats, births)
    _count_returns(stats, exposed, returned)
    if len(slots) == 0:
        return float(stats.closed)
    for b in range(len(stats.log_likelihood)):
        sums.noise_x[b] = sums.noise_y[b] = sums.log_likelihood[b] = 0.0
    sums.velocity_var = sums.size_outliers = sums.bursts = 0.0
    for side in range(2):
        sums.size_noise[side] = sums.size_mean[side] = sums.size_spread[side] = 0.0
    for k in range(len(slots)):
        tracks[slots[k]] = predicted[columns[k]]
        track, measurement = tracks[slots[k]], observed[rows[k]]
        _update_home(track, measurement, (frame_index - track.last_frame) / indices_per_step)
        track.last_frame = frame_index
        track.hits += 1.0
        _widen(stats, measurement)
        sums.bursts += bursts[k]
        _update_motion(track, measurement, stats, model, sums)
        _update_size(track, measurement, stats, sums)
    _update_statistics(stats, sums, len(slots), missed)
    return float(stats.closed)


@compiled(None, records(TRACK), records(STATISTICS), INTS, FLOAT_TABLE, INTS, FLOAT)
def begin(
    tracks: NDArray[np.void],
    statistics: NDArray[np.void],
    slots: Indices,
    observed: Floats,
    rows: Indices,
    frame_index: float,
) -> None:
    """Begin tracks in (m,) slots, with velocity 0 and the observations in (m,) rows; arguments as of `update`."""
    stats = statistics[0]
    if math.isnan(stats.size_mean[0]):
        stats.births = stats.open_births = stats.first_births = FIRST_BIRTHS * len(slots)
        for side in range(2):
            stats.size_mean[side] = 0.0
            for row in rows:
                stats.size_mean[side] += observed[row, 2 + side] / len(rows)
    for k in range(len(slots)):
        track, measurement = tracks[slots[k]], observed[rows[k]]
        _widen(stats, measurement)
        for b in range(len(track.x)):
            track.var_x[b], track.cov_xv[b] = 1.0, 0.0
            track.x[b], track.y[b] = measurement[0], measurement[1]
            track.var_v[b] = 2.0 * stats.velocity_var / (stats.noise_x[b] + stats.noise_y[b])
            track.vx[b] = track.vy[b] = 0.0
        track.log_w, track.log_h = measurement[2], measurement[3]
        track.last_frame, track.hits, track.innovation_ratio = frame_index, 1.0, 1.0
        _move_home(track, measurement)
        _update_size_terms(track)
