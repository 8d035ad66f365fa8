"""Beliefs: how likely it is that a fragment has each of its suspects' ids.

A fragment begins with what was believed of the track's fragment before it, less certain by what happened in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.identity.arrays import Arrays, integers, numbers_of, put_numbers
from trackd.identity.fragment import Fragment
from trackd.identity.memory import Memory
from trackd.identity.open_fragment import Belief, OpenFragment

# Chance that a track has another animal after a contact, after a gap, and that a new track is a lost one.
AFTER_CONTACT, AFTER_GAP, AFTER_BIRTH = 0.05, 0.4, 0.5
_MOST = 1024  # fragments that have ended
Open = Mapping[int, OpenFragment]  # by number


class Beliefs:
    """What is believed of open fragments, and was believed of those that have ended."""

    def __init__(self) -> None:
        self._ended: dict[int, Belief] = {}  # by number

    def weigh(self, memory: Memory, open_fragments: Open) -> None:
        """Find how likely each suspect of each open fragment is."""
        if not memory.calibration.ready:
            return
        for each in open_fragments.values():  # a fragment comes after the one before it
            if each.track >= 0:
                continue
            each.prior = each.prior or self._prior(each.fragment, open_fragments)
            each.belief, each.evidence = dict(each.prior), {}
            if each.is_comparable:
                found = memory.evidence(each.mean.values, each.mean.count)
                each.evidence = {track: value for track, value in found.items() if track in each.prior}
                for track, value in each.evidence.items():
                    each.belief[track] += value

    def keep(self, number: int, open_fragments: Open) -> None:
        """Keep what is believed of an open fragment that has ended."""
        self._ended[number] = self._of(number, open_fragments) or {}
        self._trim()

    def miss(self, fragment: Fragment, open_fragments: Open) -> None:
        """A fragment has begun of which there are no samples: those after it begin with what it begins with."""
        self._ended[fragment.number] = self._prior(fragment, open_fragments)
        self._trim()

    def forget_since(self, number: int) -> None:
        """Forget what was believed of the fragments from this number on."""
        self._ended = {each: belief for each, belief in self._ended.items() if each < number}

    def snapshot(self) -> Arrays:
        """Return what was believed of fragments that have ended."""
        found: Arrays = {"beliefs.of": integers(self._ended)}
        put_numbers(found, "beliefs", self._ended.values())
        return found

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Beliefs:
        """Return what `snapshot` was made of.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        made = cls()
        made._ended = dict(zip(arrays["beliefs.of"].tolist(), numbers_of(arrays, "beliefs"), strict=True))
        return made

    def _trim(self) -> None:
        for number in list(self._ended)[: max(len(self._ended) - _MOST, 0)]:
            del self._ended[number]

    def _prior(self, fragment: Fragment, open_fragments: Open) -> Belief:
        """Return what is believed of a fragment before its samples, from the track's fragment before it."""
        suspects = fragment.suspects
        if len(suspects) == 1:
            return {fragment.track: 0.0}
        before = None if fragment.before is None else self._of(fragment.before, open_fragments)
        chance = AFTER_BIRTH if fragment.before is None else AFTER_GAP if fragment.after_gap else AFTER_CONTACT
        known = before or {fragment.track: 0.0}
        top = max(known.values())
        weights = {track: np.exp(value - top) for track, value in known.items() if track in suspects}
        total, share = sum(weights.values()) or 1.0, chance / len(suspects)
        return {track: float(np.log((1 - chance) * weights.get(track, 0.0) / total + share)) for track in suspects}

    def _of(self, number: int, open_fragments: Open) -> Belief | None:
        """Return what is believed of an earlier fragment; None if it is not remembered."""
        each = open_fragments.get(number)
        if each is None:
            return self._ended.get(number)
        if each.track >= 0:
            return {each.track: 0.0}
        return each.belief or each.prior or self._prior(each.fragment, open_fragments)
