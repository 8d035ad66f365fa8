"""How large tracked things are: what a stream teaches about their widths and heights.

Letters: M tracks, m tracks seen. All sizes are natural logarithms of pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.window import State

FloatArray = NDArray[np.float64]

FIRST_NOISE = 0.1  # std of a size about its track's, before anything is learnt
FIRST_SPREAD = 0.2  # std of the stream's sizes about their mean
FIRST_STRANGE = 0.05  # share of observations whose size says nothing about their track: wings spread, half hidden
RARE, OFTEN = 0.002, 0.3
DRIFT = 0.02  # std by which a size may change per step without being seen
GAIN = 0.2  # weight of a new observation in the track's size, at least
TAIL = 4.0
FIRST_WEIGHT = 20.0
MEMORY = 600.0
LEAST_NOISE = 0.01
MIN_SIDE_PX = 1.0


def log_sizes(extents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log width and height, (2, n), of boxes (n, 4); a side counts as at least one pixel."""
    sides = (extents[:, 2:] - extents[:, :2]).T
    return np.asarray(np.log(np.maximum(sides, np.float32(MIN_SIDE_PX))))


class Sizes:
    """Noise and spread of the sizes in a stream, width and height apart."""

    def __init__(self) -> None:
        self.noise = np.full(2, FIRST_NOISE**2)  # variance of an observation about its track
        self.spread = np.full(2, FIRST_SPREAD**2)  # variance over all that is seen
        self.mean: FloatArray | None = None  # (2,)
        self.strange = FIRST_STRANGE
        self.weight = FIRST_WEIGHT

    def variance(self, steps: FloatArray) -> FloatArray:
        """Variance (2, M) of the next observations, `steps` (M,) after the last."""
        return np.asarray(self.noise[:, None] + DRIFT**2 * np.maximum(steps - 1.0, 0.0))

    def half_log_spread(self) -> float:
        """Half the log of the spread's determinant: what a size is worth as evidence."""
        noise, spread = self.noise.tolist(), self.spread.tolist()
        return 0.5 * math.log(max(spread[0], noise[0]) * max(spread[1], noise[1]))

    def peak(self) -> float:
        """At most this is the log of how much a size speaks for a track; at least 0."""
        noise = self.noise.tolist()
        return self.half_log_spread() - 0.5 * math.log(noise[0] * noise[1])

    def correct(self, expected: FloatArray, observed: FloatArray, hits: FloatArray) -> FloatArray:
        """Take in observations.

        Args:
            expected: (2, m) the tracks' sizes.
            observed: (2, m) what was seen.
            hits: (m,) times each track was seen, now included.

        Returns:
            (2, m) the tracks' new sizes.
        """
        count = expected.shape[1]
        self.weight = min(self.weight + count, MEMORY)
        rate = min(count / self.weight, 0.5)
        if self.mean is None:
            self.mean = observed.mean(axis=1)
        off = observed - expected
        squared = off * off
        ratio = squared / self.noise[:, None]  # (2, m)
        usual = np.exp(self.peak() - (TAIL / 2 + 1) * np.log((ratio[0] + ratio[1]) / TAIL + 1.0))
        sums = np.empty((7, count))
        np.divide(squared, ratio + TAIL, out=sums[0:2])
        np.subtract(observed, self.mean[:, None], out=sums[2:4])
        np.multiply(sums[2:4], sums[2:4], out=sums[4:6])
        np.divide(self.strange, usual + self.strange, out=sums[6])
        means = np.add.reduce(sums, axis=1) / count
        self.strange = min(max(self.strange + rate * (float(means[6]) - self.strange), RARE), OFTEN)
        self.noise += rate * ((TAIL + 1.0) * means[0:2] - self.noise)
        np.maximum(self.noise, LEAST_NOISE**2, out=self.noise)
        self.mean += rate * means[2:4]
        self.spread += rate * (means[4:6] - self.spread)
        return np.asarray(expected + np.maximum(1.0 / hits, GAIN) * off)

    def snapshot(self) -> State:
        """What was learnt."""
        return {
            "noise": self.noise.copy(),
            "spread": self.spread.copy(),
            "mean": None if self.mean is None else self.mean.copy(),
            "strange": self.strange,
            "weight": self.weight,
        }

    def restore(self, state: State) -> None:
        """Become what `snapshot` saw."""
        self.noise, self.spread = np.array(state["noise"]), np.array(state["spread"])
        self.mean = None if state["mean"] is None else np.array(state["mean"])
        self.strange, self.weight = float(state["strange"]), float(state["weight"])
