"""A cheap appearance model: the brightness of a box, from its darkest to its lightest parts.

A descriptor does not depend on where in the box the bright parts are, so an animal may turn. The weight of appearance
follows from the stream's statistics: it is 0 if all tracks look alike, or if one track varies as much as all of them.

Letters: n instances, M tracks, m matched tracks, S slots, D numbers per descriptor, K pairs, G × G samples per box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion.predict import GATE
from trackd.tracking.instances import Instances
from trackd.tracking.window import Slots, State
from trackd_client.detections import Image

GRID = 12
BINS = 12
CELLS = (np.arange(GRID, dtype=np.float32) + np.float32(0.5)) / np.float32(GRID)
GAIN = 0.1  # least weight of a new descriptor in the mean of its track
FREEDOM = 3.0  # a descriptor's numbers are correlated: this many count as independent
TAIL = 4.0  # degrees of freedom of the Student t of a descriptor
WORST, BEST = -1.0, 1.0  # bounds on the log likelihood ratio
FIRST_NOISE = 0.05  # std of a descriptor about its track's mean, before the first update; full brightness is 1
MIN_NOISE = 0.003
FIRST_WEIGHT = 50.0  # descriptors that the initial statistics count as
MEMORY = 1000.0  # descriptors that the statistics remember


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """Descriptors of the instances of one frame."""

    values: NDArray[np.float32]  # (n, D) 0 to 1
    valid: NDArray[np.bool_]  # (n,) False: the row has no descriptor, and holds zeros


def describe(image: Image, instances: Instances) -> Descriptors:
    """Describe each box by the means of its sorted samples, per bin and channel.

    Args:
        image: (h, w) or (h, w, c), uint8 or uint16.
        instances: (n). A sample outside the image takes the nearest pixel of its edge.
    """
    boxes = instances.extents
    valid = np.isfinite(boxes).all(axis=1) & instances.valid
    boxes = boxes if valid.all() else np.where(valid[:, None], boxes, np.float32(0))
    height, width = image.shape[:2]
    x = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * CELLS
    y = boxes[:, 1, None] + (boxes[:, 3] - boxes[:, 1])[:, None] * CELLS
    columns = np.clip(x, 0, width - 1).astype(np.intp)
    rows = np.clip(y, 0, height - 1).astype(np.intp)
    n_channels = image.shape[2] if image.ndim == 3 else 1
    samples = image[rows[:, :, None], columns[:, None, :]].reshape(len(boxes), GRID * GRID, n_channels)
    bins = np.sort(samples, axis=1).reshape(len(boxes), BINS, GRID * GRID // BINS, n_channels)
    scale = np.float32(1.0 / np.iinfo(image.dtype).max)
    values = bins.mean(axis=2, dtype=np.float32).reshape(len(boxes), BINS * n_channels) * scale
    return Descriptors(np.where(valid[:, None], values, np.float32(0)), valid)


def relative_to_best(
    ratios: NDArray[np.float32], logits: NDArray[np.float32], pairs: NDArray[np.intp] | None
) -> NDArray[np.float32]:
    """Log likelihood ratios less the highest one of the row's near tracks; (n, M) or (K,), at most 0.

    Appearance then decides between near tracks, and never counts against the only one.
    """
    near = np.where(logits > GATE, ratios, -np.inf)
    if pairs is None:
        best = near.max(axis=1, initial=-np.inf, keepdims=True)
    elif len(ratios):
        starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
        best = np.repeat(np.maximum.reduceat(near, starts), np.diff(np.append(starts, len(ratios))))
    else:
        return ratios
    return np.minimum(np.where(np.isfinite(best), ratios - best, np.float32(0)), np.float32(0))


class Appearance:
    """The mean descriptor of each track, by slot, and the stream's statistics."""

    def __init__(self) -> None:
        self._means = np.zeros((0, BINS), np.float32)  # (S, D)
        self._hits = np.zeros(0, np.float32)  # (S,) descriptors behind each mean; 0: none
        self._reset_statistics(BINS)

    def _reset_statistics(self, size: int) -> None:
        self._noise = np.full(size, FIRST_NOISE**2, np.float32)  # (D,) variance about the track's mean
        self._spread = self._noise.copy()  # (D,) variance about the stream's mean
        self._mean = np.zeros(size, np.float32)
        self._weight = 0.0

    def compare(
        self, descriptors: Descriptors, slots: Slots, pairs: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Log likelihood ratios of the same track against any track, between `WORST` and `BEST`.

        Args:
            descriptors: of n instances.
            slots: (M,) tracks.
            pairs: (2, K) rows and columns; None: all.

        Returns:
            (K,), or (n, M); 0 if the instance or the track has no descriptor.
        """
        values = descriptors.values
        # Tracks may have begun in frames without an image.
        self._reserve(int(slots.max(initial=-1)) + 1, self._means.shape[1])
        if values.shape[1] != self._means.shape[1]:
            return np.zeros((len(values), len(slots)) if pairs is None else pairs.shape[1], np.float32)
        precision = np.sqrt(FREEDOM / (TAIL * values.shape[1] * self._noise))
        instance_values, track_values = values * precision, self._means[slots] * precision
        known = self._hits[slots] > 0
        if pairs is None:
            deviation = instance_values[:, None] - track_values[None]
            both = descriptors.valid[:, None] & known
        else:
            deviation = instance_values[pairs[0]] - track_values[pairs[1]]
            both = descriptors.valid[pairs[0]] & known[pairs[1]]
        misfit = np.einsum("...d,...d->...", deviation, deviation)
        peak = np.log(np.maximum(self._spread / self._noise, 1)).mean() * (FREEDOM / 2)
        ratio = peak - np.float32((TAIL + FREEDOM) / 2) * np.log1p(misfit)
        return np.where(both, np.minimum(np.maximum(ratio, WORST), BEST), 0).astype(np.float32)

    def update(self, slots: Slots, rows: NDArray[np.intp], descriptors: Descriptors, n_new: int) -> None:
        """Update the tracks in (m,) slots, of which the last `n_new` are new, and the statistics."""
        self._reserve(int(slots.max()) + 1, descriptors.values.shape[1])
        self._hits[slots[len(slots) - n_new :]] = 0
        valid = descriptors.valid[rows]
        slots, values = slots[valid], descriptors.values[rows[valid]]
        if not len(slots):
            return
        hits = self._hits[slots]
        deviation = values - self._means[slots]
        self._update_statistics(values, deviation[hits > 0])
        gain = np.maximum(1 / (hits + 1), np.float32(GAIN))
        self._means[slots] += gain[:, None] * deviation
        self._hits[slots] = hits + 1

    def forget(self, slots: Slots) -> None:
        """Remove the descriptors of the tracks in these slots."""
        self._hits[slots[slots < len(self._hits)]] = 0

    def _update_statistics(self, values: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        if self._weight == 0.0:
            self._mean, self._weight = values.mean(axis=0), FIRST_WEIGHT
        self._weight = min(self._weight + len(values), MEMORY)
        stream_deviation = values - self._mean
        rate = np.float32(len(values) / self._weight)
        self._mean += rate * stream_deviation.mean(axis=0)
        self._spread += rate * ((stream_deviation * stream_deviation).mean(axis=0) - self._spread)
        if len(deviation):
            squared = deviation * deviation
            misfit = (squared / self._noise).mean(axis=1, keepdims=True)
            tail_weight = np.float32(TAIL + FREEDOM) / (np.float32(TAIL) + np.float32(FREEDOM) * misfit)
            rate = np.float32(len(deviation) / self._weight)
            self._noise += rate * ((tail_weight * squared).mean(axis=0) - self._noise)
        np.maximum(self._noise, np.float32(MIN_NOISE**2), out=self._noise)

    def _reserve(self, capacity: int, size: int) -> None:
        old = len(self._hits)
        if size != self._means.shape[1]:
            self._means = np.zeros((old, size), np.float32)
            self._hits[:] = 0
            self._reset_statistics(size)
        if capacity > old:
            more = max(capacity, 2 * old, 16) - old
            self._means = np.concatenate([self._means, np.zeros((more, size), np.float32)])
            self._hits = np.concatenate([self._hits, np.zeros(more, np.float32)])

    def snapshot(self, slots: Slots) -> State:
        """The statistics, and the tracks in these slots. The names are part of the journal's format."""
        self._reserve(int(slots.max(initial=-1)) + 1, self._means.shape[1])
        return {
            "looks": self._means[slots],
            "hits": self._hits[slots],
            "noise": self._noise.copy(),
            "spread": self._spread.copy(),
            "mean": self._mean.copy(),
            "weight": self._weight,
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Replace the state by that of a snapshot."""
        size = int(np.shape(state["noise"])[0])
        self._means, self._hits = np.zeros((0, size), np.float32), np.zeros(0, np.float32)
        self._reserve(int(slots.max(initial=-1)) + 1, size)
        self._means[slots], self._hits[slots] = state["looks"], state["hits"]
        self._noise, self._spread = np.array(state["noise"]), np.array(state["spread"])
        self._mean, self._weight = np.array(state["mean"]), float(state["weight"])
