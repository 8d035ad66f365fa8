"""The history: the last fragments of a stream with the ids that they had, and whether ids were exchanged between them.

What is found of a fragment when it is new may be wrong: little is known of the animals then. So the history is looked
at again as more is seen. At each *cut*, where a fragment began, what the ids looked like before is compared with what
they look like since. Where another assignment of the animals since then to the ids before is clearly better, these ids
were exchanged at that cut.

Letters: h fragments, c cuts, a ids, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.identity.arrays import Arrays, integers, rows
from trackd.identity.calibration import together
from trackd.identity.fragment import Fragment
from trackd.identity.memory import Mean, Memory, means_of, put_means
from trackd.identity.open_fragment import ENOUGH, NEVER, UNEXPLAINED

KEPT = 128  # fragments; of older ones only the means of their ids are kept
MOST_COMPARED = 16384  # pairs of ids, over all cuts
REVIEW = 4.0  # log odds by which another assignment must be better
CHANGE = 2.0  # cost of each id that was exchanged; any contact may have been the one
BIRTH = 0.7  # cost of a new id that is an old one: about as likely as not, and the cut is known
Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Entry:
    """One fragment, and the id that it had."""

    fragment: Fragment
    mean: Mean  # grows while the fragment is seen
    track: int
    is_settled: bool = False  # its id was found by its samples, or is certain


@dataclass(frozen=True, slots=True)
class Exchange:
    """Ids that were exchanged at a cut."""

    cut: int  # the number of the first fragment after it
    since: int  # its frame_index
    moved: dict[int, int]  # the id that each of these ids should have had since then
    known: frozenset[int]  # ids that were known before the cut
    odds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Sums over the samples of each id on both sides of c cuts, whitened."""

    first: int  # the entry at which the first cut is
    then: Floats  # (c, a, D) before
    counts_then: Floats  # (c, a)
    now: Floats  # (c, a, D) since
    counts_now: Floats  # (c, a)


