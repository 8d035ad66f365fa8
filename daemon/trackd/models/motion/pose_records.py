"""What is known of the poses of a stream, as records of named numbers.

Lengths are relative to an animal's size, the root mean square distance of its nodes from their mean, unless they say
pixels. Variances are of one coordinate of one node.

A snapshot stores `TRACK`, `NODE` and `STREAM` as plain numbers: the order and the meaning of their fields are part of
the journal's format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_GAPS = 8  # classes of gaps
FIRST_NOISE, FIRST_OUTLIERS = 0.4**2, 0.1
FIRST_SPREAD = 0.5  # the mean over the nodes, by the definition of the size
GROWTH, MAX_GROWTH = 1.7, 100.0  # of the noise from one class of gaps to the next, before it is learnt; the most in all
FIRST_TURNS = 0.5
FIRST_WEIGHT, FIRST_GAP_WEIGHT, FIRST_SPREAD_WEIGHT = 20.0, 5.0, 2.0  # poses that the first values count as

# What is known of a track. Its nodes are in a table of their own, (S, k, 2), relative to the mean of those visible.
TRACK = np.dtype(
    [
        ("size", np.float64),  # squared, in pixels²; a running mean
        ("frame", np.float64),  # frame index of the pose
        ("turn", np.float64),  # of the last step, in radians
        ("hits", np.float64),  # number of poses; 0: none
    ]
)
NODE = np.dtype(
    [
        ("noise", np.float64),  # variance about the expected pose, one step after the last one
        ("spread", np.float64),  # variance of the stream's poses
        ("mean_x", np.float64),  # their mean
        ("mean_y", np.float64),
        ("body_x", np.float64),  # the mean of poses that are turned alike, relative to the mean of all nodes
        ("body_y", np.float64),
        ("body_poses", np.float64),  # number of poses behind it
    ]
)
STREAM = np.dtype(
    [
        ("outliers", np.float64),  # share of poses that are unrelated to their track's
        ("poses", np.float64),  # number of poses behind the means over all poses
        ("moves", np.float64),  # the same for the means over poses that had a last one
        ("turn_kept", np.float64),  # share of a turn that goes on in the next step
        ("turns", np.float64),  # sum of the squared turns, of which old ones are forgotten
        ("turns_on", np.float64),  # the same of the products of a turn and the one before
        ("growth", np.float64, (N_GAPS,)),  # factor on the noise by class of the gap
        ("gap_weights", np.float64, (N_GAPS,)),  # number of poses behind it
    ]
)
# A node of a track at one frame.
EXPECTED = np.dtype(
    [
        ("x", np.float64),
        ("y", np.float64),
        ("precision", np.float64),  # 1 / (size² · variance); 0: missing
        ("gain", np.float64),  # the variance of the stream's poses over that about the expected pose
    ]
)


def first_nodes(nodes: int) -> NDArray[np.void]:
    """(k,) `NODE` of a stream without poses."""
    made = np.zeros(nodes, NODE)
    made["noise"], made["spread"] = FIRST_NOISE, FIRST_SPREAD
    return made


def first_stream() -> NDArray[np.void]:
    """(1,) `STREAM` of a stream without poses."""
    made = np.zeros(1, STREAM)
    made["outliers"], made["poses"], made["moves"] = FIRST_OUTLIERS, FIRST_SPREAD_WEIGHT, FIRST_WEIGHT
    made["turns"], made["gap_weights"] = FIRST_TURNS, FIRST_GAP_WEIGHT
    made["growth"] = np.minimum(GROWTH ** np.arange(N_GAPS), MAX_GROWTH)
    return made
