"""Which streams move so that each member has its share."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.fleet.placement import Move, rebalance
from trackd.fleet.store import Member, Owner

NAMES = ("m1", "m2", "m3", "m4", "m5")


def member(name: str, capacity: int, draining: bool = False) -> Member:
    return Member(name, f"{name}-instance", {}, capacity, draining=draining)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[str, Owner], list[Member]]:
    """Draw up to five members, and streams of theirs, of their earlier processes, and of one that is gone."""
    members = [
        member(name, draw(st.integers(0, 20)), draw(st.integers(0, 4)) == 0)
        for name in NAMES[: draw(st.integers(1, len(NAMES)))]
    ]
    owners = {}
    for number in range(draw(st.integers(0, 30))):
        name = draw(st.sampled_from([*(each.name for each in members), "gone"]))
        instance = f"{name}-instance" if draw(st.integers(0, 9)) else "earlier"
        owners[f"cam-{number}"] = Owner(name, instance, term=number)
    return owners, members


def counts(owners: dict[str, Owner], members: list[Member]) -> dict[str, int]:
    """Return how many streams each member that is not draining owns."""
    owned = Counter((owner.member, owner.instance) for owner in owners.values())
    return {each.name: owned[each.name, each.instance] for each in members if not each.draining}


def after(owners: dict[str, Owner], moves: list[Move]) -> dict[str, Owner]:
    new = dict(owners)
    for move in moves:
        assert owners[move.stream] == Owner(move.source, f"{move.source}-instance", owners[move.stream].term)
        new[move.stream] = Owner(move.target, f"{move.target}-instance", owners[move.stream].term + 1)
    return new


def shares(owners: dict[str, Owner], members: list[Member]) -> dict[str, Fraction]:
    total, capacity = sum(counts(owners, members).values()), sum(each.capacity for each in members if not each.draining)
    return {each.name: Fraction(total * each.capacity, capacity) for each in members if not each.draining}


def takes_streams(members: list[Member]) -> bool:
    return any(each.capacity > 0 and not each.draining for each in members)


@given(fleets())
def test_each_member_has_less_than_one_stream_from_its_share(fleet: tuple[dict[str, Owner], list[Member]]) -> None:
    owners, members = fleet
    moves = rebalance(owners, members)
    if not takes_streams(members):
        assert moves == []
        return
    have = counts(after(owners, moves), members)
    assert [name for name, share in shares(owners, members).items() if abs(have[name] - share) >= 1] == []


@given(fleets())
def test_no_other_moves_are_fewer(fleet: tuple[dict[str, Owner], list[Member]]) -> None:
    owners, members = fleet
    moves = rebalance(owners, members)
    assert len({move.stream for move in moves}) == len(moves)
    if not takes_streams(members):
        return
    have, share = counts(owners, members), shares(owners, members)
    bounds = [range(int(each), -int(-each // 1) + 1) for each in share.values()]
    possible = [
        sum(max(0, now - wanted) for now, wanted in zip(have.values(), targets, strict=True))
        for targets in itertools.product(*bounds)
        if sum(targets) == sum(have.values())
    ]
    assert len(moves) == min(possible)


@given(fleets())
def test_no_stream_moves_to_or_from_a_draining_member_nor_to_one_without_capacity(
    fleet: tuple[dict[str, Owner], list[Member]],
) -> None:
    owners, members = fleet
    moves = rebalance(owners, members)
    draining = {each.name for each in members if each.draining}
    without = {each.name for each in members if each.capacity == 0}
    assert {move.target for move in moves}.isdisjoint(draining | without)
    assert {move.source for move in moves}.isdisjoint(draining)


@given(fleets())
def test_a_balanced_fleet_moves_nothing(fleet: tuple[dict[str, Owner], list[Member]]) -> None:
    owners, members = fleet
    assert rebalance(after(owners, rebalance(owners, members)), members) == []


@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_changes_nothing(fleet: tuple[dict[str, Owner], list[Member]], random) -> None:
    owners, members = fleet
    shuffled = dict(random.sample(list(owners.items()), len(owners)))
    assert rebalance(shuffled, random.sample(members, len(members))) == rebalance(owners, members)


@given(fleets())
def test_streams_without_a_living_owner_stay_out_of_it(fleet: tuple[dict[str, Owner], list[Member]]) -> None:
    owners, members = fleet
    instances = {each.name: each.instance for each in members}
    living = {stream: owner for stream, owner in owners.items() if instances.get(owner.member) == owner.instance}
    assert rebalance(owners, members) == rebalance(living, members)


@pytest.mark.parametrize("streams", [2, 3, 10])
def test_a_member_that_joins_gets_its_share(streams: int) -> None:
    owners = {f"cam-{number}": Owner("m1", "m1-instance", 1) for number in range(streams)}
    moves = rebalance(owners, [member("m1", 64), member("m2", 64)])
    assert [(move.source, move.target) for move in moves] == [("m1", "m2")] * (streams // 2)
