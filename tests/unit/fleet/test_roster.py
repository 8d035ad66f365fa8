"""What a member knows of the others."""

from __future__ import annotations

from dataclasses import replace

from trackd.fleet.placement import place
from trackd.fleet.roster import Roster, RosterCounts
from trackd.fleet.store import Member, Owner

MEMBERS = [
    Member("c", "c1", {"control": "tcp://c:3"}, capacity=8, streams=3),
    Member("a", "a1", {"control": "tcp://a:3", "http": "http://a:4"}, capacity=16, streams=16),
    Member("b", "b1", {"control": "tcp://b:3"}, capacity=32, streams=5, draining=True),
]


def roster_of(*members: Member) -> Roster:
    roster = Roster()
    roster.update({member.name: member for member in members})
    return roster


def test_a_roster_is_empty_until_the_first_report() -> None:
    roster = Roster()
    assert (roster.members, roster.counts) == ((), RosterCounts(0, 0, 0, 0))
    assert roster.place("cam") is None
    assert not roster.is_alive(Owner("a", "a1", 1))
    assert roster.control_endpoints() == []


def test_members_are_in_the_order_of_their_names() -> None:
    roster = roster_of(*MEMBERS)
    assert [member.name for member in roster.members] == ["a", "b", "c"]
    assert roster.control_endpoints() == ["tcp://a:3", "tcp://b:3", "tcp://c:3"]
    assert roster.get("b") == MEMBERS[2]
    assert roster.get("d") is None


def test_counts_leave_out_the_capacity_of_draining_members() -> None:
    assert roster_of(*MEMBERS).counts == RosterCounts(members=3, draining=1, capacity=24, streams=24)


def test_an_owner_lives_while_its_process_is_a_member() -> None:
    roster = roster_of(*MEMBERS)
    assert roster.is_alive(Owner("a", "a1", 7))
    assert roster.is_alive(Owner("b", "b1", 1)), "a draining member owns its streams until they have moved"
    assert not roster.is_alive(Owner("a", "a2", 8)), "another process under the same name"
    assert not roster.is_alive(Owner("d", "a1", 8))


def test_an_update_replaces_the_members() -> None:
    roster = roster_of(*MEMBERS)
    before = roster.members
    roster.update({"a": replace(MEMBERS[1], instance="a2")})
    assert not roster.is_alive(Owner("a", "a1", 7))
    assert not roster.is_alive(Owner("c", "c1", 7))
    assert roster.is_alive(Owner("a", "a2", 8))
    assert len(before) == 3, "what a thread has read does not change"


def test_an_update_does_not_change_with_its_argument() -> None:
    members = {member.name: member for member in MEMBERS}
    roster = Roster()
    roster.update(members)
    del members["a"]
    assert roster.is_alive(Owner("a", "a1", 7))


def test_a_stream_is_placed_among_the_living_members() -> None:
    roster = roster_of(*MEMBERS)
    streams = [f"cam-{number}" for number in range(50)]
    assert [roster.place(stream) for stream in streams] == [place(stream, MEMBERS) for stream in streams]
    roster.update({"b": MEMBERS[2]})
    assert roster.place("cam-1") is None
