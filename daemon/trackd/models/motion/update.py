"""What matched observations say: of their tracks, and of how the stream's things move and how large they are.

Every mean over a stream is a running one: it remembers so many observations, and moves towards each frame's by its
share.

Letters: n instances, S slots, M tracks that were expected, m of them seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT_TABLE, FLOATS, INT, INTS, compiled, piece, records
from trackd.models.motion.records import LEARNT, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

FIRST_MODEL = 2
FIRST_NOISE = 0.06  # std of the measurement noise over the size, before anything is learnt
FIRST_SPEED = 0.15  # std of a new track's velocity over the size, per step
FIRST_SIZE_NOISE = 0.1  # std of a log size about its track's
FIRST_SPREAD = 0.2  # std of the stream's log sizes about their mean
FIRST_STRANGE = 0.05  # share of observations whose size says nothing about their track: wings spread, half hidden
FIRST_BURSTS = 0.2  # share of movements that no filter expects
FIRST_STRANGERS = 0.02  # share of instances that begin a track
FIRST_WEIGHT, MEMORY = 20.0, 600.0  # observations behind the first guesses, and behind any
FIRST_SHARES_WEIGHT, SHARES_MEMORY = 50.0, 1000.0  # the same for bursts and strangers
RARE, OFTEN = 0.002, 0.3  # bounds on the shares of strange sizes and of bursts
LEAST_NOISE, LEAST_SIZE_NOISE = 1e-8, 0.01**2

MOTION_TAIL = 6.0  # degrees of freedom of the Student t of the innovations: smaller is a heavier tail
SIZE_TAIL = 4.0
MOST_MISFIT = 4.0  # of a frame's noise over the noise known, so that no single frame upsets it
FASTEST = 8.0  # squared sizes per step squared that a velocity teaches at most
RESTLESS_GAIN = 0.2  # of a track's running misfit
SIZE_GAIN = 0.2  # weight of a new observation in the track's size, at least
BURST = 0.4  # std, over the box's sides, of a movement that no filter expects


def first_guesses() -> NDArray[np.void]:
    """(1,) `LEARNT`, before anything is learnt."""
    known = np.zeros(1, LEARNT)
    known["noise_x"] = known["noise_y"] = FIRST_NOISE**2
    known["evidence"][0, FIRST_MODEL] = 1e-3
    known["speed"] = FIRST_SPEED**2
    known["size_noise"] = FIRST_SIZE_NOISE**2
    known["size_mean"] = np.nan
    known["size_spread"] = FIRST_SPREAD**2
    known["strange"], known["bursts"], known["strangers"] = FIRST_STRANGE, FIRST_BURSTS, FIRST_STRANGERS
    known["weight"], known["shares_weight"] = FIRST_WEIGHT, FIRST_SHARES_WEIGHT
    return known


@piece
def _count_strangers(known: Any, n_new: int, n_seen: int) -> None:
    """Take note of how many instances began a track although others were there to be."""
    count = n_new + n_seen
    if count > 0:
        weight = min(known.shares_weight + count, SHARES_MEMORY)
        known.strangers += (n_new - count * known.strangers) / weight


@piece
def _measure(track: Any) -> None:
    """Bring what follows from a track's size up to date."""
    width, height = math.exp(track.log_w), math.exp(track.log_h)
    track.area = width * height
    track.reach_x = BURST**2 * width / height
    track.reach_y = BURST**2 * height / width


@piece
def _correct_motion(track: Any, seen: Floats, known: Any, model: int, sums: Any) -> None:
    """Correct a predicted track's filters, and add what the observation says of the noise."""
    own = 0.0
    for b in range(len(track.x)):
        total = track.var_x[b] + 1.0
        off_x, off_y = seen[0] - track.x[b], seen[1] - track.y[b]
        gain, swing = track.var_x[b] / total, track.cov_xv[b] / total
        track.var_v[b] -= track.cov_xv[b] * swing
        track.var_x[b], track.cov_xv[b] = gain, swing
        track.x[b] += gain * off_x
        track.y[b] += gain * off_y
        track.vx[b] += swing * off_x
        track.vy[b] += swing * off_y
        fit_x = off_x * off_x / (track.area * known.noise_x[b] * total)  # 1 on average where the filter fits
        fit_y = off_y * off_y / (track.area * known.noise_y[b] * total)
        if b == model:
            own = 0.5 * (fit_x + fit_y)
        tailed = fit_x + fit_y + MOTION_TAIL
        sums.noise_x[b] += fit_x / tailed
        sums.noise_y[b] += fit_y / tailed
        sums.evidence[b] -= (MOTION_TAIL / 2 + 1) * math.log(tailed) + math.log(total)
    speed = (track.vx[model] ** 2 + track.vy[model] ** 2) / track.area
    sums.speed += min(speed, FASTEST)
    track.restless += RESTLESS_GAIN * (own - track.restless)


@piece
def _correct_size(track: Any, seen: Floats, known: Any, sums: Any) -> None:
    """Correct a track's size, `hits` with this observation, and add what it says of the stream's sizes."""
    off_w, off_h = seen[2] - track.log_w, seen[3] - track.log_h
    gain = max(1.0 / track.hits, SIZE_GAIN)
    track.log_w += gain * off_w
    track.log_h += gain * off_h
    _measure(track)
    tailed, peak = 1.0, 1.0
    for side in range(2):
        off = off_w if side == 0 else off_h
        ratio = off * off / known.size_noise[side]
        tailed += ratio / SIZE_TAIL
        peak *= max(known.size_spread[side] / known.size_noise[side], 1.0)
        sums.size_noise[side] += off * off / (ratio + SIZE_TAIL)
        sums.size_mean[side] += seen[2 + side]
        sums.size_spread[side] += (seen[2 + side] - known.size_mean[side]) ** 2
    usual = math.sqrt(peak) / tailed ** (SIZE_TAIL / 2 + 1)
    sums.strange += known.strange / (known.strange + usual)


