"""Identities: what each animal looks like, learnt while the stream runs, and which id a fragment therefore has.

A fragment that has other suspects than its own id is compared with all of them. It begins with what was believed of the
track's fragment before it, less certain by the contact or the gap in between. The best assignment of the last fragments
of all tracks to ids is then

- the one that the tracker gave: fragments whose samples agree are *confirmed*, and their ids learn from them;
- another one, by clear evidence: these ids were exchanged;
- neither clearly: more samples decide.

Letters: k samples, D features, n fragments, s suspects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.identity.fragments import Fragment
from trackd.identity.gallery import Gallery
from trackd.identity.memory import KNOWN, Mean, Memory
from trackd.identity.verdict import Verdict

ENOUGH = 8  # samples from which a fragment is compared
CHUNK = 15  # samples of a fragment that count as one measurement
LAG = 4  # chunks that a known id learns later
EXCHANGE = 2.5  # log odds by which another assignment must be better than the tracker's
SUSPECT = 1.0  # by which it must be better for an event
# Evidence of its samples by which the id of a fragment must be better than any other: if it is known, and if it is
# that of a new track, which cannot get the id of a lost one later.
CONFIRM, CONFIRM_NEW = 1.5, 4.0
RECOGNISE = 4.5  # evidence by which a name must be better than none, and than any other
UNEXPLAINED = 8.0  # cost of a fragment that is none of its suspects
# Chance that a track has another animal after a contact, after a gap, and that a new track is a lost one.
AFTER_CONTACT, AFTER_GAP, AFTER_BIRTH = 0.05, 0.4, 0.5
_NEVER = 1e6
_MOST_BELIEFS = 1024
Floats = NDArray[np.float64]
Belief = dict[int, float]  # log probability of each suspect


@dataclass(slots=True)
class _Open:
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
        return self.mean.count >= ENOUGH


class Identities:
    """What the animals of one stream look like. Not thread-safe."""

    def __init__(self, gallery: Gallery | None = None) -> None:
        """Start with what is known from a gallery, if there is one."""
        self._gallery = gallery
        self._memory: Memory | None = None if gallery is None else Memory(gallery.means.shape[1], gallery)
        self._open: dict[int, _Open] = {}  # by the number of the fragment, ascending
        self._beliefs: dict[int, Belief] = {}  # of fragments that have ended, by number

    def learn(
        self,
        samples: Sequence[tuple[Fragment, Floats]],
        live: set[int],
        current: set[int],
        seen: set[int],
        names: Mapping[int, str | None] = MappingProxyType({}),
    ) -> list[Verdict]:
        """Take the samples of some frames, and return what follows from all so far.

        Args:
            samples: of each fragment that was seen, its features (k, D).
            live: ids of the live tracks.
            current: numbers of the fragments that have not ended.
            seen: ids of the tracks that are seen now.
            names: of the live tracks that are not to be recognised: their names, or None for none at all.
        """
        if samples:
            self._use(samples[0][1].shape[1])
        memory = self._memory
        if memory is None:
            return []
        memory.keep(live)
        self._open = {number: each for number, each in self._open.items() if each.fragment.track in live}
        for fragment, features in sorted(samples, key=lambda sample: sample[0].number):
            self._take(memory, fragment, features)
        memory.update()
        self._weigh(memory)
        verdicts = [found for group in self._groups(seen) if (found := self._judge(memory, group, current)) is not None]
        memory.calibration.update()
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
            self._memory, self._open, self._beliefs = Memory(size), {}, {}

    # --- samples ---

    def _take(self, memory: Memory, fragment: Fragment, features: Floats) -> None:
        if fragment.number not in self._open:
            certain = fragment.suspects == {fragment.track}
            made = _Open(fragment, Mean(np.zeros(memory.size)), fragment.track if certain else -1)
            self._open[fragment.number] = made
        each = self._open[fragment.number]
        mean, count = features.mean(axis=0), len(features)
        each.mean.add(mean, count)
        memory.vary(features - (memory.of(each.track) if memory.knows(each.track) else each.mean).values)
        if each.track >= 0:
            self._remember(memory, each, mean, count)

    def _remember(self, memory: Memory, each: _Open, mean: Floats, count: int) -> None:
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
            memory.measure(newest.values, each.track, False)
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
            self._beliefs[number] = self._belief_of(number) or {}
            del self._open[number]
        for number in list(self._beliefs)[: max(len(self._beliefs) - _MOST_BELIEFS, 0)]:
            del self._beliefs[number]

    # --- beliefs ---

    def _weigh(self, memory: Memory) -> None:
        """Find how likely each suspect of each fragment is."""
        if not memory.calibration.ready:
            return
        for each in self._open.values():  # a fragment comes after the one before it
            if each.track >= 0:
                continue
            each.prior = each.prior or self._prior(each.fragment)
            each.belief, each.evidence = dict(each.prior), {}
            if each.is_comparable:
                found = memory.evidence(each.mean.values)
                each.evidence = {track: value for track, value in found.items() if track in each.prior}
                for track, value in each.evidence.items():
                    each.belief[track] += value

    def _prior(self, fragment: Fragment) -> Belief:
        """Return what is believed of a fragment before its samples, from the track's fragment before it."""
        suspects = fragment.suspects
        if len(suspects) == 1:
            return {fragment.track: 0.0}
        before = None if fragment.before is None else self._belief_of(fragment.before)
        chance = AFTER_BIRTH if fragment.before is None else AFTER_GAP if fragment.after_gap else AFTER_CONTACT
        known = before or {fragment.track: 0.0}
        top = max(known.values())
        weights = {track: np.exp(value - top) for track, value in known.items() if track in suspects}
        total, share = sum(weights.values()) or 1.0, chance / len(suspects)
        return {track: float(np.log((1 - chance) * weights.get(track, 0.0) / total + share)) for track in suspects}

    def _belief_of(self, number: int) -> Belief | None:
        """Return what is believed of an earlier fragment; None if it is not remembered."""
        each = self._open.get(number)
        if each is None:
            return self._beliefs.get(number)
        return {each.track: 0.0} if each.track >= 0 else each.belief or each.prior or self._prior(each.fragment)

    # --- verdicts ---

    def _latest(self) -> dict[int, _Open]:
        """Return the last fragment of each track, by id."""
        return {each.fragment.track: each for each in self._open.values()}

    def _groups(self, seen: set[int]) -> list[list[_Open]]:
        """Return the last fragments of the tracks whose ids are not known; those with common suspects together."""
        groups: list[tuple[set[int], list[_Open]]] = []
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

    def _judge(self, memory: Memory, group: list[_Open], current: set[int]) -> Verdict | None:
        """Find which ids the fragments of one group have."""
        taken = {each.track for each in self._latest().values() if each.track >= 0 and each.fragment.number in current}
        known = set(memory.known)
        suspects = sorted({track for each in group for track in each.fragment.suspects} & (known - taken))
        if not memory.calibration.ready or not suspects:
            # Nothing can be compared: the tracker is believed. A new track waits, since it may be a lost one.
            believed = [each for each in group if not suspects or memory.of(each.fragment.track).count]
            return self._confirm(memory, [each for each in believed if each.is_comparable])
        costs, samples_alone, own = _costs(group, suspects)
        rows = np.arange(len(group))
        _, best = linear_sum_assignment(costs)
        if (best == own).all():
            agree = []
            for row, each in enumerate(group):
                is_known = own[row] < len(suspects)
                if is_known and each.evidence.get(each.fragment.track, 0.0) <= 0.0:
                    continue
                if each.is_comparable and _lead(samples_alone, own, row) >= (CONFIRM if is_known else CONFIRM_NEW):
                    agree.append(each)
            return self._confirm(memory, agree)
        if ((best >= len(suspects)) & (best != own)).any():
            return None  # two fragments look like one animal
        odds = float((costs[rows, own] - costs[rows, best]).sum())
        changes = [(group[row], suspects[best[row]]) for row in np.flatnonzero(best != own)]
        moved = tuple((each.fragment, track) for each, track in changes)
        if odds >= EXCHANGE:
            for each, track in changes:
                self._settle(memory, each, track)
            return Verdict(moved=moved, evidence=odds, known=frozenset(known))
        if odds >= SUSPECT and not all(each.suspected for each, _ in changes):
            for each, _ in changes:
                each.suspected = True
            return Verdict(moved=moved, suspected=True, evidence=odds, known=frozenset(known))
        return None

    def _confirm(self, memory: Memory, members: list[_Open]) -> Verdict | None:
        for each in members:
            self._settle(memory, each, each.fragment.track)
        return Verdict(confirmed=tuple(each.fragment for each in members)) if members else None

    def _settle(self, memory: Memory, each: _Open, track: int) -> None:
        """A fragment has this id, which learns from its samples."""
        memory.measure(each.mean.values, track, True)
        each.track = track
        memory.of(track).add(each.mean.values, each.mean.count)

    def _recognise(self, memory: Memory, names: Mapping[int, str | None]) -> list[Verdict]:
        """Find the animals of the gallery among the tracks that have no names."""
        if self._gallery is None or not memory.calibration.ready:
            return []
        there = [each for each in self._latest().values() if each.track not in names and memory.knows(each.track)]
        used = set(names.values())
        free = [row for row, name in enumerate(self._gallery.names) if name not in used]
        if not there or not free:
            return []
        n, s = len(there), len(free)
        costs = np.full((n, s + n), _NEVER)
        costs[np.arange(n), s + np.arange(n)] = 0.0  # the last n: an animal that is not in the gallery
        costs[:, :s] = -memory.evidence_for_names([each.track for each in there], self._gallery.means[free])
        _, best = linear_sum_assignment(costs)
        found = []
        for row, (each, column) in enumerate(zip(there, best, strict=True)):
            evidence = float(-costs[row, column])
            if column < s and evidence >= RECOGNISE and _lead(costs, best, row) >= RECOGNISE:
                name = self._gallery.names[free[column]]
                found.append(Verdict(recognised=(each.fragment, name), evidence=evidence))
        return found


def _costs(group: list[_Open], suspects: list[int]) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return what each assignment of fragments to suspects costs.

    Returns:
        (n, s + n) by all that is believed, and by the samples alone; in column s + i fragment i is no suspect.
        (n,) The column of each fragment's own id; s + i if that is not known, as of a new track.
    """
    n, s = len(group), len(suspects)
    costs = np.full((n, s + n), _NEVER)
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


def _lead(costs: Floats, chosen: NDArray[np.intp], row: int) -> float:
    """Return by how much the best assignment is worse in which this row has another column than the chosen one."""
    other = costs.copy()
    other[row, chosen[row]] = _NEVER
    rows, columns = linear_sum_assignment(other)
    return float(other[rows, columns].sum() - costs[rows, chosen].sum())
