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
_PRIOR_SPREAD = 1.0  # variance of a contrast before any was measured
Floats = NDArray[np.float64]


def contrasts(log_distances: Floats) -> Floats:
    """Return each log distance (f, s) less the mean of the others of its row; NaN counts nowhere.

    So neither the number of samples nor the features' scale counts: both change all distances of a row.
    """
    count = np.isfinite(log_distances).sum(axis=1, keepdims=True)
    total = np.nansum(log_distances, axis=1, keepdims=True)
    return np.asarray(log_distances - (total - log_distances) / (count - 1))


class Calibration:
    """From a contrast to the evidence that it is that of the same animal, and not of another one.

    The contrasts with the own animal and those with others are taken as normal with one variance, so that the evidence
    is linear in them. Their means are those of fragments that were confirmed.
    """

    def __init__(self, learnt: Mapping[str, Floats] = MappingProxyType({})) -> None:
        """Start with what `learnt` was before."""
        self._within: list[float] = [*learnt.get("within", ())]  # of samples of a confirmed fragment, with its own id
        self._across: list[float] = [*learnt.get("across", ())]  # of a fragment when it was confirmed, with its own id
        self._other: list[float] = [*learnt.get("other", ())]
        self._slope = self._middle = 0.0
        self.update()

    @property
    def learnt(self) -> dict[str, Floats]:
        """All that was added, for a later session."""
        kinds = {"within": self._within, "across": self._across, "other": self._other}
        return {kind: np.array(values, np.float64) for kind, values in kinds.items()}

    @property
    def ready(self) -> bool:
        """Whether contrasts can be weighed."""
        return self._slope > 0.0

    def add(self, own: float, others: Floats, across: bool) -> None:
        """Add the contrasts with the own id and with (s,) other ones."""
        (self._across if across else self._within).append(own)
        self._other += others.tolist()
        for kept in (self._within, self._across, self._other):
            del kept[: max(len(kept) - REMEMBERED, 0)]

    def update(self) -> None:
        """Use what was added."""
        same = self._across + self._within
        if len(same) < _FEW or len(self._other) < _FEW:
            return
        low, high, n = float(np.mean(same)), float(np.mean(self._other)), len(same)
        spread = n * float(np.var(same)) + n * float(np.var(self._other)) + _FEW * _PRIOR_SPREAD
        variance = spread / (2 * n + _FEW)
        self._slope, self._middle = max(high - low, 0.0) / variance, (high + low) / 2

    def evidence(self, found: Floats) -> Floats:
        """Return the log likelihood ratios of the same animal against another one, of contrasts."""
        return np.asarray(np.clip(self._slope * (self._middle - found), -CLIP, CLIP))
