"""Identities: what each animal looks like, learnt while the stream runs, and which id a fragment therefore has.

A fragment that has other suspects than its own id is compared with all of them. It begins with what was believed of the
track's fragment before it, less certain by the contact or the gap in between. The best assignment of the last fragments
of all tracks to ids is then

- the one that the tracker gave: fragments whose samples agree are *confirmed*, and their ids learn from them;
- another one, by clear evidence: these ids were exchanged;
- neither clearly: more samples decide.

What was found may be wrong, above all while little is known. So the history is looked at again as more is seen.

Letters: k samples, D features, n fragments, s suspects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.identity.arrays import Arrays
from trackd.identity.beliefs import Beliefs
from trackd.identity.fragment import Fragment
from trackd.identity.gallery import Gallery
from trackd.identity.history import History
from trackd.identity.memory import KNOWN, Mean, Memory
from trackd.identity.open_fragment import (
    OpenFragment,
    costs_of,
    exchanged_rows,
    lead,
    open_of,
    put_open,
)
from trackd.identity.recognition import recognised
from trackd.identity.verdict import Verdict

CHUNK = 15  # samples of a fragment that count as one measurement
LAG = 4  # chunks that a known id learns later
EXCHANGE = 2.5  # log odds by which another assignment must be better than the tracker's
SUSPECT = 1.0  # by which it must be better for an event
# Evidence of its samples by which the id of a fragment must be better than any other: if it is known, and if it is
# that of a new track, which cannot get the id of a lost one later.
CONFIRM, CONFIRM_NEW = 1.5, 4.0
Floats = NDArray[np.float64]


class Identities:
    """What the animals of one stream look like. Not thread-safe."""

    def __init__(self, gallery: Gallery | None = None) -> None:
        """Start with what is known from a gallery, if there is one."""
        self._gallery = gallery
        self._memory: Memory | None = None if gallery is None else Memory(gallery.means.shape[1], gallery)
        self._open: dict[int, OpenFragment] = {}  # by the number of the fragment, ascending
        self._history = History()
        self._beliefs = Beliefs()

    def learn(
        self,
        samples: Sequence[tuple[Fragment, Floats]],
        live: set[int],
        current: set[int],
        seen: set[int],
        names: Mapping[int, str | None] = MappingProxyType({}),
        trusted: Set[int] = frozenset(),
    ) -> list[Verdict]:
        """Take the samples of some frames, and return what follows from all so far.

        Args:
            samples: of each fragment that was seen, its features (k, D).
            live: ids of the live tracks.
            current: numbers of the fragments that have not ended.
            seen: ids of the tracks that are seen now.
            names: of the live tracks that are not to be recognised: their names, or None for none at all.
            trusted: ids that people have corrected since the last call; what they had before is not looked at again.
        """
        if samples:
            self._use(samples[0][1].shape[1])
        memory = self._memory
        if memory is None:
            return []
        memory.keep(live)
        self._history.keep(live)
        self._open = {number: each for number, each in self._open.items() if each.fragment.track in live}
        for fragment, features in sorted(samples, key=lambda sample: sample[0].number):
            self._take(memory, fragment, features)
        self._history.forget(trusted, current)
        memory.update()
        self._beliefs.weigh(memory, self._open)
        verdicts = [found for group in self._groups(seen) for found in self._judge(memory, group, current)]
        memory.calibration.update()
        if not any(verdict.moved and not verdict.suspected for verdict in verdicts):
            verdicts += self._review(memory, seen)
        verdicts += self._recognise(memory, names)
        self._end(memory, current)
        return verdicts

    def gallery(self, names: Mapping[int, str]) -> Gallery | None:
        """Return what the named animals look like; None if none of them is known well enough."""
        return None if self._memory is None else self._memory.gallery(names, self._gallery)

    def _use(self, size: int) -> None:
        """Use features of this size; where it has changed, nothing that was learnt can be compared."""
        if self._memory is None or self._memory.size != size:
            self._gallery = None
            self._memory, self._open, self._beliefs = Memory(size), {}, Beliefs()
            self._history = History()

    # --- samples ---

    def _take(self, memory: Memory, fragment: Fragment, features: Floats) -> None:
        if fragment.number not in self._open:
            certain = fragment.suspects == {fragment.track}
            made = OpenFragment(fragment, Mean(np.zeros(memory.size)), fragment.track if certain else -1)
            self._open[fragment.number] = made
            self._history.add(fragment, made.mean, certain)
        each = self._open[fragment.number]
        mean, count = features.mean(axis=0), len(features)
        each.mean.add(mean, count)
        memory.vary(features - (memory.of(each.track) if memory.knows(each.track) else each.mean).values)
        if each.track >= 0:
            self._remember(memory, each, mean, count)

    def _remember(self, memory: Memory, each: OpenFragment, mean: Floats, count: int) -> None:
        """Add samples to the id of a fragment, those of a known id after `LAG` more chunks.

        A chunk is compared with what the id was some time before, as a fragment after a contact will be.
        """
        own = memory.of(each.track)
        if own.count < KNOWN:
            own.add(mean, count)
            return
        if each.waiting and each.waiting[-1].count < CHUNK:
            each.waiting[-1].add(mean, count)
        else:
            each.waiting.append(Mean(mean, count))
        newest = each.waiting[-1]
        if newest.count >= CHUNK:
            memory.measure(newest.values, newest.count, each.track, False)
            if len(each.waiting) > LAG:
                oldest = each.waiting.pop(0)
                own.add(oldest.values, oldest.count)

    def _end(self, memory: Memory, current: set[int]) -> None:
        """Give the ids all samples of the fragments that have ended, and keep what was believed of them."""
        for number, each in self._open.items():
            if number not in current:
                for chunk in each.waiting:
                    memory.of(each.track).add(chunk.values, chunk.count)
                each.waiting = []
        kept = current | {each.fragment.number for each in self._latest().values()}
        for number in [number for number in self._open if number not in kept]:
            self._beliefs.keep(number, self._open)
            del self._open[number]

    # --- verdicts ---

    def _latest(self) -> dict[int, OpenFragment]:
        """Return the last fragment of each track, by id."""
        return {each.fragment.track: each for each in self._open.values()}

    def _groups(self, seen: set[int]) -> list[list[OpenFragment]]:
        """Return the last fragments of the tracks whose ids are not known; those with common suspects together."""
        groups: list[tuple[set[int], list[OpenFragment]]] = []
        for track, each in self._latest().items():
            if each.track >= 0 or track not in seen:
                continue
            suspects, members, apart = set(each.fragment.suspects), [each], []
            for group in groups:
                if group[0] & suspects:
                    suspects |= group[0]
                    members = group[1] + members
                else:
                    apart.append(group)
            groups = [*apart, (suspects, members)]
        return [members for _, members in groups]

    def settle(self, verdict: Verdict) -> None:
        """Take note that the tracks of `verdict.moved` get their other ids; called before their fragments get them."""
        memory = self._memory
        if memory is None:
            return
        _, merged = verdict.exchanges()
        if verdict.cut is None:
            for fragment, track in verdict.moved:
                if fragment.number in self._open:
                    self._settle(memory, self._open[fragment.number], track)
            for track, into in merged.items():
                self._history.merge(track, into)
            return
        moved = {fragment.track: track for fragment, track in verdict.moved}
        self._history.move(verdict.cut, moved)
        self._beliefs.forget_since(verdict.cut)
        for number, each in self._open.items():
            if number >= verdict.cut:
                each.begin_again(moved.get(each.track, each.track))
        for track in sorted({*moved, *moved.values()}):
            memory.replace(track, self._history.mean(track))

    def _review(self, memory: Memory, seen: set[int]) -> list[Verdict]:
        """Look again at what was found before."""
        latest = self._latest()
        for number, each in self._open.items():
            if each.track < 0:
                self._history.follow(number, each.fragment.track)
        found = self._history.review(memory, seen)
        if found is None or not found.moved.keys() <= latest.keys():
            return []
        moved = tuple((latest[track].fragment, into) for track, into in found.moved.items())
        return [Verdict(moved=moved, evidence=found.odds, cut=found.cut, since=found.since, known=found.known)]

    def _judge(self, memory: Memory, group: list[OpenFragment], current: set[int]) -> list[Verdict]:
        """Find which ids the fragments of one group have."""
        taken = {each.track for each in self._latest().values() if each.track >= 0 and each.fragment.number in current}
        known = set(memory.known)
        suspects = sorted({track for each in group for track in each.fragment.suspects} & (known - taken))
        if not memory.calibration.ready or not suspects:
            # Nothing can be compared: the tracker is believed. A new track waits, since it may be a lost one.
            believed = [each for each in group if not suspects or memory.of(each.fragment.track).count]
            return self._confirm(memory, [each for each in believed if each.is_comparable])
        costs, samples_alone, own = costs_of(group, suspects)
        _, best = linear_sum_assignment(costs)
        agree = []
        for row in np.flatnonzero(best == own).tolist():
            each, is_known = group[row], own[row] < len(suspects)
            if is_known and each.evidence.get(each.fragment.track, 0.0) <= 0.0:
                continue
            if each.is_comparable and lead(samples_alone, own, row) >= (CONFIRM if is_known else CONFIRM_NEW):
                agree.append(each)
        verdicts = self._confirm(memory, agree)
        for rows in exchanged_rows(own, best):
            if (best[rows] >= len(suspects)).any():
                continue  # two fragments look like one animal
            odds = float((costs[rows, own[rows]] - costs[rows, best[rows]]).sum())
            moved = tuple((group[row].fragment, suspects[best[row]]) for row in rows)
            if odds >= EXCHANGE:
                verdicts.append(Verdict(moved=moved, evidence=odds, known=frozenset(known)))
            elif odds >= SUSPECT and not all(group[row].suspected for row in rows):
                for row in rows:
                    group[row].suspected = True
                verdicts.append(Verdict(moved=moved, suspected=True, evidence=odds, known=frozenset(known)))
        return verdicts

    def _confirm(self, memory: Memory, members: list[OpenFragment]) -> list[Verdict]:
        for each in members:
            self._settle(memory, each, each.fragment.track)
        return [Verdict(confirmed=tuple(each.fragment for each in members))] if members else []

    def _settle(self, memory: Memory, each: OpenFragment, track: int) -> None:
        """A fragment has this id, which learns from its samples."""
        memory.measure(each.mean.values, each.mean.count, track, True)
        each.track = track
        self._history.settle(each.fragment.number, track)
        memory.of(track).add(each.mean.values, each.mean.count)

    def _recognise(self, memory: Memory, names: Mapping[int, str | None]) -> list[Verdict]:
        """Find the animals of the gallery among the tracks that have no names."""
        if self._gallery is None or not memory.calibration.ready:
            return []
        there = [each for each in self._latest().values() if each.track not in names and memory.knows(each.track)]
        return recognised(memory, self._gallery, there, names)

    # --- over a restart ---

    def snapshot(self) -> Arrays | None:
        """Return all that was learnt, as flat arrays, between two calls of `learn`; None: nothing was."""
        memory = self._memory
        if memory is None:
            return None
        found = memory.snapshot() | self._history.snapshot(memory.size) | self._beliefs.snapshot()
        put_open(found, self._open.values(), memory.size)
        return found

    @property
    def fragments(self) -> list[Fragment]:
        """The fragments that `snapshot` names by their numbers; some of them more than once."""
        return [each.fragment for each in self._open.values()] + self._history.fragments

    def restore(self, arrays: Mapping[str, NDArray[Any]], by_number: Mapping[int, Fragment]) -> None:
        """Continue with what `snapshot` returned.

        Args:
            arrays: as it returned them.
            by_number: the fragments, by number.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        memory = Memory.restored(arrays)
        self._open = open_of(arrays, by_number, memory.size)
        means = {number: each.mean for number, each in self._open.items()}
        self._history = History.restored(arrays, by_number, means, memory.size)
        self._beliefs = Beliefs.restored(arrays)
        if self._gallery is not None and self._gallery.means.shape[1] != memory.size:
            self._gallery = None
        self._memory = memory

    def miss(self, fragment: Fragment) -> None:
        """A fragment has begun of which there are no samples: those after it believe what was believed before it."""
        self._beliefs.miss(fragment, self._open)

    def forget(self, tracks: Set[int]) -> None:
        """Forget what the animals of these ids look like."""
        if self._memory is not None:
            for track in sorted(tracks):
                self._memory.replace(track, None)
        self._history.forget(tracks, frozenset())
        self._open = {
            number: each for number, each in self._open.items()
            if each.track not in tracks and each.fragment.track not in tracks
        }  # fmt: skip
