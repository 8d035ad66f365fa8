"""The best one-to-one assignment among given pairs of instances and tracks, where a table of all would be too large.

Shortest augmenting paths as in `linear_assignment`, along the pairs alone. An instance may also stay without a track.
The work is bounded: after `MAX_STEPS` pairs are read, each remaining instance gets the best track that is still free.

Letters: n rows (instances), M columns (tracks), K pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOATS32, INT, INTS, compiled, piece

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]

MAX_STEPS = 1 << 21  # pairs that are read in the search for paths; some hundredths of a second


def best_of_pairs(scores: NDArray[np.float32], rows: Indices, columns: Indices, n_columns: int) -> Indices:
    """Return the numbers of the pairs with the largest total score, each row and each column in one at most.

    Args:
        scores: (K,) above 0.
        rows: (K,) ascending from 0, without a gap.
        columns: (K,) below `n_columns`.
        n_columns: M.
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-1, append=int(rows[-1]) + 1))
    chosen = np.empty(len(starts) - 1, np.intp)
    _search(scores, starts, np.ascontiguousarray(columns), n_columns, MAX_STEPS, chosen)
    return chosen[chosen >= 0]


@piece
def _push(heap: Floats, items: Indices, size: int, cost: float, item: int) -> int:
    """Add an item to a binary heap; return its new size."""
    place = size
    while place > 0 and heap[(place - 1) // 2] > cost:
        heap[place], items[place] = heap[(place - 1) // 2], items[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place], items[place] = cost, item
    return size + 1


@piece
def _pop(heap: Floats, items: Indices, size: int) -> int:
    """Remove the first item of a binary heap; return its new size."""
    size -= 1
    cost, item = heap[size], items[size]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= cost:
            break
        heap[place], items[place] = heap[child], items[child]
        place = child
    heap[place], items[place] = cost, item
    return size


@piece
def _take_free(scores: NDArray[np.float32], first: int, last: int, columns: Indices, row_of: Indices) -> int:
    """The best of a row's pairs whose column is free, or −1."""
    best = -1
    for pair in range(first, last):
        if row_of[columns[pair]] < 0 and (best < 0 or scores[pair] > scores[best]):
            best = pair
    return best


@compiled(INT, FLOATS32, INTS, INTS, INT, INT, INTS, nogil=True)
def _search(
    scores: NDArray[np.float32], starts: Indices, columns: Indices, n_columns: int, most: int, chosen: Indices
) -> int:
    """Write the pair of each row to `chosen` (n,), −1 for none; return the number of pairs that were read.

    The cost of a pair is minus its score; a row without a pair costs 0. `starts` (n + 1,) is where each row's pairs
    begin.
    """
    n = len(chosen)
    chosen[:] = -1
    row_of = np.full(n_columns, -1)
    row_price, column_price = np.zeros(n), np.zeros(n_columns)  # the dual variables
    path_cost, path_pair = (
        np.empty(n_columns),
        np.empty(n_columns, np.int64),
    )  # the best path to a column, its last pair
    reached = np.full(n_columns, -1)  # the last search that reached a column, and that knew a path to it
    known = np.full(n_columns, -1)
    order = np.empty(n_columns, np.int64)  # the columns reached in this search
    row_at = np.empty(len(columns), np.int64)
    for i in range(n):
        row_at[starts[i] : starts[i + 1]] = i
    heap, items = np.empty(len(columns) + 1), np.empty(len(columns) + 1, np.int64)
    steps = 0
    for start in range(n):
        if steps >= most:
            chosen[start] = _take_free(scores, starts[start], starts[start + 1], columns, row_of)
            if chosen[start] >= 0:
                row_of[columns[chosen[start]]] = start
            continue
        size, n_reached = 0, 0
        row, least = start, 0.0
        end_row, end_cost = -1, np.inf  # the cheapest path after which a row has no pair
        sink = -1
        while True:
            steps += starts[row + 1] - starts[row]
            if least - row_price[row] < end_cost:
                end_row, end_cost = row, least - row_price[row]
            for pair in range(starts[row], starts[row + 1]):
                column = columns[pair]
                if reached[column] == start:
                    continue
                cost = least - scores[pair] - row_price[row] - column_price[column]
                if known[column] != start or cost < path_cost[column]:
                    known[column] = start
                    path_cost[column], path_pair[column] = cost, pair
                    size = _push(heap, items, size, cost, column)
            while size > 0 and reached[items[0]] == start:
                size = _pop(heap, items, size)
            if size == 0 or heap[0] >= end_cost:
                least = end_cost
                break
            column, least = items[0], heap[0]
            size = _pop(heap, items, size)
            reached[column] = start
            order[n_reached] = column
            n_reached += 1
            if row_of[column] < 0:
                sink = column
                break
            row = row_of[column]
        row_price[start] += least
        for k in range(n_reached):
            column = order[k]
            if row_of[column] >= 0:
                row_price[row_of[column]] += least - path_cost[column]
            column_price[column] -= least - path_cost[column]
        # Exchange the pairs along the path, from its end to its start.
        if sink < 0:
            if end_row == start:
                continue
            sink, chosen[end_row] = columns[chosen[end_row]], -1
        pair = path_pair[sink]
        while True:
            row, column = row_at[pair], columns[pair]
            before = chosen[row]
            chosen[row], row_of[column] = pair, row
            if row == start:
                break
            pair = path_pair[columns[before]]
    return steps
