"""Rows of state by integer key, as arrays: one row for each track or pair of a rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Mask = NDArray[np.bool_]
MOST_ROWS = 65_536  # the rows with the highest keys stay: tracks whose end was never published have low ids


class Table:
    """Columns of equal length, ordered by key.

    Args:
        defaults: for each column the value of a new row; its type is the column's.
    """

    def __init__(self, **defaults: Any) -> None:
        self.keys: Keys = np.empty(0, np.int64)
        self._asked: tuple[Keys, NDArray[np.intp]] | None = None  # the last call of `rows`, and its answer
        self._defaults = {name: np.asarray(value) for name, value in defaults.items()}
        self.columns = {name: np.empty(0, value.dtype) for name, value in self._defaults.items()}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def find(self, keys: Keys) -> tuple[NDArray[np.intp], Mask]:
        """Return for each key its row, and whether it has one."""
        rows = np.searchsorted(self.keys, keys)
        if not len(self.keys):
            return rows, np.zeros(len(keys), bool)
        return rows, self.keys[np.minimum(rows, len(self.keys) - 1)] == keys

    def rows(self, keys: Keys) -> NDArray[np.intp]:
        """Return the row of each key; keys that have none get one.

        Args:
            keys: (n,) ascending, without repetition, at most `MOST_ROWS`; it must not be changed later.
        """
        if self._asked is not None and self._asked[0] is keys:
            return self._asked[1]
        rows, known = self.find(keys)
        if known.all():
            self._asked = keys, rows
            return rows
        self._asked = None
        missing = keys[~known]
        places = rows[~known]
        self.keys = np.insert(self.keys, places, missing)
        for name, default in self._defaults.items():
            self.columns[name] = np.insert(self.columns[name], places, default)
        if len(self.keys) > MOST_ROWS:
            stays = np.isin(self.keys, keys)
            spare = np.flatnonzero(~stays)
            stays[spare[len(self.keys) - MOST_ROWS :]] = True
            self.keep(stays)
        return np.searchsorted(self.keys, keys)

    def keep(self, mask: Mask) -> None:
        """Delete the rows where `mask` is false."""
        if mask.all():
            return
        self._asked = None
        self.keys = self.keys[mask]
        for name, column in self.columns.items():
            self.columns[name] = column[mask]
