"""What the motion scorer keeps, as records of named numbers.

Places are in pixels, sizes are natural logarithms of pixels, time is in steps of the stream's usual frame distance,
variances of places and velocities are in units of a filter's measurement noise.
"""

from __future__ import annotations

import numpy as np

N_MODELS = 6  # Kalman filters that follow each track; kalman.py says how they differ

_BANK, _PAIR = (np.float64, (N_MODELS,)), (np.float64, (2,))

# A track.
TRACK = np.dtype(
    [
        ("var_x", *_BANK),  # of the place; x and y share their covariance
        ("cov_xv", *_BANK),
        ("x", *_BANK),
        ("y", *_BANK),
        ("var_v", *_BANK),  # of the velocity
        ("vx", *_BANK),
        ("vy", *_BANK),
        ("log_w", np.float64),
        ("log_h", np.float64),
        ("reach_x", np.float64),  # variance of a burst over size squared
        ("reach_y", np.float64),
        ("area", np.float64),  # size squared, pixels²
        ("last", np.float64),  # frame index of the last sighting
        ("hits", np.float64),  # times seen
        ("restless", np.float64),  # a running misfit, 1 where the movement is as expected
    ]
)

# What a lapse of time does to a track.
LAPSE = np.dtype(
    [
        ("reach", *_BANK),  # how far a velocity carries
        ("kept", *_BANK),  # the share of it that lasts
        ("cross", *_BANK),  # what the push adds to cov(x, v),
        ("driven", *_BANK),  # to var(v)
        ("drift", *_BANK),  # and to var(x)
        ("gap", np.float64),  # log odds that a track loses for not having been seen,
        ("fleeting", np.float64),  # and more, over the times that it was seen
        ("growth", np.float64),  # variance of a log size that was not looked at
    ]
)

# What a stream has taught: running means over the tracks that were seen; update.py has what they start from.
LEARNT = np.dtype(
    [
        ("noise_x", *_BANK),  # measurement variance over size squared
        ("noise_y", *_BANK),
        ("evidence", *_BANK),  # mean log-likelihood
        ("speed", np.float64),  # variance of the velocity over size squared
        ("size_noise", *_PAIR),  # variance of log width and height about their track's
        ("size_mean", *_PAIR),  # of the stream; NaN before the first track
        ("size_spread", *_PAIR),  # variance about that
        ("strange", np.float64),  # share of observations whose size says nothing about their track
        ("bursts", np.float64),  # share of movements that no filter expects
        ("strangers", np.float64),  # share of instances that begin a track
        ("weight", np.float64),  # observations behind the means,
        ("shares_weight", np.float64),  # and behind bursts and strangers
    ]
)

# What is expected of a track at a frame, as observations are compared with it.
EXPECTED = np.dtype(
    [
        ("centre", *_PAIR),
        ("size", *_PAIR),  # log width and height
        # 1 / (degrees of freedom · variance), and the density at the peak over a stranger's
        ("place_precision", *_PAIR),
        ("place_peak", np.float64),
        ("burst_precision", *_PAIR),
        ("burst_peak", np.float64),
        ("size_precision", *_PAIR),
        ("size_peak", np.float64),
        ("forgiven", np.float64),  # the least that a size may say
    ]
)
