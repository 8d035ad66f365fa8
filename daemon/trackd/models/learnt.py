"""What a stream teaches about how its things move and how large they are.

Kept as one vector per stream, so that the vectors of several streams make a matrix and are brought up to date at
once. Every mean is a running one: it remembers so many observations, and moves towards each frame's by its share.

Letters: B filters, P streams, m tracks seen, in P runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trackd.models.kinematics import N_MODELS

FloatArray = NDArray[np.float64]

MOTION_TAIL = 6.0  # degrees of freedom of the Student t of the innovations: smaller is a heavier tail
SIZE_TAIL = 4.0
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
RARE, OFTEN = 0.002, 0.3  # bounds on shares

# Rows. The first are what `learn` is given a sum for
NOISE = slice(0, 2 * N_MODELS)  # (2, B) measurement variance of x and of y over size squared
EVIDENCE = slice(2 * N_MODELS, 3 * N_MODELS)  # (B,) remembered mean log-likelihood
SPEED = 3 * N_MODELS  # variance of the velocity over size squared
SIZE_NOISE, SIZE_MEAN, SIZE_SPREAD = (slice(SPEED + 1 + 2 * part, SPEED + 3 + 2 * part) for part in range(3))
STRANGE = SPEED + 7
BURSTS = SPEED + 8
N_SUMS = BURSTS + 1
STRANGERS, WEIGHT, SHARES_WEIGHT = range(N_SUMS, N_SUMS + 3)
N_LEARNT = N_SUMS + 3

_SCALE = np.ones((N_SUMS, 1))
_SCALE[NOISE] = MOTION_TAIL + 2.0
_SCALE[EVIDENCE] = -1.0
_SCALE[SPEED] = 0.5
_SCALE[SIZE_NOISE] = SIZE_TAIL + 1.0
_LEAST = np.full((N_SUMS, 1), -np.inf)
_LEAST[NOISE] = 1e-8
_LEAST[SIZE_NOISE] = 0.01**2
_LEAST[STRANGE], _LEAST[BURSTS] = RARE, RARE
_MOST = np.full((N_SUMS, 1), np.inf)
_MOST[STRANGE], _MOST[BURSTS] = OFTEN, OFTEN


def first_guesses() -> FloatArray:
    """(`N_LEARNT`,) before anything is learnt; the mean size is NaN."""
    learnt = np.zeros(N_LEARNT)
    learnt[NOISE] = FIRST_NOISE**2
    learnt[EVIDENCE.start + FIRST_MODEL] = 1e-3
    learnt[SPEED] = FIRST_SPEED**2
    learnt[SIZE_NOISE] = FIRST_SIZE_NOISE**2
    learnt[SIZE_MEAN] = np.nan
    learnt[SIZE_SPREAD] = FIRST_SPREAD**2
    learnt[STRANGE], learnt[BURSTS], learnt[STRANGERS] = FIRST_STRANGE, FIRST_BURSTS, FIRST_STRANGERS
    learnt[WEIGHT], learnt[SHARES_WEIGHT] = FIRST_WEIGHT, FIRST_SHARES_WEIGHT
    return learnt


def learn(learnt: FloatArray, summands: FloatArray, starts: Sequence[int], counts: FloatArray) -> None:
    """Take a frame's matched observations in.

    Args:
        learnt: (`N_LEARNT`, P), brought up to date.
        summands: (`N_SUMS`, m) what each track that was seen says, in this order: squared innovation over its
            variance and TAIL more (the noise follows the maximum-likelihood scale of a Student t, in which far-off
            observations count little); minus log-likelihood but for the noise; squared velocity over squared size,
            at most 16; the same as the first for sizes; the size; its squared distance from the stream's mean; how
            strange the size is; how much a burst the movement.
        starts: (P,) where each stream's run of columns begins; no run is empty.
        counts: (P,) their lengths.
    """
    target = np.add.reduceat(summands, starts, axis=1)
    target *= _SCALE / counts
    noise = learnt[NOISE]
    fits = target[NOISE]
    np.minimum(fits, 4.0, out=fits)
    fits *= noise
    target[EVIDENCE] -= 0.5 * np.log(noise[:N_MODELS] * noise[N_MODELS:])
    weight = np.minimum(learnt[WEIGHT] + counts, MEMORY)
    shares_weight = np.minimum(learnt[SHARES_WEIGHT] + counts, SHARES_MEMORY)
    learnt[WEIGHT], learnt[SHARES_WEIGHT] = weight, shares_weight
    rate = np.empty_like(target)
    rate[:BURSTS] = np.minimum(counts / weight, 0.5)
    rate[BURSTS] = counts / shares_weight
    known = learnt[:N_SUMS]
    target -= known
    target *= rate
    known += target
    np.maximum(known, _LEAST, out=known)
    np.minimum(known, _MOST, out=known)
