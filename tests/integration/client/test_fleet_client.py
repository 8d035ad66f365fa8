"""A client of a fleet follows its streams: over kills, moves, stale members and a store that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from fake_daemon import TWO
from fake_fleet import FakeFleet

from trackd_client import Client, ErrorCode, FleetClient, Timeout, TrackdError


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    made = FakeFleet("a", "b", "c")
    yield made
    made.stop()


@pytest.fixture
def client(fleet) -> Iterator[FleetClient]:
    with FleetClient(fleet.control[1:2], timeout_s=5.0) as made:
        yield made


def sequence(fleet: FakeFleet, stream: str = "cam") -> list[int]:
    return [row.frame_index for row in fleet.stored(stream).settled]


def test_a_stream_is_opened_where_it_is_placed_by_any_member(fleet, client):
    with client.open_stream("cam", reply="tracks") as stream:
        assert stream.track(None, TWO).seq == 0
        assert fleet.stored("cam").owner == "a"
    assert fleet.members["a"].opens[0].member == "a"
    assert not fleet.members["b"].opens
    assert sorted(client.members) == sorted(fleet.control)  # learnt from one of them


def test_a_stream_goes_on_at_the_next_owner_after_a_kill(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    for index in range(5):
        stream.track(None, TWO, frame_index=index)
    fleet.kill("a")
    # The lease of the dead owner goes on for a while, and members name it meanwhile.
    threading.Timer(0.8, lambda: fleet.expire("a", placed="c")).start()
    started = time.monotonic()
    assert stream.track(None, TWO, frame_index=5, timeout_s=10.0).seq == 5
    assert time.monotonic() - started >= 0.8
    assert sequence(fleet) == [0, 1, 2, 3, 4, 5]
    reopened = fleet.members["c"].opens[0]
    assert (reopened.takeover, reopened.member) == (True, "c")
    assert stream.epoch == 1
    stream.close()


def test_a_move_under_load_loses_and_doubles_nothing(fleet, client):
    stream = client.open_stream("cam")
    for index in range(200):
        stream.send(None, TWO, frame_index=index)
        if index in (50, 150):
            fleet.hand_on("cam", "b" if index == 50 else "c")
    stream.flush()
    assert sequence(fleet) == list(range(200))
    assert fleet.stored("cam").owner == "c"
    assert fleet.stored("cam").term == 3
    stream.close()


def test_a_silent_owner_is_left(fleet, client):
    """A process that is stopped keeps its connections open."""
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    wake = fleet.members["a"].freeze()
    fleet.expire("a", placed="b")
    assert stream.track(None, TWO, timeout_s=8.0).seq == 1
    assert fleet.stored("cam").owner == "b"
    wake.set()
    stream.close()


def test_an_answer_with_a_lower_term_is_not_followed(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    for _ in range(2):
        fleet.hand_on("cam", "b" if fleet.stored("cam").owner == "a" else "a")
        stream.track(None, TWO)
    assert fleet.stored("cam").term == 3
    client.locate("cam")
    # c has not heard of any move: it names b with term 2.
    fleet.members["c"].stale = ("b", 2)
    client._directory._order.sort(key=lambda each: each != fleet.members["c"].endpoints["control"])
    opened_at_b = len(fleet.members["b"].opens)
    fleet.members["a"].restart()  # cuts the connection; the state stays
    assert stream.track(None, TWO, timeout_s=5.0).seq == 3
    assert fleet.members["c"].located > 0
    assert len(fleet.members["b"].opens) == opened_at_b
    stream.close()


def test_while_the_store_is_away_frames_wait(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    fleet.away = True
    owner = fleet.members["a"]
    away = owner._opened(owner.opens[0])
    owner.run(lambda: owner.send_to_owner("cam", [away]))
    with pytest.raises(Timeout):
        stream.track(None, TWO, timeout_s=1.0)
    fleet.away = False
    stream.track(None, TWO, timeout_s=3.0)
    stream.flush()
    assert sequence(fleet)[0] == 0
    assert len(sequence(fleet)) == len(set(sequence(fleet)))
    stream.close()


def test_an_open_without_an_owner_says_what_each_member_answered(fleet, client):
    fleet.away = True
    with pytest.raises(Timeout) as raised:
        client.open_stream("cam", timeout_s=1.0)
    text = str(raised.value)
    assert "no member of the fleet opened stream 'cam' within 1 s" in text
    assert "the store cannot be reached" in text
    assert fleet.control[1] in text
    fleet.away = False
    with client.open_stream("cam"):
        pass


def test_an_open_at_a_dead_owner_is_bounded(fleet, client):
    client.open_stream("cam").close()
    fleet.stored("cam").owner = "a"
    fleet.kill("a")
    started = time.monotonic()
    with pytest.raises(Timeout, match="member 'a'"):
        client.open_stream("cam", timeout_s=1.5)
    assert time.monotonic() - started < 10.0


def test_requests_go_to_the_owner_and_follow_it(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    assert [row.seq for row in client.history("cam")] == [0]
    fleet.hand_on("cam", "b")
    stream.track(None, TWO)
    assert [row.seq for row in client.history("cam")] == [0, 1]
    assert client.live_position("cam") == (1, 1)
    assert client.configure("cam", {"max_gap": 3}) == {"stream": {"on_overload": "drop_oldest"}}
    assert client.request("status")["ready"] is True
    stream.close()


def test_a_request_about_an_unknown_stream_is_refused_at_once(fleet, client):
    started = time.monotonic()
    with pytest.raises(TrackdError) as raised:
        client.live("nothing")
    assert raised.value.code is ErrorCode.UNKNOWN_STREAM
    assert time.monotonic() - started < 4.0  # not the time limit of the client


def test_a_request_with_no_living_member_says_so(fleet):
    for name in ("a", "b", "c"):
        fleet.kill(name)
    with (
        FleetClient(fleet.control[:2], timeout_s=1.0) as client,
        pytest.raises(Timeout, match="no member of the fleet answered status within 1 s"),
    ):
        client.request("status")


def test_a_client_of_one_daemon_names_the_owner_and_the_other_client(fleet):
    member = fleet.members["b"]
    with Client(**member.endpoints, timeout_s=2.0) as client:
        with pytest.raises(TrackdError) as raised:
            client.open_stream("cam")
        assert raised.value.code is ErrorCode.MOVED
        assert "is at member 'a'" in raised.value.message
        assert fleet.members["a"].endpoints["ingest"] in raised.value.message
        assert "FleetClient" in raised.value.message
        with pytest.raises(TrackdError, match="FleetClient") as raised:
            client.history("cam")
        assert raised.value.code is ErrorCode.MOVED


def test_shared_memory_is_refused(client):
    with pytest.raises(TrackdError, match="shared_memory"):
        client.open_stream("cam", shared_memory=True)


@pytest.mark.parametrize("members", [[], "tcp://127.0.0.1:5572"])
def test_members_must_be_a_list(members):
    with pytest.raises(ValueError, match="members must be a list"):
        FleetClient(members)


def test_a_closed_stream_has_no_thread_and_no_connection(fleet, client):
    before = threading.active_count()
    stream = client.open_stream("cam")
    assert threading.active_count() == before + 1
    stream.close()
    stream.close()
    deadline = time.monotonic() + 3
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == before
    with pytest.raises(TrackdError, match="closed"):
        stream.send(None, TWO)
    with client.open_stream("cam") as again:
        again.send(None, TWO)
