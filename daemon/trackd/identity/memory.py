"""The memory: what the animal of each id looks like, and how features are compared with that.

Letters: k samples, D features, f fragments, s ids.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trackd.identity.calibration import Calibration, contrasts
from trackd.identity.discriminant import Discriminant
from trackd.identity.gallery import Gallery

KNOWN = 20  # samples from which an id is known
MOST = 600.0  # samples that the mean of an id remembers
Floats = NDArray[np.float64]


class Mean:
    """The mean of samples, of which the last ones count more once there are many."""

    __slots__ = ("count", "values")

    def __init__(self, values: Floats, count: float = 0.0) -> None:
        """Start with the mean `values` (D,) of `count` samples."""
        self.values = values
        self.count = count

    def add(self, values: Floats, count: float) -> None:
        """Add the mean of more samples."""
        self.count = min(self.count, MOST) + count
        self.values = self.values + (values - self.values) * (count / self.count)


class Memory:
    """The mean features of each id, the covariance within one, and the calibration of their contrasts."""

    def __init__(self, size: int, gallery: Gallery | None = None) -> None:
        """Start without ids.

        Args:
            size: D.
            gallery: with as many features; what it knows of all animals is used.
        """
        self._means: dict[int, Mean] = {}
        self.size = size
        self.calibration = Calibration() if gallery is None else Calibration(gallery.calibration)
        self._discriminant = Discriminant(size)
        if gallery is not None:
            self._discriminant = Discriminant.of(gallery.scatter, gallery.weight)

    def knows(self, track: int) -> bool:
        """Whether an id has enough samples."""
        return track in self._means and self._means[track].count >= KNOWN

    @property
    def known(self) -> list[int]:
        """The ids that are known, ascending: the columns of `contrasts`."""
        return sorted(track for track in self._means if self.knows(track))

    def of(self, track: int) -> Mean:
        """Return the mean of an id; it may have no samples."""
        return self._means.setdefault(track, Mean(np.zeros(self.size)))

    def keep(self, live: set[int]) -> None:
        """Forget all other ids."""
        self._means = {track: mean for track, mean in self._means.items() if track in live}

    def vary(self, deviations: Floats) -> None:
        """Learn how one animal varies, from the deviations (k, D) of samples from its mean."""
        self._discriminant.add(deviations)

    def update(self) -> None:
        """Use what `vary` has learnt."""
        self._discriminant.update()

    def measure(self, values: Floats, track: int, across: bool) -> None:
        """Learn how much nearer a mean (D,) is to its own id than to the others.

        Args:
            values: the mean.
            track: its own id.
            across: it is that of a fragment that was confirmed, not of samples that follow others.
        """
        tracks = self.known
        if track in tracks and len(tracks) > 1 and self._discriminant.ready:
            found, own = self.contrasts(values[None])[0], tracks.index(track)
            self.calibration.add(float(found[own]), np.delete(found, own), across)

    def contrasts(self, values: Floats) -> Floats:
        """Return the contrasts of means (f, D) with all known ids, of which there are at least two: (f, s)."""
        return contrasts(self._log_distances(values, np.stack([self._means[track].values for track in self.known])))

    def evidence(self, values: Floats) -> dict[int, float]:
        """Return the evidence that a mean (D,) is that of each known id; empty if fewer than two are known."""
        tracks = self.known
        if len(tracks) < 2:
            return {}
        found = self.calibration.evidence(self.contrasts(values[None])[0])
        return dict(zip(tracks, found.tolist(), strict=True))

    def evidence_for_names(self, tracks: list[int], means: Floats) -> Floats:
        """Return the evidence that each id (f) has each of the means (s, D) of a gallery: (f, s).

        A contrast is that with the other names and with the other ids. With one name and one id there is none: 0.
        """
        n, s = len(tracks), len(means)
        if n + s < 3:
            return np.zeros((n, s))
        own = np.stack([self._means[track].values for track in tracks])
        distances = self._log_distances(own, np.concatenate([means, own]))
        distances[np.arange(n), s + np.arange(n)] = np.nan  # of an id to itself
        return self.calibration.evidence(contrasts(distances)[:, :s])

    def gallery(self, names: Mapping[int, str], before: Gallery | None) -> Gallery | None:
        """Return the ids that have names and are known, as a gallery; None if there is none.

        Animals of the gallery `before` are kept, unless they are among these.
        """
        found = {name: self._means[track] for track, name in names.items() if self.knows(track)}
        if not found:
            return None
        if before is not None and before.means.shape[1] == self.size:
            rows = zip(before.names, before.means, before.counts, strict=True)
            found = {name: Mean(values, float(count)) for name, values, count in rows} | found
        scatter, weight = self._discriminant.learnt
        means = np.stack([mean.values for mean in found.values()])
        counts = np.array([mean.count for mean in found.values()])
        return Gallery(tuple(found), means, counts, scatter, weight, self.calibration.learnt)

    def _log_distances(self, values: Floats, others: Floats) -> Floats:
        """Return the logarithms of the squared distances of means (f, D) and (s, D): (f, s)."""
        whitened = self._discriminant.whitened(np.concatenate([values, others]))
        apart = whitened[: len(values), None] - whitened[None, len(values) :]
        return np.asarray(np.log((apart * apart).sum(axis=2) + 1e-9))
