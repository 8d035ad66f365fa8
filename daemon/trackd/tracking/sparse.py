"""Association where most pairs are out of the question: the same results from the near pairs alone.

Letters: n instances, M live tracks, K pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from trackd.tracking.assignment import Matches
from trackd.tracking.rows import Rows

_MOST_CELLS = 262_144  # of a table that is searched as a whole; a crowd of thousands would take seconds


def assign_pairs(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    threshold: NDArray[np.float64],
    n_rows: int,
) -> Matches:
    """What `assignment.assign` gives where every other pair scores 0.

    A pair that scores more than the best others of its row and of its column together is in the best assignment:
    giving it up could win no more than those two. Only what is left after that needs a search.
    """
    sure = scores > _best_other(scores, rows, n_rows) + _best_other(scores, columns, len(threshold))
    chosen_rows, chosen_columns, chosen = rows[sure], columns[sure], scores[sure]
    open_rows, open_columns = np.ones(n_rows, bool), np.ones(len(threshold), bool)
    open_rows[chosen_rows] = False
    open_columns[chosen_columns] = False
    rest = np.flatnonzero(open_rows[rows] & open_columns[columns])
    if len(rest):
        picked = rest[_best_pairs(scores[rest], rows[rest], columns[rest])]
        chosen_rows = np.concatenate([chosen_rows, rows[picked]])
        chosen_columns = np.concatenate([chosen_columns, columns[picked]])
        chosen = np.concatenate([chosen, scores[picked]])
    accepted = np.flatnonzero(chosen > threshold[chosen_columns])
    order = accepted[np.argsort(chosen_rows[accepted], kind="stable")]
    return Matches(chosen_rows[order], chosen_columns[order], forced=False)


def _best_pairs(scores: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Which of the pairs make the best assignment among themselves."""
    some_rows, row = np.unique(rows, return_inverse=True)
    some_columns, column = np.unique(columns, return_inverse=True)
    n, m = len(some_rows), len(some_columns)
    if n * m <= _MOST_CELLS:
        table = np.zeros((n, m), np.float32)
        table[row, column] = scores
        best_rows, best_columns = linear_sum_assignment(table, maximize=True)
    else:
        # A search among the pairs alone, each row with a place of its own to go to where it gets no column. The
        # costs are above 0, since a cost of 0 would be no pair.
        costs = np.concatenate([2.0 - scores, np.full(n, 2.0)])
        places = np.concatenate([row, np.arange(n)]), np.concatenate([column, m + np.arange(n)])
        best_rows, best_columns = min_weight_full_bipartite_matching(csr_array((costs, places), shape=(n, m + n)))
        placed = best_columns < m
        best_rows, best_columns = best_rows[placed], best_columns[placed]
    keys = row * m + column
    order = np.argsort(keys)
    wanted = best_rows * m + best_columns
    found = order[np.minimum(keys.searchsorted(wanted, sorter=order), len(keys) - 1)]
    return np.asarray(found[keys[found] == wanted])  # a table's other cells are no pairs


def _best_other(scores: NDArray[np.float32], lines: NDArray[np.intp], n_lines: int) -> NDArray[np.float32]:
    """The largest score among the other pairs of each pair's line (row or column), 0 where it is alone; (K,)."""
    best = np.zeros(n_lines, np.float32)
    np.maximum.at(best, lines, scores)
    is_best = scores == best[lines]
    second = np.zeros(n_lines, np.float32)
    np.maximum.at(second, lines[~is_best], scores[~is_best])
    tied = np.bincount(lines[is_best], minlength=n_lines) > 1
    second[tied] = best[tied]
    return np.where(is_best, second[lines], best[lines])


def pair_probabilities(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    matches: Matches,
    n_tracks: int,
    temperature: float,
) -> NDArray[np.float32]:
    """What `confidence.pair_probabilities` gives where every other pair scores 0; (m,).

    Args:
        scores: (K,) at least 0.
        rows: (K,) ascending.
        columns: (K,) ascending within a row.
        matches: m accepted pairs, each among the K.
        n_tracks: M.
        temperature: the softmax's.
    """
    if not len(matches.rows):
        return scores[:0]
    layout, row_of = Rows.of_pairs(rows)
    weights, total = layout.sharpened(scores, np.float32(1.0 / temperature), n_tracks - layout.widths)
    at = (rows * n_tracks + columns).searchsorted(matches.rows * n_tracks + matches.columns)
    return np.asarray(weights[at] / total[row_of.searchsorted(matches.rows)], np.float32)
