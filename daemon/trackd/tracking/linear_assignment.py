"""The best one-to-one assignment of instances to tracks, the thresholds of its pairs, and their probabilities.

Jonker and Volgenant's shortest augmenting paths in the form of D. F. Crouse, "On implementing 2D rectangular assignment
algorithms" (IEEE Transactions on Aerospace and Electronic Systems 52, 2016), which scipy's `linear_sum_assignment`
uses as well: of several best assignments both return the same one. This code costs only its arithmetic; one call of
scipy's function takes longer than the assignment of ten rows here. The work is bounded: after `MAX_READS` scores are
read, each remaining row gets the best column that is still free. Tables of up to 512 × 512 never need so many.

Letters: n rows (instances), M columns (tracks), m accepted pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_TABLE, FLOATS, FLOATS32, INT, INTS, compiled, piece

Indices = NDArray[np.intp]

MAX_READS = 48_000_000  # scores that are read in the search for paths; about a tenth of a second
LARGE = 65_536  # cells of a table whose search takes a millisecond and more: other threads run meanwhile
_NOTHING = 1e-8  # a score over the temperature that exp() cannot distinguish from 0
_NO_BOUND = np.empty(0)


@piece
def _best_free(scores: NDArray[np.float32], row: int, row_of: Indices) -> int:
    best = -1
    for j in range(len(row_of)):
        if row_of[j] == -1 and (best < 0 or scores[row, j] > scores[row, best]):
            best = j
    return best


@piece
def _assign(scores: NDArray[np.float32], column_of: Indices, most: int) -> None:
    """Columns (n,) of the largest total score (n, M), with n at most M; the cost of a pair is minus its score."""
    n, m = scores.shape
    row_of = np.full(m, -1)
    row_price, column_price = np.zeros(n), np.zeros(m)  # the dual variables
    path, path_cost = np.empty(m, np.int64), np.empty(m)
    open_columns = np.empty(m, np.int64)
    row_reached, column_reached = np.empty(n, np.bool_), np.empty(m, np.bool_)
    column_of[:] = -1
    reads = 0
    for start in range(n):
        if reads >= most:
            j = _best_free(scores, start, row_of)
            row_of[j], column_of[start] = start, j
            continue
        # Find the cheapest path from this row to a free column, through columns that change their row.
        path_cost[:] = np.inf
        row_reached[:] = False
        column_reached[:] = False
        n_open = m
        for j in range(m):
            open_columns[j] = m - 1 - j
        row, sink, least = start, -1, 0.0
        while sink == -1:
            row_reached[row] = True
            reads += n_open
            best, lowest = -1, np.inf
            for place in range(n_open):
                j = open_columns[place]
                cost = least - scores[row, j] - row_price[row] - column_price[j]
                if cost < path_cost[j]:
                    path[j] = row
                    path_cost[j] = cost
                if path_cost[j] < lowest or (path_cost[j] == lowest and row_of[j] == -1):
                    lowest = path_cost[j]
                    best = place
            least = lowest
            j = open_columns[best]
            column_reached[j] = True
            n_open -= 1
            open_columns[best] = open_columns[n_open]
            if row_of[j] == -1:
                sink = j
            else:
                row = row_of[j]
        row_price[start] += least
        for i in range(n):
            if row_reached[i] and i != start:
                row_price[i] += least - path_cost[column_of[i]]
        for j in range(m):
            if column_reached[j]:
                column_price[j] -= least - path_cost[j]
        j = sink
        while True:
            i = path[j]
            row_of[j] = i
            j, column_of[i] = column_of[i], j
            if i == start:
                break


@piece
def _pairs(scores: NDArray[np.float32], rows: Indices, columns: Indices, most: int) -> int:
    """Write the best pairs by row; return their number."""
    n, m = len(scores), scores.shape[1]
    if n <= m:
        _assign(scores, columns, most)
        for i in range(n):
            rows[i] = i
        return n
    turned = np.empty((m, n), np.float32)
    row_of = np.empty(m, np.int64)
    for i in range(n):
        for j in range(m):
            turned[j, i] = scores[i, j]
    _assign(turned, row_of, most)
    column_of = np.full(n, -1)
    for j in range(m):
        column_of[row_of[j]] = j
    count = 0
    for i in range(n):
        if column_of[i] >= 0:
            rows[count], columns[count] = i, column_of[i]
            count += 1
    return count


@piece
def _pairs_above(
    scores: NDArray[np.float32], above: NDArray[np.float64], rows: Indices, columns: Indices, most: int
) -> int:
    """As `_pairs`, but only pairs whose score exceeds their column's value in `above`; all if `above` is empty."""
    count = _pairs(scores, rows, columns, most)
    if len(above) == 0:
        return count
    kept = 0
    for k in range(count):
        if scores[rows[k], columns[k]] > above[columns[k]]:
            rows[kept], columns[kept] = rows[k], columns[k]
            kept += 1
    return kept


@compiled(INT, FLOAT32_TABLE, FLOATS, INTS, INTS, INT)
def _best_pairs(
    scores: NDArray[np.float32], above: NDArray[np.float64], rows: Indices, columns: Indices, most: int
) -> int:
    return _pairs_above(scores, above, rows, columns, most)


@compiled(INT, FLOAT32_TABLE, FLOATS, INTS, INTS, INT, nogil=True)
def _best_pairs_of_many(
    scores: NDArray[np.float32], above: NDArray[np.float64], rows: Indices, columns: Indices, most: int
) -> int:
    return _pairs_above(scores, above, rows, columns, most)


