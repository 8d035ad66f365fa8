"""The calibration: from how much nearer features are to one animal than to others, to evidence.

Letters: f fragments, s animals.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

CLIP = 8.0  # bound on the evidence of one fragment, nats
REMEMBERED = 200  # contrasts of each kind
_FEW = 6  # contrasts from which they can be weighed
# Of a contrast by the log of its samples, of the gap between animals: before it was measured, and at most.
_FALL, _MOST_FALL = 0.25, 0.5
_USUAL = 15.0  # samples of a contrast of which the number is not known
_MOST = 100.0  # samples; more say no more of an animal that looks different from time to time
_PRIOR_SPREAD = 1.0  # variance of a contrast before any was measured
Floats = NDArray[np.float64]


def contrasts(log_distances: Floats, axis: int = 1) -> Floats:
    """Return each log distance (f, s) less the mean of the others along an axis; NaN counts nowhere.

    So neither the number of samples nor the features' scale counts: both change all distances of a row. The only
    distance of a row has no contrast: NaN.
    """
    there = np.isfinite(log_distances)
    count = there.sum(axis=axis, keepdims=True)
    total = np.where(there, log_distances, 0.0).sum(axis=axis, keepdims=True)
    return np.asarray(log_distances - (total - log_distances) / np.where(count > 1, count - 1, np.nan))


def together(count: Floats | float, other: Floats | float) -> Floats:
    """Return the samples behind the difference of two means: their variances add up."""
    return np.asarray(count * other / np.maximum(count + other, 1e-9))


class Calibration:
    """From a contrast to the evidence that it is that of the same animal, and not of another one.

    The contrasts with the own animal and those with others are taken as normal with one variance, so that the evidence
    is linear in them. Their means are those of fragments that were confirmed. The mean of many samples is nearer to
    its animal than the mean of few: the contrast with the own animal is linear in the logarithm of their number.
    """

    def __init__(self, learnt: Mapping[str, Floats] = MappingProxyType({})) -> None:
        """Start with what `learnt` was before; where it has no numbers of samples, each was of `_USUAL`."""
        self._own: dict[bool, list[tuple[float, float]]] = {}  # contrast and log of the samples; True: across fragments
        for across, kind in ((False, "within"), (True, "across")):
            values = np.asarray(learnt.get(kind, ()), np.float64)
            counts = np.asarray(learnt.get(f"{kind}_counts", np.full(len(values), np.log(_USUAL))), np.float64)
            self._own[across] = list(zip(values.tolist(), counts.tolist(), strict=True))
        self._other: list[float] = [*learnt.get("other", ())]
        self._variance = 0.0
        self._high = self._low = 0.0  # contrasts to expect with another animal, and with the own one from one sample
        self._fall = 0.0  # by which the latter changes with the log of the samples
        self.update()

    @property
    def learnt(self) -> dict[str, Floats]:
        """All that was added, for a later session."""
        found = {"other": np.array(self._other, np.float64)}
        for across, kind in ((False, "within"), (True, "across")):
            rows = np.array(self._own[across], np.float64).reshape(-1, 2)
            found |= {kind: rows[:, 0], f"{kind}_counts": rows[:, 1]}
        return found

    @property
    def line(self) -> Floats:
        """What is used of it until the next `update`: (4,)."""
        return np.array([self._variance, self._high, self._low, self._fall])

    @line.setter
    def line(self, values: Floats) -> None:
        self._variance, self._high, self._low, self._fall = values.tolist()

    @property
    def ready(self) -> bool:
        """Whether contrasts can be weighed."""
        return self._variance > 0.0

    def add(self, own: float, others: Floats, count: float, across: bool) -> None:
        """Add the contrasts with the own id, of a number of samples, and with (s,) other ones."""
        self._own[across].append((own, float(np.log(max(count, 1.0)))))
        self._other += others.tolist()
        for kept in self._own.values():
            del kept[: max(len(kept) - REMEMBERED, 0)]
        del self._other[: max(len(self._other) - REMEMBERED, 0)]

    def update(self) -> None:
        """Use what was added."""
        same = np.array(self._own[True] + self._own[False])
        if len(same) < _FEW or len(self._other) < _FEW:
            return
        n, (mean, at) = len(same), same.mean(axis=0)
        apart, self._high = same - (mean, at), float(np.mean(self._other))
        gap = max(self._high - mean, 0.0)  # animals that look alike do so with any number of samples
        fall = (apart[:, 0] @ apart[:, 1] - _FEW * _FALL * gap) / (apart[:, 1] @ apart[:, 1] + _FEW)
        self._fall = float(np.clip(fall, -_MOST_FALL * gap, 0.0))
        self._low = mean - self._fall * at
        rest = float(np.mean((apart[:, 0] - self._fall * apart[:, 1]) ** 2))
        self._variance = (n * rest + n * float(np.var(self._other)) + _FEW * _PRIOR_SPREAD) / (2 * n + _FEW)

    def evidence(self, found: Floats, counts: Floats | float) -> Floats:
        """Return the log likelihood ratios of the same animal against another one, of contrasts.

        Args:
            found: the contrasts.
            counts: the samples behind each of them; broadcast.
        """
        if not self.ready:
            return np.zeros_like(found)
        low = self._low + self._fall * np.log(np.clip(counts, 1.0, _MOST))
        slope = np.maximum(self._high - low, 0.0) / self._variance
        return np.asarray(np.clip(slope * ((self._high + low) / 2 - found), -CLIP, CLIP))
