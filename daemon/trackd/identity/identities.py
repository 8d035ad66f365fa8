"""Identities: what each animal looks like, learnt while the stream runs, and which id a fragment therefore has.

Each id has the mean of the features of its confirmed fragments. A fragment that has other suspects than its own id is
compared with the means of all of them. The best assignment of the fragments to the suspects is then

- the one that the tracker gave: the fragments are *confirmed*, and their ids learn from them;
- another one, by clear evidence: the ids were exchanged (`Exchange`);
- neither clearly: more samples decide.

The evidence of a difference of squared distances is calibrated by the fragments that are certain: `_Calibration`.

Letters: k samples, D features, f fragments, s suspects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.identity.discriminant import Discriminant
from trackd.identity.fragments import Fragment
from trackd.identity.gallery import Gallery

KNOWN = 20  # samples from which an id is known
ENOUGH = 8  # samples from which a fragment is compared
CHUNK = 15  # samples of a fragment that count as one measurement
LAG = 4  # chunks that a known id learns later
EXCHANGE = 2.5  # log odds by which another assignment must be better than the tracker's
CONFIRM = 1.5  # evidence of its samples by which the tracker's must be better than any other
SUSPECT = 1.0  # by which another one must be better for an event
RECOGNISE = 4.5  # by which a name of the gallery must be better than none, and than any other
UNEXPLAINED = 8.0  # cost of a fragment that is none of its suspects
# Chance that a track has another animal after a contact, after a gap, and that a new track is a lost one.
AFTER_CONTACT, AFTER_GAP, AFTER_BIRTH = 0.05, 0.4, 0.5
BANK = 600.0  # samples that the mean of an id remembers
CLIP = 8.0  # bound on the evidence of one fragment
_REMEMBERED = 200  # distances of each kind
_FEW = 6  # distances from which they can be weighed
_PRIOR_SPREAD = 1.0  # variance of a log distance before any was measured
_NEVER = 1e6
_MOST_BELIEFS = 1024
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of fragments."""

    confirmed: tuple[Fragment, ...] = ()  # they have the ids of their tracks
    moved: tuple[tuple[Fragment, int], ...] = ()  # they have these other ids: a permutation
    suspected: bool = False  # `moved` is likely, not yet clear
    evidence: float = 0.0  # nats for `moved` over the tracker's ids, or for the name over none
    recognised: tuple[Fragment, str] | None = None  # a name of the gallery
    known: frozenset[int] = frozenset()  # ids that were known before

    def exchanges(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return `moved` as ids that are exchanged, a permutation, and as ids that go on as others after that."""
        moved = {fragment.track: track for fragment, track in self.moved}
        exchanged = {old: new for old, new in moved.items() if old in self.known}
        # A track without samples gets an id that is free: it is lost, or touches another one.
        left, free = (
            sorted(set(exchanged.values()) - exchanged.keys()),
            sorted(exchanged.keys() - set(exchanged.values())),
        )
        exchanged.update(zip(left, free, strict=True))
        return exchanged, {old: new for old, new in moved.items() if old not in self.known}


@dataclass(slots=True)
class _Bank:
    """The mean features of one id."""

    mean: Floats
    count: float = 0.0

    def add(self, total: Floats, count: int) -> None:
        self.count = min(self.count, BANK) + count
        self.mean += (total - count * self.mean) / self.count


@dataclass(slots=True)
class _Open:
    """A fragment that was seen lately."""

    fragment: Fragment
    total: Floats
    count: int = 0
    track: int = -1  # the id that it is known to have; −1: not known yet
    suspected: bool = False
    waiting: list[_Bank] = field(default_factory=list)  # chunks that its id does not have yet
    prior: dict[int, float] = field(default_factory=dict)  # log probability of each suspect before its samples
    evidence: dict[int, float] = field(default_factory=dict)  # of its samples, for each suspect that is known
    belief: dict[int, float] = field(default_factory=dict)  # log probability of each suspect after them


class _Calibration:
    """From a contrast to the evidence that it is that of the same animal, and not of another one.

    A contrast is the logarithm of the squared distance to an id, less the mean of those to the other ids. Those with the
    own id and those with others are taken as normal with one variance, so that the evidence is linear in them. Their
    means are those of fragments that were confirmed.
    """

    def __init__(self, learnt: Mapping[str, Floats] = MappingProxyType({})) -> None:
        self._within: list[float] = [*learnt.get("within", ())]  # to its own id, of a fragment that this id knows
        self._across: list[float] = [*learnt.get("across", ())]  # to its own id, of a fragment when it was confirmed
        self._other: list[float] = [*learnt.get("other", ())]
        self._slope = self._middle = 0.0
        self.update()

    @property
    def learnt(self) -> dict[str, Floats]:
        """All that was added, for a later session."""
        kinds = {"within": self._within, "across": self._across, "other": self._other}
        return {kind: np.array(values, np.float64) for kind, values in kinds.items()}

    @property
    def ready(self) -> bool:
        """Whether distances can be weighed."""
        return self._slope > 0.0

    def add(self, own: float, others: Floats, across: bool) -> None:
        """Add the contrasts with the own id and with (s,) other ones."""
        (self._across if across else self._within).append(own)
        self._other += others.tolist()
        for kept in (self._within, self._across, self._other):
            del kept[: max(len(kept) - _REMEMBERED, 0)]

    def update(self) -> None:
        """Use what was added."""
        same = self._across + self._within
        if len(same) < _FEW or len(self._other) < _FEW:
            return
        low, high = float(np.mean(same)), float(np.mean(self._other))
        spread = np.var(same) * len(same) + np.var(self._other) * len(same) + _PRIOR_SPREAD * _FEW
        variance = float(spread) / (2 * len(same) + _FEW)
        self._slope, self._middle = max(high - low, 0.0) / variance, (high + low) / 2

    def evidence(self, contrasts: Floats) -> Floats:
        """Log likelihood ratios of the same animal against another one."""
        return np.asarray(np.clip(self._slope * (self._middle - contrasts), -CLIP, CLIP))


class Identities:
    """What the animals of one stream look like. Not thread-safe."""

    def __init__(self, gallery: Gallery | None = None) -> None:
        """Start with what is known from a gallery, if there is one."""
        self._banks: dict[int, _Bank] = {}
        self._open: dict[int, _Open] = {}  # by the number of the fragment
        self._beliefs: dict[int, dict[int, float]] = {}  # of fragments that have ended, by number
        self._gallery = gallery
        self._discriminant: Discriminant | None = None
        self._calibration = _Calibration()
        if gallery is not None:
            self._discriminant = Discriminant.of(gallery.scatter, gallery.weight)
            self._calibration = _Calibration(gallery.calibration)

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
        self._banks = {track: bank for track, bank in self._banks.items() if track in live}
        self._open = {number: each for number, each in self._open.items() if each.fragment.track in live}
        for fragment, features in samples:
            self._take(fragment, features)
        if self._discriminant is None:
            return []
        self._discriminant.update()
        self._weigh()
        verdicts = [verdict for group in self._groups(seen) if (verdict := self._judge(group, current)) is not None]
        self._calibration.update()
        verdicts += self._recognise(names)
        for number, each in self._open.items():
            if number not in current:
                self._end(each)
        kept = current | {each.fragment.number for each in self._latest().values()}
        for number in [number for number in self._open if number not in kept]:
            self._beliefs[number] = self._belief_of(number) or {}
            del self._open[number]
        for number in list(self._beliefs)[: max(len(self._beliefs) - _MOST_BELIEFS, 0)]:
            del self._beliefs[number]
        return verdicts

    def gallery(self, names: Mapping[int, str]) -> Gallery | None:
        """Return what the named animals look like; None if none of them is known well enough.

        Animals of the gallery that this one began with are kept, unless they have a track.
        """
        found = {name: self._banks[track] for track, name in names.items() if self._knows(track)}
        if not found or self._discriminant is None:
            return None
        if self._gallery is not None and self._gallery.means.shape[1] == self._discriminant.size:
            before = zip(self._gallery.names, self._gallery.means, self._gallery.counts, strict=True)
            found = {name: _Bank(mean, float(count)) for name, mean, count in before} | found
        scatter, weight = self._discriminant.learnt
        means = np.stack([bank.mean for bank in found.values()])
        counts = np.array([bank.count for bank in found.values()])
        return Gallery(tuple(found), means, counts, scatter, weight, self._calibration.learnt)

    def _knows(self, track: int) -> bool:
        return track in self._banks and self._banks[track].count >= KNOWN

    def _recognise(self, names: Mapping[int, str | None]) -> list[Verdict]:
        """Find the animals of the gallery among the tracks that have no names."""
        if self._gallery is None or not self._calibration.ready:
            return []
        there = {
            each.track: each for each in self._open.values() if each.track not in names and self._knows(each.track)
        }
        used = set(names.values())
        free = [row for row, name in enumerate(self._gallery.names) if name not in used]
        if not there or not free:
            return []
        n, s = len(there), len(free)
        costs = np.full((n, s + n), _NEVER)
        costs[np.arange(n), s + np.arange(n)] = 0.0  # the last n: an animal that is not in the gallery
        means = np.stack([self._banks[track].mean for track in there])
        distances = self._log_distances(means, np.concatenate([self._gallery.means[free], means]))
        distances[np.arange(n), s + np.arange(n)] = np.nan  # of a track to itself
        if distances.shape[1] < 3:
            return []  # one animal and one name: there is nothing to compare with
        costs[:, :s] = -self._calibration.evidence(_contrasts(distances)[:, :s])
        _, best = linear_sum_assignment(costs)
        found = []
        for row, (each, column) in enumerate(zip(there.values(), best, strict=True)):
            if column < s and -costs[row, column] >= RECOGNISE and _lead(costs, best, row) >= RECOGNISE:
                name = self._gallery.names[free[column]]
                found.append(Verdict(recognised=(each.fragment, name), evidence=float(-costs[row, column])))
        return found

    def _take(self, fragment: Fragment, features: Floats) -> None:
        if self._discriminant is None or self._discriminant.size != features.shape[1]:
            # The first samples, or images of another number of channels: nothing that was learnt can be compared.
            self._banks, self._open, self._gallery = {}, {}, None
            self._discriminant, self._calibration = Discriminant(features.shape[1]), _Calibration()
        if fragment.number not in self._open:
            certain = fragment.suspects == {fragment.track}
            self._open[fragment.number] = _Open(
                fragment, np.zeros(features.shape[1]), 0, fragment.track if certain else -1
            )
        each = self._open[fragment.number]
        total = features.sum(axis=0)
        bank = self._banks.get(each.track)
        if bank is not None and bank.count >= KNOWN:
            centre = bank.mean
        else:
            centre = (each.total + total) / (each.count + len(features))
        self._discriminant.add(features - centre)
        each.total += total
        each.count += len(features)
        if each.track >= 0:
            self._remember(each, total, len(features))

    def _remember(self, each: _Open, total: Floats, count: int) -> None:
        """Add samples to the id of a fragment, those of a known id after `LAG` more chunks.

        A chunk is compared with what the id was some time before, as a fragment after a contact will be.
        """
        bank = self._bank(each.track, len(total))
        if bank.count < KNOWN:
            bank.add(total, count)
            return
        if each.waiting and each.waiting[-1].count < CHUNK:
            each.waiting[-1].add(total, count)
        else:
            each.waiting.append(_Bank(total / count, count))
        newest = each.waiting[-1]
        if newest.count >= CHUNK:
            if self._discriminant is not None and self._discriminant.ready:
                self._measure(newest.mean, each.track, False)
            if len(each.waiting) > LAG:
                oldest = each.waiting.pop(0)
                bank.add(oldest.mean * oldest.count, int(oldest.count))

    def _end(self, each: _Open) -> None:
        """A fragment has ended: its id has all its samples from now on."""
        for chunk in each.waiting:
            self._bank(each.track, len(chunk.mean)).add(chunk.mean * chunk.count, int(chunk.count))
        each.waiting = []

    def _prior(self, fragment: Fragment) -> dict[int, float]:
        """The log probability of each suspect of a fragment, from the track's fragment before it."""
        suspects = fragment.suspects
        if len(suspects) == 1:
            return {fragment.track: 0.0}
        before = None if fragment.before is None else self._belief_of(fragment.before)
        chance = AFTER_BIRTH if fragment.before is None else AFTER_GAP if fragment.after_gap else AFTER_CONTACT
        known = {fragment.track: 0.0} if before is None else before
        top = max(known.values())
        weights = {track: np.exp(value - top) for track, value in known.items() if track in suspects}
        total = sum(weights.values()) or 1.0
        share = chance / len(suspects)
        return {track: float(np.log((1 - chance) * weights.get(track, 0.0) / total + share)) for track in suspects}

    def _belief_of(self, number: int) -> dict[int, float] | None:
        """The log probability of each suspect of an earlier fragment; None if it is not remembered."""
        each = self._open.get(number)
        if each is None:
            return self._beliefs.get(number)
        return {each.track: 0.0} if each.track >= 0 else each.belief or each.prior or self._prior(each.fragment)

    def _bank(self, track: int, size: int) -> _Bank:
        return self._banks.setdefault(track, _Bank(np.zeros(size)))

    def _measure(self, mean: Floats, track: int, across: bool) -> None:
        """Measure how much nearer a mean is to its own id than to the other ones."""
        tracks = self._known()
        if track in tracks and len(tracks) > 1:
            found = self._contrasts(mean[None])[0]
            own = tracks.index(track)
            self._calibration.add(float(found[own]), np.delete(found, own), across)

    def _known(self) -> list[int]:
        """The ids that are known, ascending."""
        return sorted(track for track in self._banks if self._knows(track))

    def _contrasts(self, means: Floats) -> Floats:
        """Contrasts of means (f, D) with all known ids, of which there are at least two: (f, ids)."""
        banks = np.stack([self._banks[track].mean for track in self._known()])
        return _contrasts(self._log_distances(means, banks))

    def _log_distances(self, means: Floats, others: Floats) -> Floats:
        assert self._discriminant is not None
        every = np.concatenate([means, others])
        whitened = self._discriminant.whitened(every)
        apart = whitened[: len(means), None] - whitened[None, len(means) :]
        return np.asarray(np.log((apart * apart).sum(axis=2) + 1e-9))

    def _latest(self) -> dict[int, _Open]:
        """The last fragment of each track."""
        return {each.fragment.track: each for each in self._open.values()}  # by number, ascending

    def _weigh(self) -> None:
        """Find how likely each suspect of each fragment is, from the fragments before it and its own samples."""
        if not self._calibration.ready:
            return
        tracks = self._known()
        for each in self._open.values():  # ascending, so that a fragment comes after those before it
            if each.track >= 0:
                continue
            each.prior = each.prior or self._prior(each.fragment)
            each.belief = dict(each.prior)
            each.evidence = {}
            if each.count >= ENOUGH and len(tracks) > 1:
                found = self._calibration.evidence(self._contrasts((each.total / each.count)[None])[0])
                each.evidence = {
                    track: value for track, value in zip(tracks, found.tolist(), strict=True) if track in each.prior
                }
                for track, evidence in each.evidence.items():
                    each.belief[track] += evidence

    def _groups(self, seen: set[int]) -> list[list[_Open]]:
        """The last fragments of each track whose ids are not known yet, those with common suspects together."""
        groups: list[tuple[set[int], list[_Open]]] = []
        for each in self._latest().values():
            if (
                each.track >= 0
                or each.fragment.track not in seen
                or (each.count < ENOUGH and not self._calibration.ready)
            ):
                continue
            suspects, members = set(each.fragment.suspects), [each]
            apart = []
            for group in groups:
                if group[0] & suspects:
                    suspects |= group[0]
                    members = group[1] + members
                else:
                    apart.append(group)
            groups = [*apart, (suspects, members)]
        return [members for _, members in groups]

    def _judge(self, group: list[_Open], current: set[int]) -> Verdict | None:
        """Find which ids the fragments of one group have."""
        if not self._calibration.ready:
            return self._confirm([each for each in group if each.count >= ENOUGH])
        taken = {each.track for each in self._latest().values() if each.track >= 0 and each.fragment.number in current}
        known = {track for track, bank in self._banks.items() if bank.count >= KNOWN} - taken
        suspects = sorted({track for each in group for track in each.fragment.suspects} & known)
        if not suspects:
            return self._confirm([each for each in group if each.count >= ENOUGH])
        n, s = len(group), len(suspects)
        costs = np.full((n, s + n), _NEVER)  # the last n: a fragment is none of these
        alone = costs.copy()  # what its samples say, without what was believed before
        own = np.empty(n, np.intp)
        for row, each in enumerate(group):
            for column, track in enumerate(suspects):
                if track in each.belief:
                    costs[row, column] = -each.belief[track]
                    alone[row, column] = -each.evidence.get(track, 0.0)
            track = each.fragment.track
            own[row] = suspects.index(track) if track in suspects else s + row
            costs[row, s + row] = UNEXPLAINED if track in suspects else -each.prior.get(track, 0.0)
            alone[row, s + row] = UNEXPLAINED if track in suspects else 0.0
        rows = np.arange(n)
        kept = costs[rows, own]
        _, best = linear_sum_assignment(costs)
        odds = float((kept - costs[rows, best]).sum())
        if (best == own).all():
            sampled = [
                row
                for row, each in enumerate(group)
                if each.count >= ENOUGH and each.evidence.get(each.fragment.track, 1.0) > 0.0
            ]
            return self._confirm([group[row] for row in sampled if _lead(alone, own, row) >= CONFIRM])
        if ((best >= s) & (best != own)).any():
            return None  # two fragments look like one animal
        changes = [
            (each, suspects[column]) for each, column, old in zip(group, best, own, strict=True) if column != old
        ]
        moved = tuple((each.fragment, track) for each, track in changes)
        if odds >= EXCHANGE:
            for each, track in changes:
                self._settle(each, track)
            return Verdict(moved=moved, evidence=odds, known=frozenset(known))
        if odds >= SUSPECT and not all(each.suspected for each, _ in changes):
            for each, _ in changes:
                each.suspected = True
            return Verdict(moved=moved, suspected=True, evidence=odds)
        return None

    def _confirm(self, members: list[_Open]) -> Verdict | None:
        for each in members:
            self._settle(each, each.fragment.track)
        return Verdict(confirmed=tuple(each.fragment for each in members)) if members else None

    def _settle(self, each: _Open, track: int) -> None:
        mean = each.total / each.count
        if track in self._banks and self._banks[track].count >= KNOWN:
            self._measure(mean, track, True)
        each.track = track
        self._bank(track, len(mean)).add(each.total, each.count)


def _contrasts(distances: Floats) -> Floats:
    """Each log distance (f, ids) less the mean of the others of its row; NaN counts nowhere.

    So neither the number of samples nor the features' scale, which both change all distances of a row, counts.
    """
    count = np.isfinite(distances).sum(axis=1, keepdims=True)
    total = np.nansum(distances, axis=1, keepdims=True)
    return np.asarray(distances - (total - distances) / (count - 1))


def _lead(costs: Floats, own: NDArray[np.intp], row: int) -> float:
    """By how much the best assignment is worse that gives this row another column than its own."""
    other = costs.copy()
    other[row, own[row]] = _NEVER
    rows, columns = linear_sum_assignment(other)
    return float(other[rows, columns].sum() - costs[rows, own].sum())
