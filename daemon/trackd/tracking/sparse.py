"""Association where most pairs are out of the question: the same results from the near pairs alone.

Letters: n instances, M live tracks, K pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.assignment import Matches, assign
from trackd.tracking.rows import Rows


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
        some_rows, row_index = np.unique(rows[rest], return_inverse=True)
        some_columns, column_index = np.unique(columns[rest], return_inverse=True)
        table = np.zeros((len(some_rows), len(some_columns)), np.float32)
        table[row_index, column_index] = scores[rest]
        matches = assign(table, threshold[some_columns], force=False)
        chosen_rows = np.concatenate([chosen_rows, some_rows[matches.rows]])
        chosen_columns = np.concatenate([chosen_columns, some_columns[matches.columns]])
        chosen = np.concatenate([chosen, table[matches.rows, matches.columns]])
    accepted = np.flatnonzero(chosen > threshold[chosen_columns])
    order = accepted[np.argsort(chosen_rows[accepted], kind="stable")]
    return Matches(chosen_rows[order], chosen_columns[order], forced=False)


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
