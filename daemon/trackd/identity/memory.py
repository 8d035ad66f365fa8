"""The memory: what the animal of each id looks like, and how features are compared with that.

Letters: k samples, D features, f fragments, s ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.identity.arrays import Arrays, integers
from trackd.identity.calibration import Calibration, contrasts, together
from trackd.identity.discriminant import Discriminant
from trackd.identity.gallery import MAX_FEATURES, Gallery

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

    def copy(self) -> Mean:
        """Return one that can be changed."""
        return Mean(self.values, self.count)

    def add(self, values: Floats, count: float) -> None:
        """Add the mean of more samples."""
        self.count = min(self.count, MOST) + count
        self.values = self.values + (values - self.values) * (count / self.count)


def put_means(arrays: Arrays, name: str, means: Iterable[Mean], size: int) -> None:
    """Add means of D = `size` features."""
    found = list(means)
    arrays[name + ".counts"] = np.array([mean.count for mean in found], np.float64)
    arrays[name + ".values"] = np.array([mean.values for mean in found], np.float64).reshape(-1, size)


def means_of(arrays: Mapping[str, NDArray[Any]], name: str, size: int) -> list[Mean]:
    """Return the means that `put_means` was given.

    Raises:
        KeyError, ValueError: they are missing or do not belong together.
    """
    counts, values = arrays[name + ".counts"], arrays[name + ".values"]
    if values.shape != (len(counts), size):
        raise ValueError(f"the means {name!r} must have the shape {(len(counts), size)}; got {values.shape}")
    return [Mean(row.copy(), count) for row, count in zip(values, counts.tolist(), strict=True)]


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

    def snapshot(self) -> Arrays:
        """Return all that is known, between two calls of `update`."""
        scatter, weight = self._discriminant.learnt
        line = {"calibration.line": self.calibration.line}
        kinds = {f"calibration.{kind}": values for kind, values in self.calibration.learnt.items()}
        found: Arrays = {
            "size": integers([self.size]),
            "scatter": scatter[np.triu_indices(self.size)],  # it is symmetric
            "weight": np.array([weight]),
            "ids": integers(self._means),
            **line,
            **kinds,
        }
        put_means(found, "ids", self._means.values(), self.size)
        return found

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Memory:
        """Return what `snapshot` was made of.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        (size,) = arrays["size"].tolist()
        if not 0 < size <= MAX_FEATURES:
            raise ValueError(f"features must have 1 to {MAX_FEATURES} numbers; got {size}")
        made = cls(size)
        (weight,) = arrays["weight"].tolist()
        scatter = np.zeros((size, size))
        scatter[np.triu_indices(size)] = arrays["scatter"]
        made._discriminant = Discriminant.of(scatter + np.triu(scatter, 1).T, weight)
        kinds = {name.removeprefix("calibration."): each for name, each in arrays.items() if "calibration." in name}
        line = kinds.pop("line")
        made.calibration = Calibration(kinds)
        made.calibration.line = line
        made._means = dict(zip(arrays["ids"].tolist(), means_of(arrays, "ids", size), strict=True))
        return made

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

    def measure(self, values: Floats, count: float, track: int, across: bool) -> None:
        """Learn how much nearer a mean (D,) is to its own id than to the others.

        Args:
            values: the mean.
            count: of its samples.
            track: its own id.
            across: it is that of a fragment that was confirmed, not of samples that follow others.
        """
        tracks = self.known
        if track in tracks and len(tracks) > 1 and self._discriminant.ready:
            found, own = self.contrasts(values[None])[0], tracks.index(track)
            behind = float(together(count, self._means[track].count))
            self.calibration.add(float(found[own]), np.delete(found, own), behind, across)

    def contrasts(self, values: Floats) -> Floats:
        """Return the contrasts of means (f, D) with all known ids, of which there are at least two: (f, s)."""
        return contrasts(self._log_distances(values, np.stack([self._means[track].values for track in self.known])))

    def evidence(self, values: Floats, count: float) -> dict[int, float]:
        """Return the evidence that a mean (D,) of samples is that of each known id; empty if fewer than two are."""
        tracks = self.known
        if len(tracks) < 2:
            return {}
        behind = together(count, np.array([self._means[track].count for track in tracks]))
        found = self.calibration.evidence(self.contrasts(values[None])[0], behind)
        return dict(zip(tracks, found.tolist(), strict=True))

    def whitened(self, values: Floats) -> Floats:
        """Return means (f, D) so that one animal varies by 1 in every direction."""
        return self._discriminant.whitened(values)

    def evidence_of_pairs(
        self, now: Floats, then: Floats, samples: Floats, there: NDArray[np.bool_], twice: NDArray[np.bool_]
    ) -> Floats:
        """Return the evidence that ids are the same animals as others at another time: (c, s, s).

        Each id of one time is compared with all of the other time, and the other way round.

        Args:
            now: (c, s, D) whitened means of the ids at one time, c times.
            then: (c, s, D) the same at the other time.
            samples: (c, s, s) behind each difference.
            there: (c, s) ids that have a mean at all.
            twice: (c, s) ids that have one at both times; the only mean of another one is not compared with itself.
        """
        squares = (now * now).sum(axis=2)[:, :, None] + (then * then).sum(axis=2)[:, None]
        distances = np.log(np.maximum(squares - 2 * now @ then.swapaxes(1, 2), 0.0) + 1e-9)
        compared = there[:, :, None] & there[:, None] & (twice[:, :, None] | ~np.eye(there.shape[1], dtype=bool))
        distances = np.where(compared, distances, np.nan)
        both = [self.calibration.evidence(contrasts(distances, axis), samples) for axis in (1, 2)]
        return np.nan_to_num((both[0] + both[1]) / 2)

    def replace(self, track: int, mean: Mean | None) -> None:
        """An id has another mean; None: it is not known."""
        self._means.pop(track, None)
        if mean is not None:
            self._means[track] = mean

    def evidence_for_names(self, tracks: list[int], means: Floats, counts: Floats) -> Floats:
        """Return the evidence that each id (f) has the means (s, D) of a gallery, of `counts` (s,) samples: (f, s).

        A contrast is that with the other names and with the other ids. With one name and one id there is none: 0.
        """
        n, s = len(tracks), len(means)
        if n + s < 3:
            return np.zeros((n, s))
        own = np.stack([self._means[track].values for track in tracks])
        distances = self._log_distances(own, np.concatenate([means, own]))
        distances[np.arange(n), s + np.arange(n)] = np.nan  # of an id to itself
        behind = together(np.array([[self._means[track].count] for track in tracks]), counts)
        return self.calibration.evidence(contrasts(distances)[:, :s], behind)

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
