"""The motion model: a small bank of Kalman filters per track.

Several filters follow each track. They differ in their process noise and in how long a velocity lasts. The stream's
matched observations decide which of them predicts best, and how large its errors are (update.py). One set of defaults
therefore serves slow and fast, smooth and abrupt movement, at 30 and at 5 frames per second.

The state of each filter is a position and a velocity. The velocity decays, and noise is added to it. x and y are
independent and share their covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion.records import N_GAPS, N_MODELS, TIME_STEP

# (std of the velocity's process noise per step over the measurement noise, factor on the velocity per step)
MODELS = ((0.1, 0.99), (0.4, 0.97), (1.0, 0.94), (3.0, 0.8), (10.0, 0.75), (10.0, 0.3))
QUARTERS = 4  # times are rounded to quarter steps
MAX_STEPS = 512  # a longer gap counts as this one
GAP_SLACK = 1.25  # the gap classes end at this many steps, and at its doubles
SIZE_DRIFT = 0.02  # std of the change of a log size per step without an observation


def time_steps() -> NDArray[np.void]:
    """The effect of a time step, per quarter step from 0 on: (quarters,) `TIME_STEP`; 0 counts as one quarter.

    For a velocity that keeps a share a of itself per step, with process noise of unit variance (the discrete
    Ornstein-Uhlenbeck process), after t steps: Σa^i; a^t; the noise's share of cov(x, v), var(v) and var(x). All sums
    are over i < t.
    """
    assert len(MODELS) == N_MODELS
    noise, factor = (column[:, None] for column in np.array(MODELS).T)
    t = np.arange(MAX_STEPS + 1)[None, :]
    limit = 1.0 / (1.0 - factor)
    kept = factor**t
    displacement = limit * (1.0 - kept)
    noise_v = (1.0 - kept * kept) / (1.0 - factor * factor)
    noise_xv = limit * (displacement - noise_v)
    noise_x = np.maximum(limit * limit * (t - 2.0 * displacement + noise_v), 0.0)
    whole = np.stack([displacement, kept, noise**2 * noise_xv, noise**2 * noise_v, noise**2 * noise_x])
    # Between whole steps: the mean of two covariances, which is a covariance. The sums' formulas would not give one.
    parts = np.arange(QUARTERS) / QUARTERS
    between = (whole[..., :-1, None] * (1.0 - parts) + whole[..., 1:, None] * parts).reshape(5, N_MODELS, -1)
    table = np.zeros(between.shape[2], TIME_STEP)
    names = ("displacement", "velocity_kept", "process_noise_xv", "process_noise_v", "process_noise_x")
    for name, values in zip(names, between, strict=True):
        table[name] = values.T
    steps = np.maximum(np.arange(len(table)), 1) / QUARTERS
    table["gap"] = np.minimum(np.ceil(np.log2(np.maximum(steps / GAP_SLACK, 1.0))), N_GAPS - 1)
    table["size_process_noise"] = SIZE_DRIFT**2 * np.maximum(steps - 1.0, 0.0)
    table[0] = table[1]
    return table
