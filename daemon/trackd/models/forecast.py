"""What is expected of the live tracks at one frame, and how well observations fit it.

Three terms, each the log of a two-dimensional Student t density: place (where the filter expects it), burst (an
unexpected movement, within the reach of the box, that forgives any change of size), and size (width and height).

Columns are tracks, of whichever streams. Letters: n instances, M tracks, K pairs, P streams.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from trackd.models import kinematics, learnt, sizes
from trackd.models.kinematics import N_LAPSE, N_MODELS, N_ROWS, QUARTERS, FloatArray
from trackd.tracking.scorer import NEGLIGIBLE

GATE = float(np.log(NEGLIGIBLE))  # log odds below which a pair is far
PRIOR = 2.0 - math.log(2 * math.pi)  # log odds of a sure sighting over a stranger at the same place
STRANGER_WEIGHT = 0.7  # how much of the log of the share of strangers counts
LOST = 0.5  # log odds that a track loses once the last frame missed it,
AGEING = 0.3  # per log of the steps since,
FLEETING = 2.0  # and per log of the steps over the times that it was seen
BURST = 0.4  # std, over the box's sides, of a movement that no filter expects
TAIL = 4.0
RESTLESS_MOST = 9.0
MOST_PAIRS = 400_000  # more take longer than a frame lasts
MOST_RIVALS = 32

# Rows of a track's state after the filters': log width and height, variance of a burst in x and in y over size
# squared, size squared, the last frame, times seen, and a running misfit
LOG_W, LOG_H, REACH_X, REACH_Y, AREA, LAST, HITS, RESTLESS = range(N_ROWS, N_ROWS + 8)
N_STATE = N_ROWS + 8
# Rows of a forecast's table: x y and log width and height; 1 / (TAIL · variance) of place, burst and size; the logs
# at the three peaks; the least that a size may say
EXPECTED, PRECISION, PEAKS, FORGIVEN = slice(0, 4), slice(4, 10), slice(10, 13), 13
N_TABLE = 14
# Rows of a stream's context
_BASE, _STRANGE, _BURSTS, _SPREAD, PEAK = range(5)
_NOISE, _SIZE_NOISE = slice(5, 7), slice(7, 9)


def _lapses() -> FloatArray:
    """The filters' lapses by quarter steps, then what a gap costs, what it costs a fleeting track, and size drift."""
    motion = kinematics.lapses()
    steps = np.maximum(np.arange(motion.shape[1]), 1) / QUARTERS
    gap = np.where(steps > 1.5, np.log(steps), 0.0)
    growth = sizes.DRIFT**2 * np.maximum(steps - 1.0, 0.0)
    return np.vstack([motion, np.where(steps > 1.5, LOST + AGEING * gap, 0.0), FLEETING * gap, growth])


_LAPSES = _lapses()
_GAP, _FLEETING, _GROWTH = range(N_LAPSE, N_LAPSE + 3)

Model = int | NDArray[np.intp]  # of all columns, or of each


def context_of(known: FloatArray) -> tuple[list[float], int]:
    """A column of context, of what a stream has taught, (`learnt.N_LEARNT`,), and the filter that predicts best."""
    values = known.tolist()
    evidence = values[learnt.EVIDENCE]
    model = evidence.index(max(evidence))
    noise_w, noise_h = values[learnt.SIZE_NOISE]
    spread_w, spread_h = values[learnt.SIZE_SPREAD]
    spread = 0.5 * math.log(max(spread_w, noise_w) * max(spread_h, noise_h))
    strangers = math.log(learnt.FIRST_STRANGERS / max(values[learnt.STRANGERS], 1e-4))
    context = [
        PRIOR + STRANGER_WEIGHT * strangers,
        math.log(values[learnt.STRANGE]),
        math.log(values[learnt.BURSTS]),
        spread,
        spread - 0.5 * math.log(noise_w * noise_h),
        values[model],
        values[N_MODELS + model],
        noise_w,
        noise_h,
    ]
    return context, model


def quarters_since(last: FloatArray, frame: FloatArray | int, quarters: FloatArray | float) -> NDArray[np.intp]:
    """Quarter steps, (M,), from the `last` frame that saw each track; `quarters` to a frame index."""
    elapsed = frame - last
    elapsed *= quarters
    elapsed += 0.5
    return np.asarray(elapsed.astype(np.intp))


def prior_of(lapse: NDArray[np.intp], hits: FloatArray, context: FloatArray) -> FloatArray:
    """Log odds of each track before anything is compared, (M,), `lapse` quarter steps after it was last seen."""
    gap, fleeting = _LAPSES[_GAP : _FLEETING + 1].take(lapse, axis=1, mode="clip")
    fleeting /= hits
    fleeting += gap
    return np.asarray(np.subtract(context[_BASE], fleeting, out=fleeting))


def possible(lapse: NDArray[np.intp], prior: FloatArray, context: FloatArray, model: Model) -> NDArray[np.bool_]:
    """Which tracks an instance at the best place could still be, (M,)."""
    noise = context[_NOISE]
    best = np.log1p(kinematics.drift(_LAPSES, lapse, model))
    best += 0.5 * np.log(noise[0] * noise[1])
    np.subtract(context[PEAK], best, out=best)
    np.maximum(best, 0.0, out=best)
    best += prior
    return np.asarray(best > GATE)


