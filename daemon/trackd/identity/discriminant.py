"""The discriminant: distances in which animals differ from each other more than one animal differs from itself.

Fisher's linear discriminant (1936): features are weighted by the inverse of their covariance within one animal. It is
learnt while the stream runs. The squared distance of two means is then that of Mahalanobis.

Letters: k samples, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

SHRINKAGE = 0.01  # share of the mean variance that is added to each feature's
MEMORY = 6000.0  # samples that the covariance remembers


class Discriminant:
    """The covariance of the features of one animal, and the distances that follow from it."""

    def __init__(self, size: int) -> None:
        """Start without samples; `size` is D."""
        self._scatter = np.zeros((size, size), np.float64)
        self._weight = 0.0
        self._factor: NDArray[np.float64] | None = None  # (D, D) lower Cholesky factor of the covariance

    @classmethod
    def of(cls, scatter: NDArray[np.float64], weight: float) -> Discriminant:
        """Continue with what was learnt before."""
        made = cls(len(scatter))
        made._scatter, made._weight = scatter.copy(), weight
        made.update()
        return made

    @property
    def size(self) -> int:
        """D."""
        return len(self._scatter)

    @property
    def learnt(self) -> tuple[NDArray[np.float64], float]:
        """The sum (D, D) over the squared deviations, and the number of samples behind it."""
        return self._scatter.copy(), self._weight

    @property
    def ready(self) -> bool:
        """Whether there were samples."""
        return self._factor is not None

    def add(self, deviations: NDArray[np.float64]) -> None:
        """Learn from the deviations (k, D) of samples from the mean of their animal."""
        kept = min(max(MEMORY - len(deviations), 0.0) / max(self._weight, 1.0), 1.0)
        self._scatter *= kept
        self._scatter += deviations.T @ deviations
        self._weight = self._weight * kept + len(deviations)

    def update(self) -> None:
        """Use what was learnt in the distances from now on."""
        if self._weight == 0.0:
            return
        covariance = self._scatter / self._weight
        covariance[np.diag_indices(len(covariance))] += SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-9
        self._factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)

    def whitened(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (k, D) in which one animal varies by 1 in every direction; their squared distances count."""
        assert self._factor is not None
        return np.asarray(solve_triangular(self._factor, features.T, lower=True, check_finite=False)).T
