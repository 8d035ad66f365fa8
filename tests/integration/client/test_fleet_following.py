"""Subscribers to a fleet get every settlement once and in order, wherever its stream is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from fake_daemon import TWO
from fake_fleet import FakeFleet, beat

from trackd_client import EventName, FleetClient, Timeout


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    made = FakeFleet("a", "b", "c")
    yield made
    made.stop()


@pytest.fixture
def client(fleet) -> Iterator[FleetClient]:
    with FleetClient(fleet.control, timeout_s=5.0) as made:
        yield made


def collected(subscription, out: list[int]) -> threading.Thread:
    """Read a subscription on a thread until it ends."""
    thread = threading.Thread(target=lambda: out.extend(row.seq for row in subscription), daemon=True)
    thread.start()
    return thread


def read_with_heartbeats(fleet: FakeFleet, subscription, count: int) -> list[int]:
    """Return the seqs of the next settlements, while the owner publishes heartbeats."""
    found: list[int] = []

    def read() -> None:
        found.extend(row.seq for row in islice(subscription, count))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + 8
    while reader.is_alive() and time.monotonic() < deadline:
        beat(fleet, "cam")
        reader.join(0.2)
    return found


def test_a_subscription_follows_moves_until_the_stream_is_closed(fleet, client):
    stream = client.open_stream("cam")
    subscription = client.tracks("cam", from_seq=0, until_closed=True)
    seqs: list[int] = []
    reader = collected(subscription, seqs)
    for index in range(300):
        stream.send(None, TWO)
        if index in (60, 120, 180, 240):
            stream.flush()
            fleet.hand_on("cam", "b" if fleet.stored("cam").owner == "a" else "a")
        time.sleep(0.002)
    stream.flush()
    beat(fleet, "cam")
    time.sleep(0.5)
    stream.close()
    reader.join(10)
    assert not reader.is_alive()
    assert seqs == list(range(300))


def test_a_subscription_follows_a_takeover_and_fills_from_the_next_owner(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    subscription = client.tracks("cam", from_seq=0, timeout_s=8.0)
    for _ in range(3):
        stream.track(None, TWO)
    assert [row.seq for row in islice(subscription, 3)] == [0, 1, 2]
    fleet.kill("a")
    fleet.expire("a", placed="b")
    for _ in range(3):  # published before the subscription has found the next owner
        stream.track(None, TWO)
    assert read_with_heartbeats(fleet, subscription, 3) == [3, 4, 5]
    stream.close()


def test_missing_settlements_wait_for_the_next_owner(fleet, client):
    """A gap that shows before its owner dies is filled by the owner after it."""
    with FleetClient(fleet.control, timeout_s=5.0) as sender:
        stream = sender.open_stream("cam", reply="tracks")
        subscription = client.tracks("cam", timeout_s=8.0)
        time.sleep(0.2)
        stream.track(None, TWO)
        assert next(subscription).seq == 0
        fleet.members["a"].publish = False
        stream.track(None, TWO)
        stream.track(None, TWO)
        beat(fleet, "cam")
        time.sleep(0.1)
    fleet.kill("a")
    fleet.expire("a", placed="c")
    with pytest.raises(Timeout):
        subscription.next(2.0)  # nobody has the stream: nothing counts as lost
    stream = client.open_stream("cam", reply="tracks", takeover=True)
    stream.track(None, TWO)
    assert read_with_heartbeats(fleet, subscription, 3) == [1, 2, 3]
    stream.close()


def test_one_subscription_follows_streams_of_several_members(fleet, client):
    left = client.open_stream("left")
    fleet.placed = "b"
    right = client.open_stream("right")
    assert (fleet.stored("left").owner, fleet.stored("right").owner) == ("a", "b")
    subscription = client.tracks("left", "right", from_seq=0, timeout_s=5.0)
    for _ in range(5):
        left.send(None, TWO)
        right.send(None, TWO)
    fleet.hand_on("left", "b")
    for _ in range(5):
        left.send(None, TWO)
    left.flush()
    right.flush()
    beat(fleet, "left")
    rows = list(islice(subscription, 15))
    assert [row.seq for row in rows if row.stream == "left"] == list(range(10))
    assert [row.seq for row in rows if row.stream == "right"] == list(range(5))
    left.close()
    right.close()


def test_events_follow_a_stream(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    events = client.events("cam", timeout_s=5.0)
    time.sleep(0.2)
    beat(fleet, "cam")
    assert next(events).event is EventName.HEARTBEAT
    fleet.hand_on("cam", "c")
    stream.track(None, TWO)
    moved = next(events)
    assert (moved.event, moved.detail["member"], moved.last_seq) == (EventName.MOVED, "c", 0)
    time.sleep(0.3)
    reader_saw = []
    reader = threading.Thread(target=lambda: reader_saw.append(next(events)), daemon=True)
    reader.start()
    for _ in range(20):
        beat(fleet, "cam")
        reader.join(0.1)
        if not reader.is_alive():
            break
    assert (reader_saw[0].event, reader_saw[0].last_seq) == (EventName.HEARTBEAT, 1)
    stream.close()


def test_raw_messages_follow_a_stream(fleet, client):
    stream = client.open_stream("cam", reply="tracks")
    stream.track(None, TWO)
    raw = client.follow_raw("cam", from_seq=0)
    fleet.hand_on("cam", "b")
    stream.track(None, TWO)
    seen: list[bytes] = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and seen.count(b"tracks/cam/") < 2:
        seen += [message.parts[0] for message in raw.step(0.2)]
        beat(fleet, "cam")
    assert seen.count(b"tracks/cam/") == 2
    stream.close()
