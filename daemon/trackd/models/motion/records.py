"""The motion scorer's state, as records of named numbers.

Positions are in pixels, sizes are natural logarithms of pixels, time is in steps of the stream's usual frame distance.
Variances of positions and velocities are in units of a filter's measurement noise.

A snapshot stores `TRACK` and `STATISTICS` as plain numbers: the order and the meaning of their fields are part of the
journal's format.
"""

from __future__ import annotations

import numpy as np

N_MODELS = 6  # Kalman filters per track; kalman.py states how they differ
N_AGES, N_GAPS = 3, 8  # classes of tracks by their number of observations, and by the steps since the last one
N_CLASSES = N_AGES * N_GAPS

_BANK, _PAIR = (np.float64, (N_MODELS,)), (np.float64, (2,))

# One track. "Size" without "log" is the square root of the box's area.
TRACK = np.dtype(
    [
        ("var_x", *_BANK),  # variance of the position; x and y share their covariance
        ("cov_xv", *_BANK),  # covariance of position and velocity
        ("x", *_BANK),
        ("y", *_BANK),
        ("var_v", *_BANK),  # variance of the velocity
        ("vx", *_BANK),
        ("vy", *_BANK),
        ("log_w", np.float64),  # log width
        ("log_h", np.float64),
        ("burst_var_x", np.float64),  # variance of a burst over size squared
        ("burst_var_y", np.float64),
        ("area", np.float64),  # size squared, pixels²
        ("last_frame", np.float64),  # frame index of the last observation
        ("hits", np.float64),  # number of observations
        ("innovation_ratio", np.float64),  # running mean of the squared innovation over its variance; 1 is expected
        # Where it stays, as long as it does: update.py. Snapshots of earlier versions end here.
        ("home_x", np.float64),  # mean place
        ("home_y", np.float64),
        ("home_spread", np.float64),  # variance of x and y about it, over size squared
        ("home_hits", np.float64),  # observations there; the oldest are forgotten
        ("home_steps", np.float64),  # steps in which it could be observed there
        ("home_returns", np.float64),  # gaps after which it was there
        ("home_left", np.float64),  # 1 if the latest observation was elsewhere, else 0
    ]
)

# The effect of one time step on a track, for each filter.
TIME_STEP = np.dtype(
    [
        ("displacement", *_BANK),  # change of position per unit of velocity
        ("velocity_kept", *_BANK),  # factor on the velocity
        ("process_noise_xv", *_BANK),  # added to cov(x, v)
        ("process_noise_v", *_BANK),  # added to var(v)
        ("process_noise_x", *_BANK),  # added to var(x)
        ("gap", np.int64),  # class of the gap, 0 to N_GAPS − 1
        ("size_process_noise", np.float64),  # added to the variance of a log size
    ]
)

# Statistics of a stream: running means over the observations of its tracks. update.py has their initial values.
STATISTICS = np.dtype(
    [
        ("noise_x", *_BANK),  # measurement variance over size squared
        ("noise_y", *_BANK),
        ("log_likelihood", *_BANK),  # mean log likelihood of the innovations
        ("velocity_var", np.float64),  # variance of the velocity over size squared
        ("size_noise", *_PAIR),  # variance of log width and height about the track's own
        ("size_mean", *_PAIR),  # mean log width and height; NaN before the first track
        ("size_spread", *_PAIR),  # variance about that mean
        ("size_outliers", np.float64),  # share of observations whose size is unrelated to their track's
        ("bursts", np.float64),  # share of movements that no filter predicts
        ("births", np.float64),  # expected number of observations per frame that belong to no track: update.py
        ("weight", np.float64),  # number of observations behind the means
        ("shares_weight", np.float64),  # the same for `bursts`
        ("frames", np.float64),  # number of frames behind `open_births`
        ("low", *_PAIR),  # the least x and y of all observations; infinity before the first
        ("high", *_PAIR),  # the greatest
        ("exposures", np.float64, (N_CLASSES,)),  # by class of tracks: frames in which one could be observed
        ("returns", np.float64, (N_CLASSES,)),  # the expected number of those in which it was
        # Whether objects come at all. Snapshots of earlier versions end here.
        ("first_births", np.float64),  # births per frame that were assumed at the first frame
        ("open_births", np.float64),  # births per frame if objects come
        ("settled_births", np.float64),  # the births after the first frames; the oldest are forgotten
        ("settled_frames", np.float64),  # the frames in which they were; below 0 in the first frames
        ("closed", np.float64),  # chance that no object comes or leaves
    ]
)

# The expected measurement of a track at a frame. A precision is 1 / (degrees of freedom · variance); a peak is the
# density at the expected measurement over the density of a new track.
EXPECTED = np.dtype(
    [
        ("centre", *_PAIR),  # x y
        ("size", *_PAIR),  # log width and height
        ("position_precision", *_PAIR),
        ("position_peak", np.float64),
        ("burst_precision", *_PAIR),
        ("burst_peak", np.float64),
        ("size_precision", *_PAIR),
        ("size_peak", np.float64),
        ("size_floor", np.float64),  # the lowest likelihood ratio that a size can have
    ]
)
