"""Tables side by side: the rows of all of them, one after the other in one flat array.

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
    """Where the rows of tables (n, m) lie; every m is at least 1."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes = shapes
        self._first = [0, *accumulate(n * m for n, m in shapes)]
        self._first_row = [0, *accumulate(n for n, _ in shapes)]
        if len(shapes) == 1:
            n, m = shapes[0]
            self._starts = np.arange(0, n * m, m)
            self._widths: int | NDArray[np.intp] = m
        else:
            widths = np.repeat([m for _, m in shapes], [n for n, _ in shapes])
            self._starts, self._widths = widths.cumsum() - widths, widths

    def table(self, values: Floats, number: int) -> Floats:
        """The part of (K,) values that is one table's, (n, m); a view."""
        return values[self._first[number] : self._first[number + 1]].reshape(self.shapes[number])

    def part(self, values: Floats, number: int) -> Floats:
        """The part of (R,) values that is one table's, (n,); a view."""
        return values[self._first_row[number] : self._first_row[number + 1]]

    def spread(self, values: Floats) -> Floats:
        """(R,) values, each as often as its row is wide; (K,)."""
        return values.repeat(self._widths)

    def per_row(self, values: Sequence[float]) -> Floats:
        """One value for each table to one for each of its rows, (R,)."""
        return np.repeat(np.array(values, np.float32), [n for n, _ in self.shapes])

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

    def sharpened(self, scores: Floats, temperatures: Sequence[float], others: Sequence[int]) -> tuple[Floats, Floats]:
        """Weights (K,) and their totals (R,) of softmax(S / temperature) over each row.

        Args:
            scores: (K,) at least 0.
            temperatures: of each table.
            others: of each table, further columns that are 0 in every row.
        """
        first = temperatures[0]
        if all(temperature == first for temperature in temperatures):
            weights = scores * np.float32(1.0 / first)
        else:
            weights = scores * self.spread(self.per_row([1.0 / temperature for temperature in temperatures]))
        top = np.maximum.reduceat(weights, self._starts)
        weights -= self.spread(top)
        np.exp(weights, out=weights)
        total = np.add.reduceat(weights, self._starts)
        if any(others):
            total += self.per_row(others) * np.exp(-top)
        return weights, total
