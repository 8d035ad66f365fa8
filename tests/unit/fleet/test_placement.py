"""Where streams are placed: the laws of weighted rendezvous hashing."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.fleet.placement import place
from trackd.fleet.store import Member

STREAMS = [f"lab{number % 7}.cam-{number}" for number in range(60)]


def member(name: str, capacity: int = 64, streams: int = 0, draining: bool = False) -> Member:
    return Member(name, f"{name}-instance", {"control": f"tcp://{name}:1"}, capacity, streams, draining)


MEMBERS = st.lists(
    st.builds(
        member,
        st.text("abcdefgh-", min_size=1, max_size=6),
        capacity=st.integers(0, 100),
        streams=st.integers(0, 120),
        draining=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.name,
)


def takes(each: Member) -> bool:
    return each.capacity > 0 and not each.draining


def placed(members: list[Member], streams: list[str] = STREAMS) -> dict[str, str | None]:
    found = {stream: place(stream, members) for stream in streams}
    return {stream: None if each is None else each.name for stream, each in found.items()}


@given(MEMBERS)
def test_a_stream_goes_to_a_member_that_takes_streams_if_there_is_one(members: list[Member]) -> None:
    taking = {each.name for each in members if takes(each)}
    assert set(placed(members).values()) <= (taking or {None})


@given(MEMBERS, st.randoms(use_true_random=False))
def test_the_order_of_the_members_changes_nothing(members: list[Member], random) -> None:
    shuffled = random.sample(members, len(members))
    assert placed(shuffled) == placed(members)


@given(MEMBERS.filter(len), st.data())
def test_if_a_member_leaves_only_its_streams_move(members: list[Member], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(members))
    before, after = placed(members), placed([each for each in members if each is not gone])
    assert {stream for stream in STREAMS if before[stream] != after[stream]} == {
        stream for stream in STREAMS if before[stream] == gone.name
    }


@given(MEMBERS)
def test_if_a_member_joins_streams_move_to_it_only(members: list[Member]) -> None:
    before, after = placed(members), placed([*members, member("new member")])
    moved = {stream for stream in STREAMS if before[stream] != after[stream]}
    assert {after[stream] for stream in moved} <= {"new member"}


@given(MEMBERS.filter(len), st.data())
def test_more_room_takes_streams_from_no_member_but_the_others(members: list[Member], data: st.DataObject) -> None:
    grown = data.draw(st.sampled_from(members))
    larger = replace(grown, capacity=grown.capacity + 50)
    before, after = placed(members), placed([larger if each is grown else each for each in members])
    assert {after[stream] for stream in STREAMS if before[stream] != after[stream]} <= {grown.name}


@given(MEMBERS)
def test_a_draining_member_is_as_an_absent_one(members: list[Member]) -> None:
    assert placed(members) == placed([each for each in members if not each.draining])


@pytest.mark.parametrize(
    ("rooms", "rest"),
    [((64, 64, 64, 64), 0), ((8, 16, 32, 64, 128), 0), ((1, 1, 62), 100), ((10,) * 20, 30)],
)
def test_shares_follow_the_free_capacity(rooms: tuple[int, ...], rest: int) -> None:
    members = [member(f"member-{number}", room + rest, rest) for number, room in enumerate(rooms)]
    count = 20_000
    counts = Counter(placed(members, [f"cam-{number}" for number in range(count)]).values())
    for each, room in zip(members, rooms, strict=True):
        share = room / sum(rooms)
        # Five standard deviations of a binomial count: one of two million fair placements is farther off.
        assert abs(counts[each.name] - count * share) <= 5 * math.sqrt(count * share * (1 - share))


def test_a_full_member_gets_no_stream_while_another_has_room() -> None:
    members = [*(member(f"full-{number}", 64, 64 + number) for number in range(10)), member("free", 64, 63)]
    assert set(placed(members, [f"cam-{number}" for number in range(1000)]).values()) == {"free"}


def test_full_members_share_by_capacity() -> None:
    members = [member("small", 16, 16), member("large", 48, 60)]
    counts = Counter(placed(members, [f"cam-{number}" for number in range(4000)]).values())
    assert counts["large"] == pytest.approx(3000, abs=5 * math.sqrt(4000 * 0.75 * 0.25))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_places_the_same(seed: str) -> None:
    members = [member(f"member-{number}", 10 + 7 * number, number) for number in range(9)]
    code = (
        "from trackd.fleet.placement import place\nfrom trackd.fleet.store import Member\n"
        f"members = {members!r}\n"
        f"print(','.join(place(stream, members).name for stream in {STREAMS!r}))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert other.stdout.strip().split(",") == list(placed(members).values())


@pytest.mark.parametrize("stream", STREAMS[:20])
def test_the_place_is_that_of_the_formula(stream: str) -> None:
    """Members of different versions must agree, so the hash and the formula are fixed."""
    from hashlib import blake2b

    members = [member(f"member-{number}", 10 + 7 * number, number) for number in range(9)]

    def score(each: Member) -> float:
        digest = blake2b(stream.encode() + b"\0" + each.name.encode(), digest_size=8).digest()
        return -(each.capacity - each.streams) / math.log(int.from_bytes(digest, "big") / 2**64)

    assert place(stream, members) == max(members, key=score)
