"""How large tracked things are. All sizes are natural logarithms of pixels.

Letters: n instances, m tracks seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.models.learnt import SIZE_MEAN, SIZE_NOISE, SIZE_SPREAD, SIZE_TAIL, STRANGE

FloatArray = NDArray[np.float64]

DRIFT = 0.02  # std by which a size may change per step without being seen
GAIN = 0.2  # weight of a new observation in the track's size, at least
MIN_SIDE_PX = 1.0


def log_sizes(extents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log width and height, (2, n), of boxes (n, 4); a side counts as at least one pixel."""
    sides = (extents[:, 2:] - extents[:, :2]).T
    return np.asarray(np.log(np.maximum(sides, np.float32(MIN_SIDE_PX))))


def correct(
    sizes: FloatArray,
    observed: FloatArray,
    hits: FloatArray,
    learnt: FloatArray,
    peak: FloatArray | float,
    sums: FloatArray,
) -> None:
    """Take in observations.

    Args:
        sizes: (2, m) of the tracks that were seen; overwritten with what is known now.
        observed: (2, m) what was seen.
        hits: (m,) times each track was seen, now included.
        learnt: (`learnt.N_LEARNT`, m or 1) of their streams.
        peak: (m,) or of all: log of how much a size speaks for a track at most.
        sums: (`learnt.N_SUMS`, m) written where it is about sizes.
    """
    off = observed - sizes
    squared = off * off
    ratio = squared / learnt[SIZE_NOISE]
    misfit = ratio[0] + ratio[1]
    misfit *= 1.0 / SIZE_TAIL
    usual = np.log1p(misfit, out=misfit)
    usual *= -(SIZE_TAIL / 2 + 1)
    usual += peak
    np.exp(usual, out=usual)
    strange = learnt[STRANGE]
    usual += strange
    np.divide(strange, usual, out=sums[STRANGE])
    ratio += SIZE_TAIL
    np.divide(squared, ratio, out=sums[SIZE_NOISE])
    sums[SIZE_MEAN] = observed
    away = np.subtract(observed, learnt[SIZE_MEAN], out=sums[SIZE_SPREAD])
    away *= away
    gain = 1.0 / hits
    off *= np.maximum(gain, GAIN, out=gain)
    sizes += off