class History:
    """The last fragments of one stream. Not thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}  # by the number of the fragment, ascending
        self._base: dict[int, Mean] = {}  # by id; of the fragments before those

    @property
    def fragments(self) -> list[Fragment]:
        """All fragments of it."""
        return [each.fragment for each in self._entries.values()]

    def snapshot(self, size: int) -> Arrays:
        """Return all of it, without the fragments themselves; `size` is D."""
        entries = ((number, each.track, int(each.is_settled)) for number, each in self._entries.items())
        found: Arrays = {"history": rows(entries, 3), "base": integers(self._base)}
        put_means(found, "history", (each.mean for each in self._entries.values()), size)
        put_means(found, "base", self._base.values(), size)
        return found

    @classmethod
    def restored(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        by_number: Mapping[int, Fragment],
        shared: Mapping[int, Mean],
        size: int,
    ) -> History:
        """Return what `snapshot` was made of.

        Args:
            arrays: as it returned them.
            by_number: the fragments, by number.
            shared: by number, the means that grow with those of other places.
            size: D.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        made, own = cls(), means_of(arrays, "history", size)
        for (number, track, is_settled), mean in zip(arrays["history"].tolist(), own, strict=True):
            made._entries[number] = _Entry(by_number[number], shared.get(number, mean), track, bool(is_settled))
        made._base = dict(zip(arrays["base"].tolist(), means_of(arrays, "base", size), strict=True))
        return made

    def add(self, fragment: Fragment, mean: Mean, is_settled: bool) -> None:
        """Add a fragment that has begun; its mean may grow later."""
        self._entries[fragment.number] = _Entry(fragment, mean, fragment.track, is_settled)
        while len(self._entries) > KEPT:
            oldest = self._entries.pop(next(iter(self._entries)))
            _add(self._base, oldest.track, oldest.mean)

    def keep(self, live: set[int]) -> None:
        """Forget all other ids."""
        self._entries = {number: each for number, each in self._entries.items() if each.track in live}
        self._base = {track: mean for track, mean in self._base.items() if track in live}

    def forget(self, tracks: Set[int], current: Set[int]) -> None:
        """Forget what these ids were before, as far as it is not in current fragments (their numbers)."""
        if tracks:
            self._base = {track: mean for track, mean in self._base.items() if track not in tracks}
            self._entries = {
                number: each for number, each in self._entries.items() if each.track not in tracks or number in current
            }

    def follow(self, number: int, track: int) -> None:
        """The track of a fragment whose id is not known has this id now."""
        each = self._entries.get(number)
        if each is not None and not each.is_settled:
            each.track = track

    def settle(self, number: int, track: int) -> None:
        """A fragment has this id, and so have those before it of the same track whose ids were not known."""
        each = self._entries.get(number)
        if each is None:
            return
        each.track, each.is_settled = track, True
        while each.fragment.before is not None and (each := self._entries.get(each.fragment.before)) is not None:
            if each.is_settled:
                return
            each.track = track

    def merge(self, track: int, into: int) -> None:
        """All fragments of one id are those of another one."""
        for each in self._entries.values():
            if each.track == track:
                each.track = into
        if track in self._base:
            _add(self._base, into, self._base.pop(track))

    def move(self, cut: int, moved: Mapping[int, int]) -> None:
        """Fragments from a cut on had other ids."""
        for number, each in self._entries.items():
            if number >= cut:
                each.track = moved.get(each.track, each.track)

    def mean(self, track: int) -> Mean | None:
        """Return the mean of all settled fragments of an id; None without any."""
        made = {track: self._base[track].copy()} if track in self._base else {}
        for each in self._entries.values():
            if each.track == track and each.is_settled:
                _add(made, track, each.mean)
        return made.get(track)

    def review(self, memory: Memory, seen: Set[int]) -> Exchange | None:
        """Find the exchange of ids for which there is most evidence; None if there is none.

        Args:
            memory: by which features are compared.
            seen: ids of the tracks that are seen now.
        """
        entries = [each for each in self._entries.values() if each.mean.count]
        if len(entries) < 2 or not memory.calibration.ready:
            return None
        ids = sorted({each.track for each in entries} | self._base.keys())
        sides = self._sides(memory, entries, ids)
        counts_then, counts_now = sides.counts_then, sides.counts_now
        is_then, is_now = counts_then >= ENOUGH, counts_now >= ENOUGH
        # An id that is seen on one side of a cut only is another animal than those of the other side: it counts there.
        then, now = (
            sides.then / np.maximum(counts_then, 1.0)[..., None],
            sides.now / np.maximum(counts_now, 1.0)[..., None],
        )
        then, now = np.where(is_then[..., None], then, now), np.where(is_now[..., None], now, then)
        samples = together(
            np.where(is_now, counts_now, counts_then)[:, :, None], np.where(is_then, counts_then, counts_now)[:, None]
        )
        evidence = memory.evidence_of_pairs(now, then, samples, is_now | is_then, is_now & is_then)
        # The ids that an animal since the cut may have had: of animals that are seen since then, or not any more.
        gone = (counts_now == 0.0) & np.array([track not in seen for track in ids])
        free = is_then & (is_now | gone)
        change = np.where(is_then, CHANGE, BIRTH)
        keeps = np.where(is_then, np.diagonal(evidence, axis1=1, axis2=2), 0.0)
        others = np.where(free[:, None] & ~np.eye(len(ids), dtype=bool), evidence, -np.inf).max(axis=2)
        bound = np.where(is_now, np.maximum(others - change - keeps, 0.0), 0.0).sum(axis=1)
        found: Exchange | None = None
        for cut in np.flatnonzero(bound >= REVIEW).tolist():
            moved, odds = _best(evidence[cut], np.flatnonzero(is_now[cut]), np.flatnonzero(free[cut]), change[cut])
            if moved and odds >= REVIEW and (found is None or odds > found.odds):
                by_id = {ids[old]: ids[new] for old, new in moved.items()}
                known = frozenset(np.array(ids)[is_then[cut]].tolist())
                # Their own first fragment since the cut; at the cut itself the fragment of another id may have begun.
                first = next(each.fragment for each in entries[sides.first + cut :] if each.track in by_id)
                found = Exchange(first.number, first.frame_index, by_id, known, odds)
        return found

    def _sides(self, memory: Memory, entries: list[_Entry], ids: list[int]) -> _Sides:
        """Sum the samples of each id before and since each cut; only the last cuts where there are many ids."""
        column = {track: i for i, track in enumerate(ids)}
        h, a = len(entries), len(ids)
        means = [each.mean for each in entries] + list(self._base.values())
        whitened = memory.whitened(np.stack([mean.values for mean in means]))
        counts = np.zeros((len(means), a))
        counts[np.arange(h), [column[each.track] for each in entries]] = [each.mean.count for each in entries]
        for row, track in enumerate(self._base, h):
            counts[row, column[track]] = means[row].count
        first = max(1, h - MOST_COMPARED // (a * a))
        after = slice(first, h)
        total, since = counts.T @ whitened, counts[after].T @ whitened[after]
        between, steps = counts[first : h - 1, :, None] * whitened[first : h - 1, None], counts[first : h - 1]
        then = np.cumsum(np.concatenate([(total - since)[None], between])[: h - first], axis=0)
        counts_then = np.cumsum(np.concatenate([(counts.sum(axis=0) - counts[after].sum(axis=0))[None], steps]), axis=0)
        counts_then = counts_then[: h - first]
        return _Sides(first, then, counts_then, total - then, counts.sum(axis=0) - counts_then)


def _add(means: dict[int, Mean], track: int, mean: Mean) -> None:
    if mean.count:
        means.setdefault(track, Mean(np.zeros_like(mean.values))).add(mean.values, mean.count)


def _best(
    evidence: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp], change: Floats
) -> tuple[dict[int, int], float]:
    """Find the best assignment of the animals since a cut (rows) to the ids before it (columns).

    Returns:
        The places of the ids that have changed, by their old ones; empty without any, or if one animal is none of
        those before. And the log odds of this assignment over the tracker's.
    """
    n, s = len(rows), len(columns)
    place = {column: i for i, column in enumerate(columns.tolist())}
    own = np.array([place.get(row, s + i) for i, row in enumerate(rows.tolist())], np.intp)
    costs = np.full((n, s + n), NEVER)
    costs[:, :s] = change[rows, None] - evidence[np.ix_(rows, columns)]
    costs[np.arange(n), s + np.arange(n)] = np.where(own < s, UNEXPLAINED, 0.0)
    costs[np.arange(n), own] -= np.where(own < s, change[rows], 0.0)
    _, best = linear_sum_assignment(costs)
    changed = np.flatnonzero(best != own)
    if (best[changed] >= s).any():
        return {}, 0.0
    odds = costs[np.arange(n), own].sum() - costs[np.arange(n), best].sum()
    return {int(rows[row]): int(columns[best[row]]) for row in changed}, float(odds)
