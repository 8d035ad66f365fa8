"""Identities: which fragment has which id, from what animals look like."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.identity.arrays import numbers_of
from trackd.identity.fragment import Fragment, fragments_of, put_fragments
from trackd.identity.identities import Identities

SIZE = 30
BLOCK = 15


class Arena:
    """Animals whose features differ by `apart` standard deviations, and what is learnt of them."""

    def __init__(self, n: int, apart: float = 3.0, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.looks = self.random.normal(0, apart / np.sqrt(2), (n, SIZE))
        self.identities = Identities()
        self.live = set(range(n))
        self.count = 0

    def fragment(self, track: int, suspects: set[int] | None = None) -> Fragment:
        self.count += 1
        return Fragment(self.count, track, frozenset(suspects or {track}), 0)

    def learn(self, seen: dict[Fragment, int] | list, blocks: int = 1):
        """Show each fragment the animal beside it, and return all verdicts."""
        pairs = list(seen)
        found = []
        for _ in range(blocks):
            samples = [
                (fragment, self.looks[animal] + self.random.normal(0, 1, (BLOCK, SIZE))) for fragment, animal in pairs
            ]
            found += self.identities.learn(
                samples,
                self.live,
                {fragment.number for fragment, _ in pairs},
                {fragment.track for fragment, _ in pairs},
            )
        return found

    def begin(self, blocks: int = 8) -> None:
        self.learn([(self.fragment(track), track) for track in sorted(self.live)], blocks)


def test_an_exchange_is_found_by_what_the_animals_look_like():
    arena = Arena(4)
    arena.begin()
    one, other = arena.fragment(0, {0, 1}), arena.fragment(1, {0, 1})
    (verdict,) = arena.learn([(one, 1), (other, 0)])
    assert not verdict.suspected
    assert {each.number: track for each, track in verdict.moved} == {one.number: 1, other.number: 0}
    assert verdict.exchanges() == ({0: 1, 1: 0}, {})


def test_an_exchange_that_could_not_be_applied_is_found_again_until_it_is():
    arena = Arena(4)
    arena.begin()
    one, other = arena.fragment(0, {0, 1}), arena.fragment(1, {0, 1})
    first, second = arena.learn([(one, 1), (other, 0)], 2)
    assert first.exchanges() == second.exchanges() == ({0: 1, 1: 0}, {})
    arena.identities.settle(second)
    one.track, other.track = 1, 0
    assert not arena.learn([(one, 1), (other, 0)], 4)


def test_an_exchange_does_not_wait_for_another_animal_that_is_not_clear():
    arena = Arena(5)
    arena.begin()
    parts = [arena.fragment(track, {0, 1, 2}) for track in range(3)]
    samples = [
        (parts[row], arena.looks[animal] + arena.random.normal(0, 1, (count, SIZE)))
        for row, (animal, count) in enumerate(((1, 15), (0, 15), (2, 2)))
    ]
    (verdict,) = arena.identities.learn(samples, arena.live, {each.number for each in parts}, {0, 1, 2})
    assert verdict.exchanges() == ({0: 1, 1: 0}, {})


def test_fragments_that_are_what_they_seem_are_confirmed():
    arena = Arena(4)
    arena.begin()
    one, other = arena.fragment(0, {0, 1}), arena.fragment(1, {0, 1})
    (verdict,) = arena.learn([(one, 0), (other, 1)])
    assert set(map(id, verdict.confirmed)) == {id(one), id(other)}
    assert not verdict.moved


def test_an_exchange_of_three_is_found_as_one():
    arena = Arena(5)
    arena.begin()
    parts = [arena.fragment(track, {0, 1, 2}) for track in range(3)]
    (verdict,) = arena.learn([(parts[0], 1), (parts[1], 2), (parts[2], 0)])
    assert verdict.exchanges() == ({0: 1, 1: 2, 2: 0}, {})


@pytest.mark.parametrize("seed", range(20))
def test_animals_that_look_alike_are_never_exchanged(seed):
    arena = Arena(4, apart=0.0, seed=seed)
    arena.begin()
    verdicts = []
    for _ in range(10):
        parts = [arena.fragment(track, {0, 1, 2, 3}) for track in range(4)]
        verdicts += arena.learn([(part, part.track) for part in parts], blocks=4)
    assert not [verdict for verdict in verdicts if verdict.moved and not verdict.suspected]


def test_an_animal_whose_id_another_one_has_taken_gets_it_back_when_it_is_seen_again():
    arena = Arena(4)
    arena.begin()
    arena.live.add(9)
    taken, new = arena.fragment(0, {0, 2, 9}), arena.fragment(9, {0, 2, 9})
    (verdict,) = arena.learn([(taken, 2), (new, 0)])  # 2 went on as 0, and 0 as a new track
    exchanged, merged = verdict.exchanges()
    assert exchanged == {0: 2, 2: 0}
    assert merged == {9: 0}


def test_a_new_animal_stays_new():
    arena = Arena(5)
    arena.live = {0, 1, 2, 3}
    arena.begin()
    arena.live.add(9)
    new = arena.fragment(9, {1, 9})
    (verdict,) = arena.learn([(new, 4)])
    assert verdict.confirmed == (new,)


def test_nothing_is_exchanged_before_distances_can_be_weighed():
    arena = Arena(2)
    arena.learn([(arena.fragment(0), 0), (arena.fragment(1), 1)])
    one, other = arena.fragment(0, {0, 1}), arena.fragment(1, {0, 1})
    assert not [verdict for verdict in arena.learn([(one, 1), (other, 0)]) if verdict.moved]


def test_the_same_samples_give_the_same_verdicts():
    def run() -> list:
        arena = Arena(4, apart=1.0)
        arena.begin()
        found = []
        for _ in range(6):
            parts = [arena.fragment(track, {0, 1, 2, 3}) for track in range(4)]
            found += arena.learn([(part, (part.track + 1) % 4) for part in parts], blocks=2)
        return [(verdict.exchanges(), verdict.evidence, verdict.suspected) for verdict in found]

    assert run() == run()


def test_an_ended_track_is_forgotten():
    arena = Arena(4)
    arena.begin()
    arena.live.discard(1)
    assert not [verdict for verdict in arena.learn([(arena.fragment(0, {0, 1}), 1)], 3) if verdict.moved]


def saved(arena: Arena, names: dict[int, str]):
    gallery = arena.identities.gallery(names)
    assert gallery is not None
    return gallery


def recognised(verdicts) -> dict[int, str]:
    return {verdict.recognised[0].track: verdict.recognised[1] for verdict in verdicts if verdict.recognised}


def test_a_gallery_names_the_same_animals_in_another_session():
    monday = Arena(4)
    monday.begin()
    tuesday = Arena(4)
    tuesday.identities = Identities(saved(monday, {0: "ana", 1: "ben", 3: "dan"}))
    order = [3, 1, 0]  # other ids than on Monday
    verdicts = tuesday.learn([(tuesday.fragment(track), animal) for track, animal in enumerate(order)], 3)
    assert recognised(verdicts) == {0: "dan", 1: "ben", 2: "ana"}


def test_an_animal_that_is_not_in_the_gallery_stays_without_a_name():
    monday = Arena(5)
    monday.begin()
    tuesday = Arena(5)
    tuesday.identities = Identities(saved(monday, {0: "ana", 1: "ben", 2: "cem"}))
    parts = [(tuesday.fragment(0), 4), (tuesday.fragment(1), 1)]
    assert recognised(tuesday.learn(parts, 6)) == {1: "ben"}


def test_a_name_that_is_in_use_is_given_to_no_other_track():
    monday = Arena(4)
    monday.begin()
    tuesday = Arena(4)
    tuesday.identities = Identities(saved(monday, {0: "ana", 1: "ben"}))
    part = tuesday.fragment(0)
    samples = [(part, tuesday.looks[0] + tuesday.random.normal(0, 1, (40, SIZE)))]
    assert not recognised(tuesday.identities.learn(samples, {0, 1}, {part.number}, {0}, {1: "ana"}))
    assert recognised(tuesday.identities.learn(samples, {0, 1}, {part.number}, {0}, {})) == {0: "ana"}


def test_a_gallery_of_other_features_is_left_out():
    monday = Arena(4)
    monday.begin()
    later = Identities(saved(monday, {0: "ana"}))
    part = Fragment(0, 0, frozenset({0}), 0)
    assert later.learn([(part, np.zeros((30, SIZE + 1)))], {0}, {0}, {0}) == []


def test_a_gallery_keeps_the_animals_that_it_began_with():
    monday = Arena(4)
    monday.begin()
    tuesday = Arena(4)
    tuesday.identities = Identities(saved(monday, {0: "ana", 1: "ben"}))
    tuesday.learn([(tuesday.fragment(0), 2)], 4)
    assert saved(tuesday, {0: "cem"}).names == ("ana", "ben", "cem")


def test_animals_without_a_name_or_without_samples_are_in_no_gallery():
    arena = Arena(3)
    assert arena.identities.gallery({0: "ana"}) is None
    arena.begin()
    assert arena.identities.gallery({}) is None
    assert saved(arena, {1: "ben", 9: "none"}).names == ("ben",)


def restored(arena: Arena) -> tuple[Identities, dict[int, Fragment]]:
    """The identities of an arena after a restart, and their fragments by number."""
    arrays = arena.identities.snapshot()
    assert arrays is not None
    put_fragments(arrays, arena.identities.fragments)
    by_number = fragments_of(arrays)
    made = Identities()
    made.restore(arrays, by_number)
    return made, by_number


@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_identities_that_are_restored_find_the_same_with_the_same_numbers(blocks):
    arena, other = Arena(4), Arena(4)
    arena.begin(blocks)
    other.begin(blocks)
    first = [arena.fragment(track, {0, 1, 2}) for track in range(3)]
    arena.learn(list(zip(first, (1, 0, 2), strict=True)))
    second = [other.fragment(track, {0, 1, 2}) for track in range(3)]
    other.learn(list(zip(second, (1, 0, 2), strict=True)))
    other.identities, by_number = restored(other)
    second = [by_number[each.number] for each in second]
    for _ in range(6):
        found = arena.learn(list(zip(first, (1, 0, 2), strict=True)))
        again = other.learn(list(zip(second, (1, 0, 2), strict=True)))
        assert [each.exchanges() for each in found] == [each.exchanges() for each in again]
        assert [each.evidence for each in found] == [each.evidence for each in again]
    one, two = arena.identities.snapshot(), other.identities.snapshot()
    assert one is not None
    assert two is not None
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], name)


@pytest.mark.parametrize("blocks", [1, 3])
def test_animals_of_a_gallery_are_recognised_after_a_restart_as_without_it(blocks):
    arena = Arena(4)
    arena.begin(12)
    gallery = arena.identities.gallery({0: "Ann", 1: "Ben", 2: "Cat"})
    assert gallery is not None
    found = []
    for restarts in (False, True):
        arena = Arena(4)
        arena.identities = Identities(gallery)
        fragments = [arena.fragment(track) for track in range(4)]
        names = arena.learn(list(zip(fragments, (2, 0, 3, 1), strict=True)), blocks)
        if restarts:
            arrays = arena.identities.snapshot()
            assert arrays is not None
            put_fragments(arrays, arena.identities.fragments)
            by_number = fragments_of(arrays)
            arena.identities = Identities(gallery)
            arena.identities.restore(arrays, by_number)
            fragments = [by_number[each.number] for each in fragments]
        names += arena.learn(list(zip(fragments, (2, 0, 3, 1), strict=True)), 6)
        found.append([(each.recognised[0].track, each.recognised[1]) for each in names if each.recognised])
    assert found[0] == found[1]
    assert set(found[0]) == {(0, "Cat"), (1, "Ann"), (3, "Ben")}


def test_nothing_is_stored_before_anything_is_learnt():
    assert Identities().snapshot() is None


def test_what_is_forgotten_of_an_id_is_learnt_anew():
    arena = Arena(3)
    arena.begin()
    arena.identities.forget({1})
    arrays = arena.identities.snapshot()
    assert arrays is not None
    assert arrays["ids"].tolist() == [0, 2]
    assert 1 not in arrays["history"][:, 1]
    arena.begin()
    arrays = arena.identities.snapshot()
    assert arrays is not None
    assert sorted(arrays["ids"].tolist()) == [0, 1, 2]


def test_a_fragment_without_samples_passes_on_what_was_believed_before_it():
    arena = Arena(3)
    arena.begin()
    first = arena.fragment(0, {0, 1})
    arena.learn([(first, 0)], 0)
    unseen = Fragment(first.number + 1, 0, frozenset({0, 1}), 0)
    arena.identities.miss(unseen)
    after = Fragment(first.number + 2, 0, frozenset({0, 1}), 0, before=unseen.number)
    arena.identities.miss(after)
    arrays = arena.identities.snapshot()
    assert arrays is not None
    once, twice = numbers_of(arrays, "beliefs")[-2:]
    assert once[1] < twice[1] < 0, "after two unseen fragments the other animal is more likely"


@pytest.mark.parametrize("name", ["ids.values", "history", "open.waiting.values", "scatter", "beliefs.values", "size"])
def test_arrays_that_are_missing_or_do_not_belong_together_are_refused(name):
    arena = Arena(3)
    arena.begin()
    arena.learn([(arena.fragment(0, {0, 1}), 0), (arena.fragment(1, {0, 1}), 1)])
    arrays = arena.identities.snapshot()
    assert arrays is not None
    put_fragments(arrays, arena.identities.fragments)
    by_number = fragments_of(arrays)
    for wrong in ({}, {name: arrays[name][:-1]}, {name: np.concatenate([arrays[name]] * 2)}):
        changed = {key: array for key, array in arrays.items() if key != name} | wrong
        if wrong and changed[name].shape == arrays[name].shape:
            continue
        with pytest.raises((ValueError, KeyError)):
            Identities().restore(changed, by_number)
