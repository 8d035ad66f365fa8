"""Subscribers get every settlement exactly once and in order, also if messages are lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from itertools import islice

import pytest
from fake_daemon import TWO, FakeDaemon

from trackd_client import Client, Timeout, TrackdError
from trackd_client.protocol import Event, EventName, Frame, Tracks


def settle(fake: FakeDaemon, *seqs: int, stream: str = "cam", publish: bool = True) -> None:
    """Settle frames that no client has sent."""

    def command() -> None:
        fake.publish = publish
        fake.settled.setdefault(stream, [])
        for seq in seqs:
            fake.settle(Frame(stream, seq, seq, seq, TWO))
        fake.publish = True

    fake.run(command)


def event(fake: FakeDaemon, name: EventName, last_seq: int, epoch: int | None = None, stream: str = "cam") -> None:
    fake.run(lambda: fake.publish_event(Event(stream, name, fake.epoch if epoch is None else epoch, last_seq)))


def subscribe(fake: FakeDaemon, of: Client, *others: str, **options: object):
    """Subscribe and wait until the daemon has the subscription. Earlier messages would not arrive."""
    subscription = of.tracks("cam", *others, **{"timeout_s": 3.0, **options})
    time.sleep(0.15)  # a SUB socket does not report that the publisher has its subscription
    return subscription


def seqs(tracks: list[Tracks]) -> list[int]:
    return [row.seq for row in tracks]


def test_published_settlements_are_returned_in_order(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, *range(5))
    assert seqs(list(islice(subscription, 5))) == [0, 1, 2, 3, 4]


def test_a_gap_is_filled_from_history_page_by_page(daemon, client):
    daemon.page = 3
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0)
    settle(daemon, *range(1, 11), publish=False)
    settle(daemon, 11)
    assert seqs(list(islice(subscription, 12))) == list(range(12))


def test_a_settlement_published_twice_is_returned_once(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0, 1, 0, 1, 2)
    assert seqs(list(islice(subscription, 3))) == [0, 1, 2]
    with pytest.raises(Timeout):
        subscription.next(0.1)


def test_a_heartbeat_shows_the_loss_of_the_last_message(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0)
    settle(daemon, 1, 2, publish=False)
    event(daemon, EventName.HEARTBEAT, 2)
    assert seqs(list(islice(subscription, 3))) == [0, 1, 2]


def test_a_late_subscriber_begins_with_the_next_settlement(daemon, client):
    settle(daemon, *range(10))
    subscription = subscribe(daemon, client)
    settle(daemon, 9, 10)
    assert next(subscription).seq == 10


def test_from_seq_replays_history_first(daemon, client):
    settle(daemon, *range(10))
    subscription = subscribe(daemon, client, from_seq=4)
    settle(daemon, 10)
    assert seqs(list(islice(subscription, 7))) == list(range(4, 11))


def test_settlements_missing_from_history_are_logged_and_the_rest_is_returned(daemon, client, caplog):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0)
    settle(daemon, 1, 2, 3, publish=False)
    del daemon.settled["cam"][1:3]
    settle(daemon, 4)
    with caplog.at_level(logging.WARNING):
        assert seqs(list(islice(subscription, 3))) == [0, 3, 4]
    assert "2 settlements" in caplog.text


def test_a_request_to_history_without_an_answer_is_repeated_and_nothing_is_lost(daemon, caplog):
    settle(daemon)
    with Client(**daemon.endpoints, timeout_s=0.3) as client, caplog.at_level(logging.WARNING):
        subscription = subscribe(daemon, client)
        settle(daemon, 0)
        assert next(subscription).seq == 0
        daemon.answers_control = False
        settle(daemon, 1, 2, publish=False)
        settle(daemon, 3)
        with pytest.raises(Timeout):
            subscription.next(0.5)
        daemon.answers_control = True
        assert seqs(list(islice(subscription, 3))) == [1, 2, 3]
    assert "request to history is repeated" in caplog.text
    assert "lost" not in caplog.text.replace("connection lost", "")


def test_a_stream_that_opens_later_is_returned_from_its_first_frame(daemon, client):
    subscription = subscribe(daemon, client)
    settle(daemon, 0, 1, publish=False)
    settle(daemon, 2)
    assert seqs(list(islice(subscription, 3))) == [0, 1, 2]


def test_a_subscription_ends_with_the_stream_after_the_last_message(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client, until_closed=True)
    settle(daemon, 0)
    settle(daemon, 1, 2, publish=False)
    event(daemon, EventName.CLOSED, 2)
    assert seqs(list(subscription)) == [0, 1, 2]


def test_a_subscription_ends_although_the_closed_event_was_lost(daemon, client, monkeypatch):
    monkeypatch.setattr("trackd_client.following.gap_filler.SILENCE_S", 0.2)
    settle(daemon)
    subscription = subscribe(daemon, client, until_closed=True)
    settle(daemon, 0)
    assert next(subscription).seq == 0
    daemon.run(lambda: daemon.closed.add("cam"))
    assert list(subscription) == []


def test_after_a_reset_the_old_epoch_is_completed_before_the_new_one(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0)
    settle(daemon, 1, publish=False)
    daemon.epoch = 2
    settle(daemon, 2, publish=False)
    settle(daemon, 3)
    got = list(islice(subscription, 4))
    assert [(row.epoch, row.seq) for row in got] == [(1, 0), (1, 1), (2, 2), (2, 3)]


def test_a_stream_closed_and_opened_again_counts_from_0(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0, 1)
    daemon.epoch = 2
    daemon.run(lambda: daemon.settled["cam"].clear())
    settle(daemon, 0)
    assert [(row.epoch, row.seq) for row in islice(subscription, 3)] == [(1, 0), (1, 1), (2, 0)]


def test_a_subscription_continues_after_a_restart_of_the_daemon(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client, timeout_s=5.0)
    settle(daemon, 0)
    assert next(subscription).seq == 0
    daemon.restart()
    settle(daemon, 1, 2)
    for _ in range(20):
        time.sleep(0.1)
        event(daemon, EventName.HEARTBEAT, 2)
        if subscription._socket.poll(0):
            break
    assert seqs(list(islice(subscription, 2))) == [1, 2]


def test_streams_of_similar_names_are_kept_apart(daemon, client):
    settle(daemon)
    subscription = subscribe(daemon, client)
    settle(daemon, 0, stream="cam10")
    settle(daemon, 0)
    assert next(subscription).stream == "cam"
    with pytest.raises(Timeout):
        subscription.next(0.1)


def test_one_iterator_returns_several_streams_each_complete_and_in_order(daemon, client):
    settle(daemon)
    settle(daemon, stream="left")
    subscription = subscribe(daemon, client, "left")
    settle(daemon, 0)
    settle(daemon, 0, 1, stream="left")
    settle(daemon, 1, 2, publish=False)  # the next message of this stream shows this gap
    settle(daemon, 3)
    settle(daemon, 2, 3, stream="left", publish=False)  # only a heartbeat shows this gap
    event(daemon, EventName.HEARTBEAT, 3, stream="left")
    got = list(islice(subscription, 8))
    assert {name: [row.seq for row in got if row.stream == name] for name in ("cam", "left")} == {
        "cam": [0, 1, 2, 3],
        "left": [0, 1, 2, 3],
    }


def test_a_gap_of_one_stream_is_filled_while_another_is_always_active(daemon, client):
    settle(daemon)
    settle(daemon, stream="left")
    subscription = subscribe(daemon, client, "left")
    settle(daemon, 0, stream="left", publish=False)
    event(daemon, EventName.HEARTBEAT, 0, stream="left")
    streams, deadline = [], time.monotonic() + 5.0
    for seq in range(1000):
        settle(daemon, seq)
        streams.append(next(subscription).stream)
        if streams[-1] == "left":
            break
        assert time.monotonic() < deadline, "the frame of the inactive stream was never requested"
        time.sleep(0.01)
    assert streams.count("left") == 1


def test_a_subscription_to_several_streams_ends_with_the_last_one(daemon, client):
    settle(daemon)
    settle(daemon, stream="left")
    subscription = subscribe(daemon, client, "left", until_closed=True)
    settle(daemon, 0)
    event(daemon, EventName.CLOSED, 0)
    settle(daemon, 0, stream="left")
    event(daemon, EventName.CLOSED, 0, stream="left")
    assert [(row.stream, row.seq) for row in subscription] == [("cam", 0), ("left", 0)]


def test_an_unreadable_message_is_skipped(daemon, client, caplog):
    settle(daemon)
    subscription = subscribe(daemon, client)
    with caplog.at_level(logging.WARNING):
        daemon.run(lambda: daemon.sockets["tracks"].send_multipart([b"tracks/cam/", b"\xc1"]))
        settle(daemon, 0)
        assert next(subscription).seq == 0
    assert "cannot read" in caplog.text


PAUSING_READER = """
import time, zmq
from trackd_client.following import subscription
from trackd_client.transport import connection
connection.HEARTBEAT_MS = 1000  # several heartbeats pass during the pause
context = zmq.Context()
publisher = context.socket(zmq.XPUB)
publisher.sndhwm = 0
port = publisher.bind_to_random_port("tcp://127.0.0.1")
reader = subscription.Subscription(context, f"tcp://127.0.0.1:{port}", ("cam",), (b"t",), None, None)
assert publisher.recv() == bytes([1]) + b"t"
many = 40 * subscription.RECEIVE_MESSAGES  # more than the TCP buffers of both ends can hold
for number in range(many):
    publisher.send_multipart([b"t", bytes(200)])
