"""Rows of unequal width, one after the other in one flat array: of several tables, or of the near pairs of one.

What is done to a row depends on that row alone, and in the same way however many there are.

Letters: R rows, K numbers in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Rows:
    """Where rows begin and how wide they are; none is empty."""

    def __init__(self, starts: NDArray[np.intp], widths: int | NDArray[np.intp]) -> None:
        """Lay rows out.

        Args:
            starts: (R,) where each begins.
            widths: (R,) or of all.
        """
        self._starts, self._widths = starts, widths

    @classmethod
    def of_pairs(cls, rows: NDArray[np.intp]) -> tuple[Rows, NDArray[np.intp]]:
        """Of pairs by their row, (K,) ascending; and which rows there are, (R,)."""
        starts = np.concatenate([[0], (rows[1:] != rows[:-1]).nonzero()[0] + 1])[: len(rows)]
        return cls(starts, np.diff(starts, append=len(rows))), rows[starts]

    @property
    def widths(self) -> int | NDArray[np.intp]:
        """(R,) or of all."""
        return self._widths

    def spread(self, values: Floats) -> Floats:
        """(R,) values, each as often as its row is wide; (K,)."""
        return values.repeat(self._widths)

    def softmax(self, logits: Floats) -> Floats:
        """Softmax of each row with a zero "no match" logit; (K,), with NaN in a row that is not finite."""
        top = np.maximum.reduceat(logits, self._starts)
        np.maximum(top, 0, out=top)
        weights = logits - self.spread(top)
        np.exp(weights, out=weights)
        total = np.add.reduceat(weights, self._starts)
        total += np.exp(-top)
        weights /= self.spread(total)
        return weights

    def sharpened(
        self, scores: Floats, sharpness: np.float32 | Floats, others: int | Floats | NDArray[np.intp] | None
    ) -> tuple[Floats, Floats]:
        """Weights (K,) and their totals (R,) of softmax(S · sharpness) over each row.

        Args:
            scores: (K,) at least 0.
            sharpness: 1 / temperature, of all or (K,).
            others: (R,) further columns that are 0 in each row, or None where there are none.
        """
        weights = scores * sharpness
        top = np.maximum.reduceat(weights, self._starts)
        weights -= self.spread(top)
        np.exp(weights, out=weights)
        total = np.add.reduceat(weights, self._starts)
        if others is not None:
            total += others * np.exp(-top)
        return weights, total


class Tables(Rows):
    """The rows of several tables (n, m); every m is at least 1."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        self._shapes = shapes
        self._first = [0, *accumulate(n * m for n, m in shapes)]
        self._first_row = [0, *accumulate(n for n, _ in shapes)]
        if len(shapes) == 1:
            n, m = shapes[0]
            super().__init__(np.arange(0, n * m, m), m)
        else:
            widths = np.repeat([m for _, m in shapes], [n for n, _ in shapes])
            super().__init__(widths.cumsum() - widths, widths)

    def table(self, values: Floats, number: int) -> Floats:
        """The part of (K,) values that is one table's, (n, m); a view."""
        return values[self._first[number] : self._first[number + 1]].reshape(self._shapes[number])

    def part(self, values: Floats, number: int) -> Floats:
        """The part of (R,) values that is one table's, (n,); a view."""
        return values[self._first_row[number] : self._first_row[number + 1]]

    def per_row(self, values: Sequence[float]) -> Floats:
        """One value for each table to one for each of its rows, (R,)."""
        return np.repeat(np.array(values, np.float32), [n for n, _ in self._shapes])
