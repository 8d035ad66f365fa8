"""How tracked things move: a small bank of Kalman filters per track.

Every track is followed by B filters at once that differ in how much of a movement they take for real and how long a
velocity lasts. The stream's matched observations tell which of them predicts best, and how large its errors are
(`learnt`), so that one set of defaults serves slow and fast, smooth and abrupt, 30 and 5 frames per second.

Each filter is the Kalman filter of a position whose velocity decays and is pushed; x and y are independent and share
their covariance. Nothing here belongs to a stream: columns are tracks, of whichever streams.

Letters: B filters, M tracks, m tracks seen. Positions and velocities are in pixels, variances in units of the
filter's measurement noise. Time is in steps of the stream's usual frame distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# (change of velocity per step over the measurement noise, share of the velocity that lasts a step)
MODELS = ((0.1, 0.99), (0.4, 0.97), (1.0, 0.94), (3.0, 0.8), (10.0, 0.75), (10.0, 0.3))
N_MODELS = len(MODELS)
QUARTERS = 4  # times are rounded to quarter steps ...
MOST_STEPS = 512  # ... and uncertainty stops growing here
# Rows of a track's state, B of each: var(x), cov(x, v), x, y, var(v), and the velocities of x and y
PXX, PXV, X, Y, PVV, VX, VY = range(7)
N_ROWS = 7 * N_MODELS
_SHAPE = (7, N_MODELS, -1)
# Rows of a lapse, B of each
_REACH, _DECAY, _KEPT, _CROSS, _DRIVEN, _DRIFT = (
    slice(first * N_MODELS, last * N_MODELS) for first, last in ((0, 1), (1, 4), (2, 3), (4, 5), (5, 6), (6, 7))
)
N_LAPSE = 7 * N_MODELS


def lapses() -> FloatArray:
    """What a lapse of time does, per quarter step from 0 on: (`N_LAPSE`, quarters); at least a quarter passes.

    For a velocity that keeps a share a of itself per step and is pushed by noise of unit variance (the discrete
    Ornstein-Uhlenbeck process), after t steps: Σa^i; a^2t and twice a^t; the noise's share of cov(x, v), var(v) and
    var(x), all sums over i < t.
    """
    push, last = (column[:, None] for column in np.array(MODELS).T)
    t = np.arange(MOST_STEPS + 1)[None, :]
    left = 1.0 / (1.0 - last)
    kept = last**t
    reach = left * (1.0 - kept)
    driven = (1.0 - kept * kept) / (1.0 - last * last)
    cross = left * (reach - driven)
    drift = np.maximum(left * left * (t - 2.0 * reach + driven), 0.0)
    whole = np.stack([kept, reach, push**2 * driven, push**2 * cross, push**2 * drift])
    # Between whole steps a mean of two covariances, which is one; the sums' formulas would not be.
    parts = np.arange(QUARTERS) / QUARTERS
    between = whole[..., :-1, None] * (1.0 - parts) + whole[..., 1:, None] * parts
    kept, reach, driven, cross, drift = between.reshape(5, N_MODELS, -1)
    table = np.concatenate([reach, kept * kept, kept, kept, cross, driven, drift])
    table[:, 0] = table[:, 1]
    return np.ascontiguousarray(table)


def begin(centres: FloatArray, velocity_variance: FloatArray) -> FloatArray:
    """States (`N_ROWS`, m) of tracks that begin at `centres` (2, m), at rest; the variance (B,) is of each filter."""
    state = np.zeros((7, N_MODELS, centres.shape[1]))
    state[X : Y + 1] = centres[:, None]
    state[PXX] = 1.0
    state[PVV] = velocity_variance[:, None]
    return state.reshape(N_ROWS, -1)


def predict(state: FloatArray, lapse: FloatArray, out: FloatArray) -> None:
    """Let time pass without looking.

    Args:
        state: (`N_ROWS`, M).
        lapse: (`N_LAPSE`, M) columns of `lapses()`.
        out: (`N_ROWS`, M), written.
    """
    now, then = state.reshape(_SHAPE), out.reshape(_SHAPE)
    reach = lapse[_REACH]
    moved = np.multiply(now[PVV:], reach, out=then[PXV:PVV])
    moved += now[PXV:PVV]
    spread = np.add(now[PXV], then[PXV], out=then[PXX])
    spread *= reach
    spread += now[PXX]
    spread += lapse[_DRIFT]
    np.multiply(now[PVV:], lapse[_DECAY].reshape(3, N_MODELS, -1), out=then[PVV:])
    carried = then[PXV]
    carried *= lapse[_KEPT]
    carried += lapse[_CROSS]
    then[PVV] += lapse[_DRIVEN]


def correct(state: FloatArray, centres: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Take in observations.

    Args:
        state: (`N_ROWS`, m) predicted, of the tracks that were seen; overwritten with what is known now.
        centres: (2, m) where they were seen.

    Returns:
        (2, B, m) squared innovations, pixels²; (B, m) their variance, in units of the measurement noise.
    """
    bank = state.reshape(_SHAPE)
    total = bank[PXX] + 1.0
    off = centres[:, None] - bank[X : Y + 1]
    swing = bank[PXV].copy()
    gains = bank[: PXV + 1]
    gains /= total
    moves = gains[:, None] * off
    bank[X : Y + 1] += moves[0]
    bank[VX:] += moves[1]
    swing *= gains[1]
    bank[PVV] -= swing
    off *= off
    return off, total


def drift(lapses: FloatArray, quarters: NDArray[np.intp], model: int | NDArray[np.intp]) -> FloatArray:
    """What the best filter `model`, one or one per track, loses sight of; (M,) in units of the noise."""
    last = lapses.shape[1] - 1
    return np.asarray(lapses[_DRIFT.start + model, np.minimum(quarters, last)])


def position(state: FloatArray, model: int | NDArray[np.intp]) -> FloatArray:
    """Var(x), cov(x, v), x and y of the best filter `model`, one or one per column; (4, M)."""
    return _of_model(state, PXX, Y, model)


def velocity(state: FloatArray, model: int | NDArray[np.intp]) -> FloatArray:
    """The velocities of the best filter `model`, one or one per column; (2, M) pixels per step."""
    return _of_model(state, VX, VY, model)


def _of_model(state: FloatArray, first: int, last: int, model: int | NDArray[np.intp]) -> FloatArray:
    if isinstance(model, int):
        return state[first * N_MODELS + model : (last + 1) * N_MODELS : N_MODELS]
    rows = np.arange(first, last + 1)[:, None] * N_MODELS + model
    return np.asarray(state[rows, np.arange(state.shape[1])])
