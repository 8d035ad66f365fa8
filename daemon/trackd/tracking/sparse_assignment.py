"""The best one-to-one assignment among near pairs, where a row may also stay unmatched.

Shortest augmenting paths as in linear_assignment.py, with a heap: a path visits the pairs of its rows, not all columns.
It runs without the interpreter lock, unlike scipy's `min_weight_full_bipartite_matching`: with thousands of instances
at one place the search takes long, and other streams must not wait for it.

Letters: n rows (instances), m columns (tracks), K pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOATS32, INT, INTS, compiled, piece

Indices = NDArray[np.intp]

_FREE, _ALONE = -1, -2  # as a row's column: not searched yet; stays unmatched


@piece
def _push(keys: NDArray[np.float64], columns: Indices, size: int, key: float, column: int) -> None:
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if keys[above] <= key:
            break
        keys[at], columns[at] = keys[above], columns[above]
        at = above
    keys[at], columns[at] = key, column


@piece
def _pop(keys: NDArray[np.float64], columns: Indices, size: int) -> None:
    """Remove the first of `size` elements."""
    key, column = keys[size - 1], columns[size - 1]
    size -= 1
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[at], columns[at] = keys[below], columns[below]
        at = below
    keys[at], columns[at] = key, column


@compiled(None, FLOATS32, INTS, INTS, INT, INTS, nogil=True)
def _assign(scores: NDArray[np.float32], first: Indices, columns: Indices, m: int, column_of: Indices) -> None:
    n = len(first) - 1
    row_of = np.full(m, _FREE)
    row_price, column_price = np.zeros(n), np.zeros(m)  # the dual variables; costs are −score, and 0 for no match
    # A row takes its best column if that is free. Rows that do not are searched for.
    for i in range(n):
        column_of[i] = _FREE
        best = _FREE
        for k in range(first[i], first[i + 1]):
            if -scores[k] < row_price[i]:
                row_price[i] = -np.float64(scores[k])
                best = columns[k]
        if best == _FREE:
            column_of[i] = _ALONE
        elif row_of[best] == _FREE:
            column_of[i], row_of[best] = best, i
    path_cost, path_row = np.full(m, np.inf), np.empty(m, np.int64)
    is_reached = np.zeros(m, np.bool_)
    seen, reached = np.empty(m, np.int64), np.empty(m, np.int64)
    heap_keys, heap_columns = np.empty(len(scores) + 1), np.empty(len(scores) + 1, np.int64)
    for start in range(n):
        if column_of[start] != _FREE:
            continue
        # Find the cheapest path from this row to a free column, or to a row that can give its column up.
        n_seen, n_reached, size = 0, 0, 0
        row, least = start, 0.0
        end_cost, end_row, sink = np.inf, start, -1
        while True:
            if least - row_price[row] < end_cost:
                end_cost, end_row = least - row_price[row], row
            for k in range(first[row], first[row + 1]):
                j = columns[k]
                if is_reached[j]:
                    continue
                cost = least - np.float64(scores[k]) - row_price[row] - column_price[j]
                if cost < path_cost[j] and cost < end_cost:
                    if path_cost[j] == np.inf:
                        seen[n_seen] = j
                        n_seen += 1
                    path_cost[j], path_row[j] = cost, row
                    _push(heap_keys, heap_columns, size, cost, j)
                    size += 1
            while size > 0 and is_reached[heap_columns[0]]:
                _pop(heap_keys, heap_columns, size)
                size -= 1
            if size == 0 or heap_keys[0] >= end_cost:
                least = end_cost
                break
            j, least = heap_columns[0], heap_keys[0]
            if row_of[j] == _FREE:
                sink = j
                break
            _pop(heap_keys, heap_columns, size)
            size -= 1
            is_reached[j] = True
            reached[n_reached] = j
            n_reached += 1
            row = row_of[j]
        row_price[start] += least
        for at in range(n_reached):
            j = reached[at]
            row_price[row_of[j]] += least - path_cost[j]
            column_price[j] -= least - path_cost[j]
        if sink == -1:
            i, j = end_row, column_of[end_row]
            column_of[i] = _ALONE
        else:
            i, j = -1, sink
        while i != start:
            i = path_row[j]
            row_of[j] = i
            j, column_of[i] = column_of[i], j
        for at in range(n_seen):
            path_cost[seen[at]] = np.inf
            is_reached[seen[at]] = False


def best_among(
    scores: NDArray[np.float32], rows: Indices, columns: Indices, n_rows: int, n_columns: int
) -> tuple[Indices, Indices]:
    """Return the pairs of the largest total score among those given; any row may stay unmatched.

    Args:
        scores: (K,) above 0 for a pair that may be returned.
        rows: (K,) from 0 to `n_rows` − 1.
        columns: (K,) from 0 to `n_columns` − 1.
        n_rows: n.
        n_columns: m.

    Returns:
        ascending rows, and their columns.
    """
    order = np.argsort(rows, kind="stable")
    first = np.zeros(n_rows + 1, np.intp)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=first[1:])
    column_of = np.empty(n_rows, np.intp)
    ordered_scores = np.ascontiguousarray(scores[order], np.float32)
    _assign(ordered_scores, first, np.ascontiguousarray(columns[order], np.intp), n_columns, column_of)
    matched = np.flatnonzero(column_of >= 0)
    return matched, column_of[matched]