def foresee(
    state: FloatArray, quarters: NDArray[np.intp], prior: FloatArray, context: FloatArray, model: Model
) -> tuple[FloatArray, NDArray[np.float32]]:
    """States (`N_STATE`, M) after a lapse, and the table (`N_TABLE`, M) that observations are compared with."""
    lapse = _LAPSES.take(quarters, axis=1, mode="clip")
    predicted = np.empty_like(state)
    kinematics.predict(state[:N_ROWS], lapse[:N_LAPSE], predicted[:N_ROWS])
    predicted[N_ROWS:] = state[N_ROWS:]
    place = kinematics.position(predicted, model)
    total = np.maximum(state[RESTLESS], 1.0)
    np.minimum(total, RESTLESS_MOST, out=total)
    total *= place[0] + 1.0
    variance = np.empty((6, state.shape[1]))  # of place and burst: over size squared
    np.multiply(context[_NOISE], total, out=variance[0:2])
    np.add(variance[0:2], state[REACH_X : REACH_Y + 1], out=variance[2:4])
    np.add(context[_SIZE_NOISE], lapse[_GROWTH], out=variance[4:6])
    logs = np.log(variance)
    peaks = logs[0::2] + logs[1::2]
    peaks *= -0.5
    peaks[0:2] += prior
    peaks[1:3] += context[_BURSTS : _SPREAD + 1]
    variance[0:4] *= state[AREA]
    variance *= TAIL
    table = np.empty((N_TABLE, state.shape[1]), np.float32)
    table[0:2] = place[2:]
    table[2:4] = state[LOG_W : LOG_H + 1]
    np.divide(1.0, variance, out=table[PRECISION])
    table[PEAKS] = peaks
    table[FORGIVEN] = context[_STRANGE]
    return predicted, table


def reach_and_area(size: FloatArray, reach: FloatArray, area: NDArray[np.float64]) -> None:
    """Variance (2, m) of a burst over size squared, and size squared (m,), of log sizes (2, m)."""
    side = np.exp(size)
    np.multiply(side[0], side[1], out=area)
    np.divide(side, side[::-1], out=reach)
    reach *= BURST**2


def terms_of(observed: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of three two-dimensional Student t densities, (3, …): place, burst and size.

    Args:
        observed: (4, …) x y, log width and height.
        table: (`N_TABLE`, …) what is expected.
    """
    off = observed - table[EXPECTED]
    off *= off
    fit = np.empty((3, 2, *off.shape[1:]), np.float32)
    precision = table[PRECISION].reshape(3, 2, *table.shape[1:])
    np.multiply(off[0:2], precision[0:2], out=fit[0:2])
    np.multiply(off[2:4], precision[2], out=fit[2])
    terms = fit[:, 0] + fit[:, 1]
    terms += np.float32(1)
    np.log(terms, out=terms)
    terms *= np.float32(-0.5 * (TAIL + 2))
    terms += table[PEAKS]
    return np.asarray(terms)


def usual(terms: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-likelihood ratio of a usual movement, whose size is never worse evidence than one that is forgiven."""
    logits = np.maximum(terms[2], table[FORGIVEN])
    logits += terms[0]
    return np.asarray(logits)


def combine(terms: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of (3, …) terms: the usual movement and size, or a burst."""
    logits = usual(terms, table)
    return np.asarray(np.maximum(logits, terms[1], out=logits))


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


def near_pairs(observed: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.intp]:
    """Pairs that could score above the gate, (2, K): rows, ascending, and columns."""
    place_peak, burst_peak, size_peak = table[PEAKS]
    top = np.stack([place_peak + np.maximum(size_peak, 0), burst_peak])  # (2, M)
    reach = np.expm1(np.maximum(top - np.float32(GATE), 0) * np.float32(2 / (TAIL + 2)))
    place, burst = reach[:, None] / table[PRECISION][0:4].reshape(2, 2, -1)
    reach_x, reach_y = np.sqrt(np.maximum(place, burst))
    expected_x, expected_y = table[EXPECTED][0:2]
    order = np.argsort(observed[0], kind="stable")
    x = observed[0][order]
    first = np.searchsorted(x, expected_x - reach_x)
    count = np.searchsorted(x, expected_x + reach_x, side="right") - first
    if count.sum() > MOST_PAIRS:
        return _nearest_pairs(observed, table)
    columns = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    ranks = np.arange(len(columns)) - np.repeat(start - first, count)
    rows = order[ranks]
    near = np.flatnonzero(np.abs(observed[1][rows] - expected_y[columns]) <= reach_y[columns])
    rows, columns = rows[near], columns[near]
    by_row = np.argsort(rows * len(count) + columns)
    return np.stack([rows[by_row], columns[by_row]])


def _nearest_pairs(observed: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.intp]:
    """As `near_pairs`, in a crowd where nearly all pairs are near: those of the nearest references alone."""
    k = min(MOST_RIVALS, table.shape[1])
    finite = np.flatnonzero(np.isfinite(observed[:2]).all(axis=0))
    _, columns = cKDTree(table[EXPECTED][:2].T).query(observed[:2, finite].T, k=[*range(1, k + 1)])
    return np.stack([np.repeat(finite, k), np.sort(columns, axis=1).ravel()])