def best_pairs(scores: NDArray[np.float32], above: NDArray[np.float64] = _NO_BOUND) -> tuple[Indices, Indices]:
    """Return the pairs of the largest total score, as many as the shorter side has.

    If the search would read more than `MAX_READS` scores, the total may be less than the largest.

    Args:
        scores: (n, M) finite.
        above: (M,) a pair whose own score does not exceed its column's value is removed from the result. Empty: no
            pair is removed.

    Returns:
        (m,) ascending rows and (m,) columns.
    """
    n = min(scores.shape)
    rows, columns = np.empty(n, np.intp), np.empty(n, np.intp)
    if not n:
        return rows, columns
    search = _best_pairs if scores.size < LARGE else _best_pairs_of_many
    count = search(np.ascontiguousarray(scores, np.float32), above, rows, columns, MAX_READS)
    return rows[:count], columns[:count]


def thresholds(overlap_thresh: float, mult_thresh: bool, observations: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the value that a pair's score must exceed, (M,).

    It is `overlap_thresh`; with `mult_thresh` multiplied by the track's observations in the window, (M,).
    """
    if not mult_thresh:
        return np.full(len(observations), overlap_thresh)
    return np.multiply(observations, overlap_thresh, dtype=np.float64)


@piece
def _probabilities_of(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    sharpness: float,
    others: int,
    probabilities: NDArray[np.float32],
) -> None:
    for k in range(len(rows)):
        row = scores[rows[k]]
        top = 0.0 if others else row[0]
        for score in row:
            top = max(top, score)
        nothing = math.exp(-top * sharpness)
        total = others * nothing
        for score in row:
            total += nothing if abs(score) * sharpness < _NOTHING else math.exp((score - top) * sharpness)
        probabilities[k] = math.exp((row[columns[k]] - top) * sharpness) / total


@compiled(None, FLOAT32_TABLE, INTS, INTS, FLOAT, INT, FLOATS32)
def _pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    sharpness: float,
    others: int,
    probabilities: NDArray[np.float32],
) -> None:
    _probabilities_of(scores, rows, columns, sharpness, others, probabilities)


@compiled(None, FLOAT32_TABLE, INTS, INTS, FLOAT, INT, FLOATS32, nogil=True)
def _pair_probabilities_of_many(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    sharpness: float,
    others: int,
    probabilities: NDArray[np.float32],
) -> None:
    _probabilities_of(scores, rows, columns, sharpness, others, probabilities)


def pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    temperature: float,
    others: int = 0,
) -> NDArray[np.float32]:
    """Compute softmax(S / temperature) over the tracks, at the matched track; (m,), 0 to 1.

    Args:
        scores: (n, M).
        rows: (m,) matched instances.
        columns: (m,) their tracks.
        temperature: of the softmax.
        others: further tracks, whose scores are 0 in every row.
    """
    probabilities = np.empty(len(rows), np.float32)
    compute = _pair_probabilities if scores.size < LARGE else _pair_probabilities_of_many
    compute(np.ascontiguousarray(scores, np.float32), rows, columns, 1.0 / temperature, others, probabilities)
    return probabilities


@compiled(INT, FLOAT32_TABLE, FLOAT, FLOAT, FLOAT, FLOAT, FLOATS, INTS, INTS, FLOATS32, INT)
def _likeliest_pairs(
    log_odds: NDArray[np.float32],
    threshold: float,
    caution: float,
    scale: float,
    sharpness: float,
    above: NDArray[np.float64],
    rows: Indices,
    columns: Indices,
    probabilities: NDArray[np.float32],
    most: int,
) -> int:
    """Write the pairs of `likeliest_pairs`; return their number, or −1 if a logit is NaN or plus infinity."""
    n, m = log_odds.shape
    gains, table = np.empty((n, m), np.float32), np.empty((n, m), np.float32)
    least, added, factor = np.float32(threshold), np.float32(caution), np.float32(scale)
    for i in range(n):
        for j in range(m):
            value = log_odds[i, j]
            if not value < np.inf:
                return -1
            gains[i, j] = max(value - least, np.float32(0.0))
            table[i, j] = factor * (value + added)
    count = _pairs_above(gains, above, rows, columns, most)
    _probabilities_of(table, rows[:count], columns[:count], sharpness, 1, probabilities)
    return count


def likeliest_pairs(
    log_odds: NDArray[np.float32],
    threshold: float,
    caution: float,
    scale: float,
    temperature: float,
    above: NDArray[np.float64],
) -> tuple[Indices, Indices, NDArray[np.float32]] | None:
    """Return `best_pairs` of log odds over a threshold, and their `pair_probabilities`, in one compiled call.

    Args:
        log_odds: (n, M), of a table that is not `LARGE`.
        threshold: log odds that count as 0, as all below do.
        caution: added to the log odds before their probabilities are computed.
        scale: of log odds as scores.
        temperature: of the softmax, in which "no match" is one more track of score 0.
        above: (M,) as of `best_pairs`.

    Returns:
        (m,) ascending rows, (m,) columns and (m,) probabilities; None if a number is NaN or plus infinity.
    """
    n = min(log_odds.shape)
    rows, columns, probabilities = np.empty(n, np.intp), np.empty(n, np.intp), np.empty(n, np.float32)
    count = _likeliest_pairs(
        np.ascontiguousarray(log_odds, np.float32), threshold, caution, scale, 1.0 / temperature, above, rows, columns,
        probabilities, MAX_READS,
    )  # fmt: skip
    if count < 0:
        return None
    if count == n:
        return rows, columns, probabilities
    return rows[:count], columns[:count], probabilities[:count]
