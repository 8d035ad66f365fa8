"""Association where most pairs cannot match: the same results from the near pairs alone.

Letters: n instances, M live tracks, K pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLAGS, FLOAT, FLOATS32, INT, INTS, compiled, piece
from trackd.tracking.linear_assignment import best_pairs
from trackd.tracking.pair_assignment import best_of_pairs

_MOST_CELLS = 262_144  # of a table that is searched as a whole; a larger search takes seconds for thousands of rows


@compiled(None, INTS, FLOATS32, FLOATS32, nogil=True)
def _softmax(rows: NDArray[np.intp], logits: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
    end = 0
    while end < len(rows):
        start, top = end, np.float32(0.0)
        while end < len(rows) and rows[end] == rows[start]:
            top = max(top, logits[end])
            end += 1
        total = math.exp(-top)
        for k in range(start, end):
            probabilities[k] = math.exp(logits[k] - top)
            total += probabilities[k]
        for k in range(start, end):
            probabilities[k] /= total


@compiled(None, FLOATS32, INTS, INTS, INTS, INTS, INT, FLOAT, FLOATS32, nogil=True)
def _pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    matched_rows: NDArray[np.intp],
    matched_columns: NDArray[np.intp],
    n_tracks: int,
    sharpness: float,
    probabilities: NDArray[np.float32],
) -> None:
    k = 0
    for match in range(len(matched_rows)):
        while rows[k] < matched_rows[match]:
            k += 1
        start, top = k, np.float32(0.0)
        while k < len(rows) and rows[k] == matched_rows[match]:
            top = max(top, scores[k])
            k += 1
        others = n_tracks - (k - start) if n_tracks >= 0 else 1
        total = others * math.exp(-top * sharpness)
        for pair in range(start, k):
            weight = math.exp((scores[pair] - top) * sharpness)
            total += weight
            if columns[pair] == matched_columns[match]:
                probabilities[match] = weight
        probabilities[match] /= total


@piece
def _two_best(
    lines: NDArray[np.intp], scores: NDArray[np.float32], best: NDArray[np.float32], second: NDArray[np.float32]
) -> None:
    """The two largest scores of each line (row or column), at least 0."""
    best[:] = 0.0
    second[:] = 0.0
    for k in range(len(lines)):
        line = lines[k]
        if scores[k] > best[line]:
            second[line] = best[line]
            best[line] = scores[k]
        elif scores[k] > second[line]:
            second[line] = scores[k]


@compiled(None, FLOATS32, INTS, INTS, INT, INT, FLAGS, nogil=True)
def _sure(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    n_rows: int,
    n_columns: int,
    sure: NDArray[np.bool_],
) -> None:
    """Mark the pairs that score more than the best other pairs of their row and of their column together."""
    row_best, row_second = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    column_best, column_second = np.empty(n_columns, np.float32), np.empty(n_columns, np.float32)
    _two_best(rows, scores, row_best, row_second)
    _two_best(columns, scores, column_best, column_second)
    for k in range(len(scores)):
        row, column, score = rows[k], columns[k], scores[k]
        in_row = row_second[row] if score == row_best[row] else row_best[row]
        in_column = column_second[column] if score == column_best[column] else column_best[column]
        sure[k] = score > in_row + in_column


def softmax(rows: NDArray[np.intp], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute a softmax over each row's pairs with a zero "no match" logit; (K,) for (K,) ascending rows and logits."""
    probabilities = np.empty(len(rows), np.float32)
    _softmax(np.ascontiguousarray(rows), np.ascontiguousarray(logits), probabilities)
    return probabilities


def assign_pairs(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    threshold: NDArray[np.float64],
    n_rows: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return what `linear_assignment.best_pairs` returns for a table in which every other pair scores 0.

    A pair that scores more than the best other pairs of its row and of its column together is in the best assignment:
    without it, those two are the most that could be gained. Only the remaining pairs need a search.

    Returns:
        (m,) ascending rows and (m,) columns of the pairs above their column's threshold.
    """
    rows, columns = np.ascontiguousarray(rows), np.ascontiguousarray(columns)
    sure = np.empty(len(scores), np.bool_)
    _sure(scores, rows, columns, n_rows, len(threshold), sure)
    chosen_rows, chosen_columns, chosen = rows[sure], columns[sure], scores[sure]
    open_rows, open_columns = np.ones(n_rows, bool), np.ones(len(threshold), bool)
    open_rows[chosen_rows] = False
    open_columns[chosen_columns] = False
    remaining = np.flatnonzero(open_rows[rows] & open_columns[columns])
    if len(remaining):
        picked = remaining[_best_pairs(scores[remaining], rows[remaining], columns[remaining], n_rows, len(threshold))]
        chosen_rows = np.concatenate([chosen_rows, rows[picked]])
        chosen_columns = np.concatenate([chosen_columns, columns[picked]])
        chosen = np.concatenate([chosen, scores[picked]])
    accepted = np.flatnonzero(chosen > threshold[chosen_columns])
    order = accepted[np.argsort(chosen_rows[accepted], kind="stable")]
    return chosen_rows[order], chosen_columns[order]


@compiled(INT, INTS, INTS)
def _number(lines: NDArray[np.intp], numbers: NDArray[np.intp]) -> int:
    """Write the ascending number of each line that occurs; return how many do. `numbers` holds −1 before."""
    for line in lines:
        numbers[line] = 0
    count = 0
    for line in range(len(numbers)):
        if numbers[line] == 0:
            numbers[line] = count
            count += 1
    return count


def _best_pairs(
    scores: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp], n_rows: int, n_columns: int
) -> NDArray[np.intp]:
    """Return the numbers of the pairs that make the best assignment among themselves."""
    row_numbers, column_numbers = np.full(n_rows, -1), np.full(n_columns, -1)
    n, m = _number(rows, row_numbers), _number(columns, column_numbers)
    row, column = row_numbers[rows], column_numbers[columns]
    if n * m > _MOST_CELLS:
        return best_of_pairs(scores, row, column, m)
    table, numbers = np.zeros((n, m), np.float32), np.full((n, m), -1)
    table[row, column], numbers[row, column] = scores, np.arange(len(scores))
    found = numbers[best_pairs(table)]
    return np.asarray(found[found >= 0])  # other cells of the table are no pairs


def pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    matched_rows: NDArray[np.intp],
    matched_columns: NDArray[np.intp],
    n_tracks: int | None,
    temperature: float,
) -> NDArray[np.float32]:
    """Return what `linear_assignment.pair_probabilities` returns for a table in which every other pair scores 0; (m,).

    Args:
        scores: (K,) at least 0.
        rows: (K,) ascending.
        columns: (K,) ascending within a row.
        matched_rows: (m,) ascending; with their columns, each among the K.
        matched_columns: (m,).
        n_tracks: M; None: all pairs are given, and beside them there is "no match", with a score of 0.
        temperature: of the softmax.
    """
    probabilities = np.empty(len(matched_rows), np.float32)
    _pair_probabilities(
        np.ascontiguousarray(scores), np.ascontiguousarray(rows), np.ascontiguousarray(columns), matched_rows,
        matched_columns, -1 if n_tracks is None else n_tracks, 1.0 / temperature, probabilities,
    )  # fmt: skip
    return probabilities
