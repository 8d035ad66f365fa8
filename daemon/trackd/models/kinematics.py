"""How tracked things move: a small bank of Kalman filters per track, and what a stream teaches about its noise.

Every track is followed by B filters at once that differ in how much of a movement they take for real and how long a
velocity lasts. The stream's matched observations tell which of them predicts best, and how large its errors are, so
that one set of defaults serves slow and fast, smooth and abrupt, 30 and 5 frames per second.

Letters: B models, S slots, M tracks, m tracks seen, 2 axes (x, y). Positions and velocities are in pixels, variances
in units of the model's measurement noise, that noise in squares of the track's size. Time is in steps of the stream's
usual frame distance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.window import Slots, State

FloatArray = NDArray[np.float64]

# (change of velocity per step over the measurement noise, share of the velocity that lasts a step)
MODELS = ((0.1, 0.99), (0.4, 0.97), (1.0, 0.94), (3.0, 0.8), (10.0, 0.75), (10.0, 0.3))
FIRST_MODEL = 2
FIRST_NOISE = 0.06  # std of the measurement noise over the size, before anything is learnt
FIRST_SPEED = 0.15  # std of a new track's velocity over the size, per step
TAIL = 6.0  # degrees of freedom of the Student t of the innovations: smaller is a heavier tail
FIRST_WEIGHT = 20.0  # observations that the first guesses count for
MEMORY = 600.0  # observations that the estimates remember
LEAST_NOISE = 1e-8
QUARTERS = 4  # times are rounded to quarter steps ...
MOST_STEPS = 512  # ... and uncertainty stops growing here
N_MODELS = len(MODELS)
# Rows of a track's state: x and y, and their velocities, per model; then the covariance, shared by the axes
X, V = slice(0, 2 * N_MODELS), slice(2 * N_MODELS, 4 * N_MODELS)
PXX, PXV, PVV = (slice((4 + part) * N_MODELS, (5 + part) * N_MODELS) for part in range(3))
N_ROWS = 7 * N_MODELS


def _transitions() -> FloatArray:
    """What a lapse of time does, per quarter step: (5, B, steps).

    For a velocity that keeps a share a of itself per step and is pushed by noise of unit variance (the discrete
    Ornstein-Uhlenbeck process), after t steps: a^t, Σa^i, and the noise's share of var(v), cov(x, v), var(x), all
    sums over i < t.
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
    return np.ascontiguousarray(between.reshape(5, N_MODELS, -1))


