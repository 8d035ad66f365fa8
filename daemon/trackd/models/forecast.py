"""What is expected of the live tracks at one frame, and how well observations fit it.

Three terms, each the log of a two-dimensional Student t density: place (where the filter expects it), size (width and
height), and burst (an unexpected movement, within the reach of the box, that forgives any change of size).

Letters: n instances, M tracks, K pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from trackd.models.kinematics import TAIL, FloatArray
from trackd.tracking.scorer import NEGLIGIBLE
from trackd.tracking.window import Slots

__all__ = ["GATE", "TAIL", "Forecast", "against_rivals", "combine", "near_pairs", "terms_of"]

GATE = float(np.log(NEGLIGIBLE))  # log odds below which a pair is far


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is expected of the live tracks at one frame."""

    slots: Slots  # (M,) ascending
    state: FloatArray  # (…, M) predicted state, for the scorer
    expected: NDArray[np.float32]  # (6, M) x y, log width and height, x y
    precision: NDArray[np.float32]  # (6, M) 1 / (TAIL · variance)
    constant: NDArray[np.float32]  # (3, M) log of each term's peak


def terms_of(
    off: NDArray[np.float32], precision: NDArray[np.float32], constant: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Log of three two-dimensional Student t densities, (3, …): place, size and burst.

    Args:
        off: (6, …) observed − expected; overwritten.
        precision: (6, …).
        constant: (3, …) the logs at their peaks.
    """
    off *= off
    off *= precision
    terms = off[0::2] + off[1::2]
    terms += np.float32(1)
    np.log(terms, out=terms)
    terms *= np.float32(-0.5 * (TAIL + 2))
    terms += constant
    return terms


def combine(terms: NDArray[np.float32], forgiven: np.float32) -> NDArray[np.float32]:
    """Logits of (3, …) terms: the usual movement and size, or a burst; a size is never worse than `forgiven`."""
    logits = np.maximum(terms[1], forgiven)
    logits += terms[0]
    return np.asarray(np.maximum(logits, terms[2], out=logits))


def against_rivals(
    looks: NDArray[np.float32], logits: NDArray[np.float32], pairs: NDArray[np.intp] | None
) -> NDArray[np.float32]:
    """Looks less those of the row's best looking reference that is near; (n, M) or (K,), at most 0.

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


MOST_PAIRS = 400_000  # more take longer than a frame lasts
MOST_RIVALS = 32


def _nearest_pairs(observed: NDArray[np.float32], forecast: Forecast) -> NDArray[np.intp]:
    """As `near_pairs`, in a crowd where nearly all pairs are near: those of the nearest references alone."""
    k = min(MOST_RIVALS, forecast.expected.shape[1])
    finite = np.flatnonzero(np.isfinite(observed[:2]).all(axis=0))
    _, columns = cKDTree(forecast.expected[:2].T).query(observed[:2, finite].T, k=[*range(1, k + 1)])
    return np.stack([np.repeat(finite, k), np.sort(columns, axis=1).ravel()])


def near_pairs(observed: NDArray[np.float32], forecast: Forecast) -> NDArray[np.intp]:
    """Pairs that could score above the gate, (2, K): rows, ascending, and columns."""
    constant = forecast.constant
    top = np.stack([constant[0] + np.maximum(constant[1], 0), constant[2]])  # (2, M) place, burst
    reach = np.expm1(np.maximum(top - np.float32(GATE), 0) * np.float32(2 / (TAIL + 2)))
    place, burst = reach[0] / forecast.precision[0:2], reach[1] / forecast.precision[4:6]
    reach_x, reach_y = np.sqrt(np.maximum(place, burst))
    order = np.argsort(observed[0], kind="stable")
    x = observed[0][order]
    first = np.searchsorted(x, forecast.expected[0] - reach_x)
    count = np.searchsorted(x, forecast.expected[0] + reach_x, side="right") - first
    if count.sum() > MOST_PAIRS:
        return _nearest_pairs(observed, forecast)
    columns = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    ranks = np.arange(len(columns)) - np.repeat(start - first, count)
    rows = order[ranks]
    near = np.flatnonzero(np.abs(observed[1][rows] - forecast.expected[1][columns]) <= reach_y[columns])
    rows, columns = rows[near], columns[near]
    by_row = np.argsort(rows * len(count) + columns)
    return np.stack([rows[by_row], columns[by_row]])
