"""The best one-to-one assignment of instances to tracks, and the thresholds of its pairs.

Jonker and Volgenant's shortest augmenting paths in the form of D. F. Crouse, "On implementing 2D rectangular assignment
algorithms" (IEEE Transactions on Aerospace and Electronic Systems 52, 2016), which scipy's `linear_sum_assignment`
uses as well: of several best assignments both return the same one. This code costs only its arithmetic; one call of
scipy's function takes longer than the assignment of ten rows here.

Letters: n rows (instances), M columns (tracks), m accepted pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT32_TABLE, FLOATS, INT, INTS, compiled, piece

Indices = NDArray[np.intp]

_NO_BOUND = np.empty(0)


@piece
def _assign(costs: NDArray[np.float64], column_of: Indices) -> None:
    """Columns (n,) of the least total cost (n, M), with n at most M."""
    n, m = costs.shape
    row_of = np.full(m, -1)
    row_price, column_price = np.zeros(n), np.zeros(m)  # the dual variables
    path, path_cost = np.empty(m, np.int64), np.empty(m)
    open_columns = np.empty(m, np.int64)
    row_reached, column_reached = np.empty(n, np.bool_), np.empty(m, np.bool_)
    column_of[:] = -1
    for start in range(n):
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
            best, lowest = -1, np.inf
            for place in range(n_open):
                j = open_columns[place]
                cost = least + costs[row, j] - row_price[row] - column_price[j]
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
def _pairs(scores: NDArray[np.float32], rows: Indices, columns: Indices) -> int:
    """Write the best pairs by row; return their number."""
    n, m = len(scores), scores.shape[1]
    if n <= m:
        costs = np.empty((n, m))
        for i in range(n):
            for j in range(m):
                costs[i, j] = -scores[i, j]
        _assign(costs, columns)
        for i in range(n):
            rows[i] = i
        return n
    costs = np.empty((m, n))
    row_of = np.empty(m, np.int64)
    for i in range(n):
        for j in range(m):
            costs[j, i] = -scores[i, j]
    _assign(costs, row_of)
    column_of = np.full(n, -1)
    for j in range(m):
        column_of[row_of[j]] = j
    count = 0
    for i in range(n):
        if column_of[i] >= 0:
            rows[count], columns[count] = i, column_of[i]
            count += 1
    return count


@compiled(INT, FLOAT32_TABLE, FLOATS, INTS, INTS, nogil=True)
def _best_pairs(scores: NDArray[np.float32], above: NDArray[np.float64], rows: Indices, columns: Indices) -> int:
    """As `_pairs`, but only pairs whose score exceeds their column's value in `above`; all if `above` is empty."""
    count = _pairs(scores, rows, columns)
    if len(above) == 0:
        return count
    kept = 0
    for k in range(count):
        if scores[rows[k], columns[k]] > above[columns[k]]:
            rows[kept], columns[kept] = rows[k], columns[k]
            kept += 1
    return kept


def best_pairs(scores: NDArray[np.float32], above: NDArray[np.float64] = _NO_BOUND) -> tuple[Indices, Indices]:
    """Return the pairs of the largest total score, as many as the shorter side has.

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
    count = _best_pairs(np.ascontiguousarray(scores, np.float32), above, rows, columns)
    return rows[:count], columns[:count]


def thresholds(overlap_thresh: float, mult_thresh: bool, observations: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the value that a pair's score must exceed, (M,).

    It is `overlap_thresh`; with `mult_thresh` multiplied by the track's observations in the window, (M,).
    """
    if not mult_thresh:
        return np.full(len(observations), overlap_thresh)
    return np.multiply(observations, overlap_thresh, dtype=np.float64)
