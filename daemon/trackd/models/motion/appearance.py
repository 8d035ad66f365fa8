"""What tracked things look like, cheaply: how bright they are, from their darkest to their lightest parts.

A descriptor says nothing about where in the box the light falls, so an animal may turn. How much a descriptor is worth
is learnt from the stream: where all look alike, or each changes as much as they differ, it says nothing.

Letters: n instances, M tracks, m tracks seen, S slots, D numbers per descriptor, K pairs, G × G samples per box.
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
GAIN = 0.1  # weight of a new descriptor in a track's own, at least
FREEDOM = 3.0  # a descriptor's numbers go together: so many count as independent
TAIL = 4.0
WORST, BEST = -1.0, 1.0  # bounds on what appearance may say
FIRST_NOISE = 0.05  # std of a descriptor about its track's, in units of full brightness, before anything is learnt
LEAST_NOISE = 0.003
FIRST_WEIGHT = 50.0
MEMORY = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """Looks of the instances of one frame."""

    values: NDArray[np.float32]  # (n, D) 0 to 1
    there: NDArray[np.bool_]  # (n,) False: the row holds zeros and says nothing


def describe(image: Image, instances: Instances) -> Descriptors:
    """Means of the sorted samples of each box, bin by bin and channel by channel.

    Args:
        image: (h, w) or (h, w, c), uint8 or uint16.
        instances: boxes outside the image are described by its edge.
    """
    boxes = instances.extents
    there = np.isfinite(boxes).all(axis=1) & instances.valid
    boxes = boxes if there.all() else np.where(there[:, None], boxes, np.float32(0))
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
    return Descriptors(np.where(there[:, None], values, np.float32(0)), there)


def against_rivals(
    looks: NDArray[np.float32], logits: NDArray[np.float32], pairs: NDArray[np.intp] | None
) -> NDArray[np.float32]:
    """Looks less those of the row's best looking track that is near; (n, M) or (K,), at most 0.

    So they choose between tracks, and never speak against the only one.
    """
    near = np.where(logits > GATE, looks, -np.inf)
    if pairs is None:
        best = near.max(axis=1, initial=-np.inf, keepdims=True)
    elif len(looks):
        starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
        best = np.repeat(np.maximum.reduceat(near, starts), np.diff(np.append(starts, len(looks))))
    else:
        return looks
    return np.minimum(np.where(np.isfinite(best), looks - best, np.float32(0)), np.float32(0))


class Appearance:
    """Each track's looks, by slot, and what the stream teaches about their worth."""

    def __init__(self) -> None:
        self._looks = np.zeros((0, BINS), np.float32)  # (S, D)
        self._hits = np.zeros(0, np.float32)  # (S,) descriptors behind them, 0: none
        self._forget_stream(BINS)

    def _forget_stream(self, size: int) -> None:
        self._noise = np.full(size, FIRST_NOISE**2, np.float32)  # (D,) variance about the own track
        self._spread = self._noise.copy()  # (D,) variance about the stream's mean
        self._mean = np.zeros(size, np.float32)
        self._weight = 0.0

    def compare(
        self, descriptors: Descriptors, slots: Slots, pairs: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Log-likelihood ratio of the same track's looks against anyone's, between `WORST` and `BEST`.

        Args:
            descriptors: of n instances.
            slots: (M,) tracks.
            pairs: (2, K) rows and columns, or None for all.

        Returns:
            (K,), or (n, M); 0 where a side has no descriptor.
        """
        values = descriptors.values
        # Tracks may have been born without an image since the last one.
        self._reserve(int(slots.max(initial=-1)) + 1, self._looks.shape[1])
        if values.shape[1] != self._looks.shape[1]:
            return np.zeros((len(values), len(slots)) if pairs is None else pairs.shape[1], np.float32)
        precision = np.sqrt(FREEDOM / (TAIL * values.shape[1] * self._noise))
        ours, theirs = values * precision, self._looks[slots] * precision
        known = self._hits[slots] > 0
        if pairs is None:
            off = ours[:, None] - theirs[None]
            both = descriptors.there[:, None] & known
        else:
            off = ours[pairs[0]] - theirs[pairs[1]]
            both = descriptors.there[pairs[0]] & known[pairs[1]]
        misfit = np.einsum("...d,...d->...", off, off)
        worth = np.log(np.maximum(self._spread / self._noise, 1)).mean() * (FREEDOM / 2)
        ratio = worth - np.float32((TAIL + FREEDOM) / 2) * np.log1p(misfit)
        return np.where(both, np.minimum(np.maximum(ratio, WORST), BEST), 0).astype(np.float32)

    def observe(self, slots: Slots, rows: NDArray[np.intp], descriptors: Descriptors, n_new: int) -> None:
        """Take in what the tracks in (m,) slots look like now; the last `n_new` have no past."""
        self._reserve(int(slots.max()) + 1, descriptors.values.shape[1])
        self._hits[slots[len(slots) - n_new :]] = 0
        there = descriptors.there[rows]
        slots, values = slots[there], descriptors.values[rows[there]]
        if not len(slots):
            return
        hits = self._hits[slots]
        off = values - self._looks[slots]
        self._learn(values, off[hits > 0])
        gain = np.maximum(1 / (hits + 1), np.float32(GAIN))
        self._looks[slots] += gain[:, None] * off
        self._hits[slots] = hits + 1

    def forget(self, slots: Slots) -> None:
        """Tracks in these slots were seen without an image, or begin so."""
        self._hits[slots[slots < len(self._hits)]] = 0

    def _learn(self, values: NDArray[np.float32], off: NDArray[np.float32]) -> None:
        if self._weight == 0.0:
            self._mean, self._weight = values.mean(axis=0), FIRST_WEIGHT
        self._weight = min(self._weight + len(values), MEMORY)
        away = values - self._mean
        rate = np.float32(len(values) / self._weight)
        self._mean += rate * away.mean(axis=0)
        self._spread += rate * ((away * away).mean(axis=0) - self._spread)
        if len(off):
            squared = off * off
            misfit = (squared / self._noise).mean(axis=1, keepdims=True)
            trust = np.float32(TAIL + FREEDOM) / (np.float32(TAIL) + np.float32(FREEDOM) * misfit)
            rate = np.float32(len(off) / self._weight)
            self._noise += rate * ((trust * squared).mean(axis=0) - self._noise)
        np.maximum(self._noise, np.float32(LEAST_NOISE**2), out=self._noise)

    def _reserve(self, capacity: int, size: int) -> None:
        old = len(self._hits)
        if size != self._looks.shape[1]:
            self._looks = np.zeros((old, size), np.float32)
            self._hits[:] = 0
            self._forget_stream(size)
        if capacity > old:
            more = max(capacity, 2 * old, 16) - old
            self._looks = np.concatenate([self._looks, np.zeros((more, size), np.float32)])
            self._hits = np.concatenate([self._hits, np.zeros(more, np.float32)])

    def snapshot(self, slots: Slots) -> State:
        """All of it, for the tracks in these slots."""
        self._reserve(int(slots.max(initial=-1)) + 1, self._looks.shape[1])
        return {
            "looks": self._looks[slots],
            "hits": self._hits[slots],
            "noise": self._noise.copy(),
            "spread": self._spread.copy(),
            "mean": self._mean.copy(),
            "weight": self._weight,
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Become what `snapshot` saw."""
        size = int(np.shape(state["noise"])[0])
        self._looks, self._hits = np.zeros((0, size), np.float32), np.zeros(0, np.float32)
        self._reserve(int(slots.max(initial=-1)) + 1, size)
        self._looks[slots], self._hits[slots] = state["looks"], state["hits"]
        self._noise, self._spread = np.array(state["noise"]), np.array(state["spread"])
        self._mean, self._weight = np.array(state["mean"]), float(state["weight"])
