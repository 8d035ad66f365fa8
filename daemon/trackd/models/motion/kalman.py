"""How tracked things move: a small bank of Kalman filters per track.

Every track is followed by several filters at once that differ in how much of a movement they take for real and how long
a velocity lasts. The stream's matched observations tell which of them predicts best, and how large its errors are
(update.py), so that one set of defaults serves slow and fast, smooth and abrupt, 30 and 5 frames per second.

Each filter is the Kalman filter of a position whose velocity decays and is pushed; x and y are independent and share
their covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion.records import LAPSE, N_MODELS

# (change of velocity per step over the measurement noise, share of the velocity that lasts a step)
MODELS = ((0.1, 0.99), (0.4, 0.97), (1.0, 0.94), (3.0, 0.8), (10.0, 0.75), (10.0, 0.3))
QUARTERS = 4  # times are rounded to quarter steps ...
MOST_STEPS = 512  # ... and uncertainty stops growing here
LOST = 0.5  # log odds that a track loses once the last frame missed it,
AGEING = 0.3  # per log of the steps since,
FLEETING = 2.0  # and per log of the steps over the times that it was seen
SIZE_DRIFT = 0.02  # std by which a log size may change per step without being seen


def lapses() -> NDArray[np.void]:
    """What a lapse of time does, per quarter step from 0 on: (quarters,) `LAPSE`; at least a quarter passes.

    For a velocity that keeps a share a of itself per step and is pushed by noise of unit variance (the discrete
    Ornstein-Uhlenbeck process), after t steps: Σa^i; a^t; the noise's share of cov(x, v), var(v) and var(x), all sums
    over i < t.
    """
    assert len(MODELS) == N_MODELS
    push, last = (column[:, None] for column in np.array(MODELS).T)
    t = np.arange(MOST_STEPS + 1)[None, :]
    left = 1.0 / (1.0 - last)
    kept = last**t
    reach = left * (1.0 - kept)
    driven = (1.0 - kept * kept) / (1.0 - last * last)
    cross = left * (reach - driven)
    drift = np.maximum(left * left * (t - 2.0 * reach + driven), 0.0)
    whole = np.stack([reach, kept, push**2 * cross, push**2 * driven, push**2 * drift])
    # Between whole steps a mean of two covariances, which is one; the sums' formulas would not be.
    parts = np.arange(QUARTERS) / QUARTERS
    between = (whole[..., :-1, None] * (1.0 - parts) + whole[..., 1:, None] * parts).reshape(5, N_MODELS, -1)
    table = np.zeros(between.shape[2], LAPSE)
    for name, values in zip(("reach", "kept", "cross", "driven", "drift"), between, strict=True):
        table[name] = values.T
    steps = np.maximum(np.arange(len(table)), 1) / QUARTERS
    gap = np.where(steps > 1.5, np.log(steps), 0.0)
    table["gap"] = np.where(steps > 1.5, LOST + AGEING * gap, 0.0)
    table["fleeting"] = FLEETING * gap
    table["growth"] = SIZE_DRIFT**2 * np.maximum(steps - 1.0, 0.0)
    table[0] = table[1]
    return table