@piece
def _learn(known: Any, sums: Any, count: int) -> None:
    """Move the running means towards a frame's, whose `sums` are over `count` tracks.

    The noise, of places as of sizes, follows the maximum-likelihood scale of a Student t, in which far-off
    observations count little.
    """
    known.weight = min(known.weight + count, MEMORY)
    known.shares_weight = min(known.shares_weight + count, SHARES_MEMORY)
    rate, share = min(count / known.weight, 0.5), count / known.shares_weight
    for b in range(len(known.evidence)):
        evidence = sums.evidence[b] / count - 0.5 * math.log(known.noise_x[b] * known.noise_y[b])
        known.evidence[b] += rate * (evidence - known.evidence[b])
        misfit_x = min((MOTION_TAIL + 2.0) * sums.noise_x[b] / count, MOST_MISFIT)
        misfit_y = min((MOTION_TAIL + 2.0) * sums.noise_y[b] / count, MOST_MISFIT)
        known.noise_x[b] = max(known.noise_x[b] * (1.0 + rate * (misfit_x - 1.0)), LEAST_NOISE)
        known.noise_y[b] = max(known.noise_y[b] * (1.0 + rate * (misfit_y - 1.0)), LEAST_NOISE)
    known.speed += rate * (0.5 * sums.speed / count - known.speed)
    for side in range(2):
        noise = (SIZE_TAIL + 1.0) * sums.size_noise[side] / count
        noise = known.size_noise[side] + rate * (noise - known.size_noise[side])
        known.size_noise[side] = max(noise, LEAST_SIZE_NOISE)
        known.size_mean[side] += rate * (sums.size_mean[side] / count - known.size_mean[side])
        known.size_spread[side] += rate * (sums.size_spread[side] / count - known.size_spread[side])
    known.strange += rate * (sums.strange / count - known.strange)
    known.strange = min(max(known.strange, RARE), OFTEN)
    known.bursts += share * (sums.bursts / count - known.bursts)
    known.bursts = min(max(known.bursts, RARE), OFTEN)


@compiled(
    None, records(TRACK), records(LEARNT), INT, records(TRACK), FLOAT_TABLE, INTS, INTS, INTS, FLOATS, INT, FLOAT,
    records(LEARNT),
)  # fmt: skip
def correct(
    tracks: NDArray[np.void],
    learnt: NDArray[np.void],
    model: int,
    predicted: NDArray[np.void],
    observed: Floats,
    slots: Indices,
    rows: Indices,
    columns: Indices,
    bursts: Floats,
    n_new: int,
    frame_index: float,
    scratch: NDArray[np.void],
) -> None:
    """Bring the tracks that were seen up to date, and learn from them.

    Args:
        tracks: (S,), written.
        learnt: (1,) what the stream has taught, written.
        model: the filter that predicts best.
        predicted: (M,) the tracks at the frame.
        observed: (n, 4) x y, log width and height.
        slots: (m,) the tracks that were seen;
        rows: (m,) their observations,
        columns: (m,) their places in `predicted`,
        bursts: (m,) and how much a burst each movement is.
        n_new: how many observations began a track although these were there to be.
        frame_index: the frame's number.
        scratch: (1,).
    """
    known, sums = learnt[0], scratch[0]
    _count_strangers(known, n_new, len(slots))
    if len(slots) == 0:
        return
    for b in range(len(known.evidence)):
        sums.noise_x[b] = sums.noise_y[b] = sums.evidence[b] = 0.0
    sums.speed = sums.strange = sums.bursts = 0.0
    for side in range(2):
        sums.size_noise[side] = sums.size_mean[side] = sums.size_spread[side] = 0.0
    for k in range(len(slots)):
        tracks[slots[k]] = predicted[columns[k]]
        track, seen = tracks[slots[k]], observed[rows[k]]
        track.last = frame_index
        track.hits += 1.0
        sums.bursts += bursts[k]
        _correct_motion(track, seen, known, model, sums)
        _correct_size(track, seen, known, sums)
    _learn(known, sums, len(slots))


@compiled(None, records(TRACK), records(LEARNT), INTS, FLOAT_TABLE, INTS, FLOAT)
def begin(
    tracks: NDArray[np.void],
    learnt: NDArray[np.void],
    slots: Indices,
    observed: Floats,
    rows: Indices,
    frame_index: float,
) -> None:
    """Tracks begin in (m,) slots, at rest, with the observations in (m,) rows; arguments as of `correct`."""
    known = learnt[0]
    if math.isnan(known.size_mean[0]):
        for side in range(2):
            known.size_mean[side] = 0.0
            for row in rows:
                known.size_mean[side] += observed[row, 2 + side] / len(rows)
    for k in range(len(slots)):
        track, seen = tracks[slots[k]], observed[rows[k]]
        for b in range(len(track.x)):
            track.var_x[b], track.cov_xv[b] = 1.0, 0.0
            track.x[b], track.y[b] = seen[0], seen[1]
            track.var_v[b] = 2.0 * known.speed / (known.noise_x[b] + known.noise_y[b])
            track.vx[b] = track.vy[b] = 0.0
        track.log_w, track.log_h = seen[2], seen[3]
        track.last, track.hits, track.restless = frame_index, 1.0, 1.0
        _measure(track)
