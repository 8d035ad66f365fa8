"""The history of a stream: exchanges that are found when more has been seen of the animals."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.identity.fragment import Fragment
from trackd.identity.identities import Identities
from trackd.identity.verdict import Verdict

SIZE, BLOCK = 30, 8


class Tank:
    """Animals whose features differ by `apart` standard deviations, in a stream whose tracker makes mistakes."""

    def __init__(self, n: int, apart: float = 6.0, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.looks = self.random.normal(0, apart / np.sqrt(2), (n, SIZE))
        self.identities = Identities()
        self.live = set(range(n))
        self.count = 0

    def fragment(self, track: int, suspects: set[int] | None = None, before: Fragment | None = None) -> Fragment:
        self.count += 1
        number = None if before is None else before.number
        return Fragment(self.count, track, frozenset(suspects or {track}), self.count, before=number)

    def show(
        self, animals: dict[Fragment, int], samples: int = BLOCK, blocks: int = 1, trusted: set[int] | None = None
    ) -> list[Verdict]:
        """Show each fragment the animal beside it, and return all verdicts."""
        found: list[Verdict] = []
        for _ in range(blocks):
            parts = [
                (each, self.looks[animal] + self.random.normal(0, 1, (samples, SIZE)))
                for each, animal in animals.items()
            ]
            numbers, seen = {each.number for each in animals}, {each.track for each in animals}
            found += self.identities.learn(parts, self.live, numbers, seen, {}, trusted or set())
            trusted = None
        return found


def moves(verdicts: list[Verdict]) -> list[Verdict]:
    return [each for each in verdicts if each.moved and not each.suspected]


def ids(verdict: Verdict) -> dict[int, int]:
    return {fragment.track: track for fragment, track in verdict.moved}


def early_exchange(tank: Tank, blocks: int = 12) -> list[Verdict]:
    """0 and 1 exchange their ids before anything can be compared: the tracker is believed."""
    first = [tank.fragment(track) for track in sorted(tank.live)]
    tank.show({each: each.track for each in first}, blocks=2)
    one, other = tank.fragment(0, {0, 1}, first[0]), tank.fragment(1, {0, 1}, first[1])
    seen = {one: 1, other: 0, **{each: each.track for each in first[2:]}}
    verdicts = tank.show(seen)
    assert [set(map(id, each.confirmed)) for each in verdicts] == [{id(one), id(other)}], "nothing is known yet"
    return tank.show(seen, blocks=blocks)


def test_an_exchange_that_was_believed_is_found_when_more_is_known():
    found = moves(early_exchange(Tank(5)))
    assert found
    assert ids(found[0]) == {0: 1, 1: 0}
    assert found[0].since == 6, "the frame in which both began their new fragments"


def test_an_exchange_that_was_not_applied_is_found_again_and_one_that_was_is_not():
    tank = Tank(5)
    found = moves(early_exchange(tank))
    assert len(found) > 1
    tank.identities.settle(found[-1])
    for fragment, track in found[-1].moved:
        fragment.track = track
    parts = {tank.fragment(track): track for track in sorted(tank.live)}
    assert not moves(tank.show(parts, blocks=8))


def test_a_new_track_that_was_taken_for_a_new_animal_is_the_lost_one():
    tank = Tank(5)
    first = [tank.fragment(track) for track in sorted(tank.live)]
    tank.show({first[0]: 0}, samples=6)  # too few to know it
    others = {each: each.track for each in first[1:]}
    tank.show(others, blocks=3)
    tank.live.add(9)
    new = tank.fragment(9, {0, 9})
    assert [each.confirmed for each in tank.show({new: 0, **others})] == [(new,)]
    found = moves(tank.show({new: 0, **others}, blocks=12))
    assert ids(found[0]) == {9: 0}
    assert found[0].exchanges() == ({}, {9: 0})


def test_a_new_animal_is_none_of_the_lost_ones():
    tank = Tank(6)
    tank.live = set(range(5))
    first = [tank.fragment(track) for track in sorted(tank.live)]
    tank.show({each: each.track for each in first}, blocks=3)
    tank.live.add(9)
    new = tank.fragment(9, {0, 9})
    assert not moves(tank.show({new: 5, **{each: each.track for each in first[1:]}}, blocks=20))


def test_an_exchange_of_three_is_found_at_one_cut():
    tank = Tank(8)
    first = [tank.fragment(track) for track in range(8)]
    tank.show({each: each.track for each in first}, blocks=2)
    parts = [tank.fragment(track, {0, 1, 2}, first[track]) for track in range(3)]
    others = {each: each.track for each in first[3:]}
    found = moves(tank.show({**dict(zip(parts, (1, 2, 0), strict=True)), **others}, blocks=12))
    assert found[0].exchanges() == ({0: 1, 1: 2, 2: 0}, {})


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("apart", [0.0, 6.0])
def test_animals_that_keep_their_ids_are_never_exchanged(seed, apart):
    tank = Tank(4, apart, seed)
    found = []
    for _ in range(12):
        parts = [tank.fragment(track, {0, 1, 2, 3}) for track in range(4)]
        found += tank.show({each: each.track for each in parts}, blocks=2)
    assert not moves(found)


def test_what_a_person_has_corrected_is_not_looked_at_again():
    tank = Tank(5)
    first = [tank.fragment(track) for track in sorted(tank.live)]
    tank.show({each: each.track for each in first}, blocks=12)
    one, other = tank.fragment(0), tank.fragment(1)  # certain: a person has exchanged their ids
    rest = {each: each.track for each in first[2:]}
    assert not moves(tank.show({one: 1, other: 0, **rest}, blocks=12, trusted={0, 1}))


def test_two_exchanges_at_one_time_are_two_verdicts():
    tank = Tank(6)
    first = [tank.fragment(track) for track in range(6)]
    tank.show({each: each.track for each in first}, blocks=12)
    all_four = {0, 1, 2, 3}
    parts = [tank.fragment(track, all_four, first[track]) for track in range(4)]
    found = moves(tank.show({**dict(zip(parts, (1, 0, 3, 2), strict=True)), first[4]: 4, first[5]: 5}, samples=15))
    assert sorted(map(sorted, map(ids, found))) == [[0, 1], [2, 3]]


def test_a_long_history_keeps_the_means_of_its_ids():
    tank = Tank(3)
    for _ in range(80):
        parts = [tank.fragment(track) for track in range(3)]
        tank.show({each: each.track for each in parts}, samples=5)
    history = tank.identities._history
    assert len(history._entries) == 128
    for track in range(3):
        mean = history.mean(track)
        assert mean is not None
        assert mean.count == 400
        assert np.abs(mean.values - tank.looks[track]).max() < 0.5