time.sleep(6)  # longer than ZeroMQ keeps a connection without heartbeats
got = 0
while reader._parts(1.0) is not None:
    got += 1
print("read", got >= subscription.RECEIVE_MESSAGES)
"""


def test_a_reader_that_pauses_with_a_full_queue_continues_afterwards():
    """With heartbeats, ZeroMQ would close the connection and then end the process: see `set_socket_options`."""
    result = subprocess.run([sys.executable, "-c", PAUSING_READER], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "read True\n"), result.stderr


def test_events_are_returned_unchanged_and_in_order(daemon, client):
    events = client.events("cam", timeout_s=3.0)
    time.sleep(0.15)
    event(daemon, EventName.HEARTBEAT, 7)
    event(daemon, EventName.RESET, 7, epoch=2)
    assert [(e.event, e.epoch, e.last_seq) for e in islice(events, 2)] == [("heartbeat", 1, 7), ("reset", 2, 7)]


def test_a_timeout_without_messages_names_the_endpoint_and_a_check(daemon, client):
    settle(daemon)
    with pytest.raises(Timeout, match=r"stream 'cam' at tcp://.* within 0\.1 s: is the daemon running"):
        next(client.tracks("cam", timeout_s=0.1))
    with pytest.raises(Timeout, match="is the stream open"):
        next(client.events("cam", timeout_s=0.1))
    with pytest.raises(Timeout, match=r"streams 'cam', 'left' at .* are the streams open"):
        next(client.tracks("cam", "left", timeout_s=0.1))


def test_closing_the_client_ends_a_subscription_that_another_thread_reads(daemon, client):
    settle(daemon)
    subscription = client.tracks("cam")
    got: list[Tracks] = []
    reader = threading.Thread(target=lambda: got.extend(subscription))
    reader.start()
    time.sleep(0.05)
    client.close()
    reader.join(3)
    assert not reader.is_alive()
    with pytest.raises(TrackdError, match="closed"):
        client.tracks("cam")
