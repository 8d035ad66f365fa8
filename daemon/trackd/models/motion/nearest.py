"""The nearest tracks of every instance: for crowds in which nearly all pairs are near.

Letters: n instances, M tracks, k tracks per instance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT_TABLE, FLOATS, INT, INT_TABLE, INTS, compiled

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def nearest_pairs(observed: Floats, centres: Floats, most: int) -> Indices:
    """Return the pairs of every instance with its nearest tracks, (2, K), by row and then by column.

    Args:
        observed: (n, ≥ 2) x y of the instances; a row that is not finite has no pairs.
        centres: (M, 2) x y of the tracks, finite.
        most: k, the most tracks per instance.
    """
    finite = np.flatnonzero(np.isfinite(observed[:, :2]).all(axis=1))
    rows = finite[np.argsort(observed[finite, 0], kind="stable")]
    order = np.argsort(centres[:, 0], kind="stable")
    k = min(most, len(order))
    columns = np.empty((len(observed), k), np.intp)
    x, y = np.ascontiguousarray(centres[order, 0]), np.ascontiguousarray(centres[order, 1])
    _nearest(observed, rows, x, y, order, k, columns)
    return np.stack([np.repeat(finite, k), columns[finite].ravel()])


@compiled(None, FLOAT_TABLE, INTS, FLOATS, FLOATS, INTS, INT, INT_TABLE, nogil=True)
def _nearest(observed: Floats, rows: Indices, x: Floats, y: Floats, order: Indices, k: int, columns: Indices) -> None:
    """Write the k nearest tracks of each of the `rows`, ascending, to their row of `columns`.

    The search goes outwards from the instance's x and ends where the distance along x alone is too long. Among tracks
    at one x it begins at another one for every instance, so that instances at one point do not all get the same tracks.

    Args:
        observed: (n, ≥ 2) x y of the instances.
        rows: by ascending x.
        x: (M,) of the tracks, ascending.
        y: (M,).
        order: (M,) their columns.
        k: at most M.
        columns: (n, k).
    """
    n_tracks = len(x)
    found, distances = np.empty(k, np.int64), np.empty(k)
    for rank in range(len(rows)):
        here_x, here_y = observed[rows[rank], 0], observed[rows[rank], 1]
        first, last = np.searchsorted(x, here_x), np.searchsorted(x, here_x, side="right")
        right = first + rank * (last - first) // len(rows)
        left = right - 1
        count = 0
        for _ in range(n_tracks):
            to_left = here_x - x[left] if left >= 0 else np.inf
            to_right = x[right] - here_x if right < n_tracks else np.inf
            if to_right <= to_left:
                at, away = right, to_right
                right += 1
            else:
                at, away = left, to_left
                left -= 1
            if count == k and away * away >= distances[k - 1]:
                break
            distance = away * away + (y[at] - here_y) ** 2
            if count < k:
                count += 1
            elif not distance < distances[k - 1]:
                continue
            place = count - 1
            while place > 0 and distances[place - 1] > distance:
                distances[place], found[place] = distances[place - 1], found[place - 1]
                place -= 1
            distances[place], found[place] = distance, order[at]
        found.sort()
        columns[rows[rank]] = found