class Kinematics:
    """The filters' estimates for a stream; the tracks' own states are arrays (`N_ROWS`, M) that its user keeps.

    Each filter is the Kalman filter of a position whose velocity decays and is pushed; x and y are independent.
    """

    def __init__(self) -> None:
        self._transitions = _transitions()
        self.noise = np.full((N_MODELS, 2), FIRST_NOISE**2)  # (B, 2) measurement variance over size squared
        self.speed = FIRST_SPEED**2  # variance of the velocity over size squared
        self.evidence = np.zeros(N_MODELS)  # (B,) remembered mean log-likelihood
        self.evidence[FIRST_MODEL] = 1e-3
        self.weight = FIRST_WEIGHT  # observations behind the estimates
        self.model = FIRST_MODEL  # the model that predicts best

    def begin(self, centres: FloatArray) -> FloatArray:
        """States (N_ROWS, m) of tracks that begin at `centres` (2, m), at rest."""
        state = np.zeros((N_ROWS, centres.shape[1]))
        state[X].reshape(N_MODELS, 2, -1)[:] = centres
        state[PXX] = 1.0
        state[PVV] = (2.0 * self.speed / self.noise.sum(axis=1))[:, None]
        return state

    def predict(self, state: FloatArray, steps: FloatArray) -> FloatArray:
        """States (N_ROWS, M) after `steps` (M,) of time, without looking."""
        kept, reach, driven, cross, drift = self._transitions[:, :, _quarters(steps)]  # each (B, M)
        out = np.empty_like(state)
        shape = (N_MODELS, 2, -1)
        v = state[V].reshape(shape)
        np.multiply(kept[:, None], v, out=out[V].reshape(shape))
        x = out[X].reshape(shape)
        np.multiply(reach[:, None], v, out=x)
        x += state[X].reshape(shape)
        pxv, pvv = state[PXV], state[PVV]
        carried = reach * pvv
        carried += pxv
        out[PXX] = state[PXX] + reach * (pxv + carried) + drift
        out[PXV] = kept * carried + cross
        out[PVV] = kept * kept * pvv + driven
        return out

    def expected(self, predicted: FloatArray) -> FloatArray:
        """Where the best model expects the next observations, (2, M)."""
        return predicted[2 * self.model : 2 * self.model + 2]

    def variance(self, predicted: FloatArray) -> FloatArray:
        """Variance (2, M) of the next observations under the best model, over size squared."""
        total = predicted[PXX.start + self.model] + 1.0
        return np.asarray(self.noise[self.model][:, None] * total)

    def best_peak(self, steps: FloatArray) -> FloatArray:
        """At most this is the log of a prediction's peak density times size squared, `steps` (M,) after a sighting."""
        drift = self._transitions[4, self.model, _quarters(steps)]
        x, y = self.noise[self.model].tolist()
        return np.asarray(-0.5 * math.log(x * y) - np.log(1.0 + drift))

    def correct(self, predicted: FloatArray, centres: FloatArray, area: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Take in observations.

        Args:
            predicted: (N_ROWS, m) states of the tracks that were seen.
            centres: (2, m) where.
            area: (m,) size squared.

        Returns:
            (N_ROWS, m) states, and (m,) each track's squared misfit under the best model, 1 on average where the
            model knows how it moves.
        """
        shape = (N_MODELS, 2, -1)
        off = centres - predicted[X].reshape(shape)
        pxx, pxv = predicted[PXX], predicted[PXV]
        total = pxx + 1.0
        gain, swing = pxx / total, pxv / total
        out = predicted.copy()
        out[X].reshape(shape)[:] += gain[:, None] * off
        velocity = out[V].reshape(shape)
        velocity += swing[:, None] * off
        out[PXX], out[PXV] = gain, swing
        out[PVV] -= swing * pxv
        off *= off
        off /= area
        misfit = off / (self.noise[:, :, None] * total[:, None])
        own = misfit[self.model]
        fast = velocity[self.model]
        self._learn(misfit, total, float(np.minimum(np.add.reduce(fast * fast) / area, 8.0).mean()))
        return out, 0.5 * (own[0] + own[1])

    def _learn(self, misfit: FloatArray, total: FloatArray, speed: float) -> None:
        """Fit noise and choice of model to (B, 2, m) squared innovations over their variances (B, m).

        The noise follows the maximum-likelihood scale of a Student t, in which far-off observations count little.
        """
        count = misfit.shape[2]
        self.weight = min(self.weight + count, MEMORY)
        rate = min(count / self.weight, 0.5)
        squared = misfit[:, 0] + misfit[:, 1]
        squared += TAIL  # (B, m)
        ratio = np.add.reduce(misfit / squared[:, None], axis=2) * ((TAIL + 2.0) / count)  # (B, 2)
        terms = np.log(total) + (TAIL / 2 + 1) * np.log(squared)
        likelihood = np.add.reduce(terms, axis=1) / -count - 0.5 * np.log(self.noise[:, 0] * self.noise[:, 1])
        self.noise *= 1.0 + rate * (np.minimum(ratio, 4.0) - 1.0)
        np.maximum(self.noise, LEAST_NOISE, out=self.noise)
        self.evidence += rate * (likelihood - self.evidence)
        self.speed += rate * (0.5 * speed - self.speed)
        self.model = int(self.evidence.argmax())

    def snapshot(self) -> State:
        """What was learnt."""
        return {
            "noise": self.noise.copy(),
            "speed": self.speed,
            "evidence": self.evidence.copy(),
            "weight": self.weight,
            "model": self.model,
        }

    def restore(self, state: State) -> None:
        """Become what `snapshot` saw."""
        self.noise, self.evidence = np.array(state["noise"]), np.array(state["evidence"])
        self.speed, self.weight = float(state["speed"]), float(state["weight"])
        self.model = int(state["model"])


def _quarters(steps: FloatArray) -> Slots:
    return np.minimum(np.maximum(np.rint(steps * QUARTERS), 1), QUARTERS * MOST_STEPS - 1).astype(np.intp)
