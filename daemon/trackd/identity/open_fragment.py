"""Open fragments: those seen lately, what is believed of each, and what each assignment of them to ids costs.

Letters: n fragments, s suspects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.identity.arrays import Arrays, integers, numbers_of, put_numbers, rows
from trackd.identity.fragment import Fragment
from trackd.identity.memory import Mean, means_of, put_means

ENOUGH = 5  # samples from which a fragment is compared
UNEXPLAINED = 8.0  # cost of a fragment that is none of its suspects
NEVER = 1e6
Floats = NDArray[np.float64]
Belief = dict[int, float]  # log probability of each suspect


@dataclass(slots=True)
class OpenFragment:
    """A fragment that was seen lately."""

    fragment: Fragment
    mean: Mean
    track: int = -1  # the id that it is known to have; −1: not known yet
    suspected: bool = False
    waiting: list[Mean] = field(default_factory=list)  # chunks that its id does not have yet
    prior: Belief = field(default_factory=dict)  # before its samples
    evidence: dict[int, float] = field(default_factory=dict)  # of its samples, for each suspect that is known
    belief: Belief = field(default_factory=dict)  # after its samples

    @property
    def is_comparable(self) -> bool:
        """Whether it has enough samples."""
        return self.mean.count >= ENOUGH

    def begin_again(self, track: int) -> None:
        """Its id is another one (−1: not known), and what was believed of it was wrong."""
        self.track, self.suspected = track, False
        self.waiting, self.prior, self.evidence, self.belief = [], {}, {}, {}


def put_open(arrays: Arrays, fragments: Iterable[OpenFragment], size: int) -> None:
    """Add open fragments of D = `size` features, without the fragments themselves."""
    found = list(fragments)
    arrays["open"] = rows(((each.fragment.number, each.track, int(each.suspected)) for each in found), 3)
    put_means(arrays, "open", (each.mean for each in found), size)
    arrays["open.chunks"] = integers(len(each.waiting) for each in found)
    put_means(arrays, "open.waiting", (chunk for each in found for chunk in each.waiting), size)
    put_numbers(arrays, "open.prior", (each.prior for each in found))
    put_numbers(arrays, "open.evidence", (each.evidence for each in found))
    put_numbers(arrays, "open.belief", (each.belief for each in found))


def open_of(
    arrays: Mapping[str, NDArray[Any]], by_number: Mapping[int, Fragment], size: int
) -> dict[int, OpenFragment]:
    """Return the open fragments that `put_open` was given, by number.

    Raises:
        KeyError, ValueError: they are missing or do not belong together.
    """
    chunks, counts = means_of(arrays, "open.waiting", size), arrays["open.chunks"].tolist()
    if min(counts, default=0) < 0 or sum(counts) != len(chunks):
        raise ValueError("the chunks do not belong to the open fragments")
    columns = (
        arrays["open"].tolist(), means_of(arrays, "open", size), counts, numbers_of(arrays, "open.prior"),
        numbers_of(arrays, "open.evidence"), numbers_of(arrays, "open.belief"),
    )  # fmt: skip
    found = {}
    waiting = iter(chunks)
    for (number, track, suspected), mean, count, prior, evidence, belief in zip(*columns, strict=True):
        own = [next(waiting) for _ in range(count)]
        found[number] = OpenFragment(
            by_number[number], mean, track, bool(suspected), own, prior, evidence, belief
        )  # fmt: skip
    return found


def costs_of(group: list[OpenFragment], suspects: list[int]) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return what each assignment of fragments to suspects costs.

    Returns:
        (n, s + n) by all that is believed, and by the samples alone; in column s + i fragment i is no suspect.
        (n,) The column of each fragment's own id; s + i if that is not known, as of a new track.
    """
    n, s = len(group), len(suspects)
    costs = np.full((n, s + n), NEVER)
    samples_alone = costs.copy()
    own = np.empty(n, np.intp)
    for row, each in enumerate(group):
        for column, track in enumerate(suspects):
            if track in each.belief:
                costs[row, column] = -each.belief[track]
                samples_alone[row, column] = -each.evidence.get(track, 0.0)
        track = each.fragment.track
        is_known = track in suspects
        own[row] = suspects.index(track) if is_known else s + row
        costs[row, s + row] = UNEXPLAINED if is_known else -each.prior.get(track, 0.0)
        samples_alone[row, s + row] = UNEXPLAINED if is_known else 0.0
    return costs, samples_alone, own


def exchanged_rows(own: NDArray[np.intp], best: NDArray[np.intp]) -> list[list[int]]:
    """Return the rows whose best column is not their own; together those of which one takes the column of another.

    So each part can be decided and applied without the others.
    """
    row_of = {column: row for row, column in enumerate(own.tolist())}
    parts: list[list[int]] = []
    for row in np.flatnonzero(best != own).tolist():
        onto = row_of.get(int(best[row]))  # this one must have another column too
        joined = [part for part in parts if onto in part or any(row_of.get(int(best[each])) == row for each in part)]
        parts = [part for part in parts if part not in joined]
        parts.append(sorted({row, *(each for part in joined for each in part)}))
    return parts


def lead(costs: Floats, chosen: NDArray[np.intp], row: int) -> float:
    """Return by how much the best assignment is worse in which this row has another column than the chosen one."""
    other = costs.copy()
    other[row, chosen[row]] = NEVER
    rows, columns = linear_sum_assignment(other)
    return float(other[rows, columns].sum() - costs[rows, chosen].sum())
