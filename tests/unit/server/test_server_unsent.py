"""The bytes of large messages that wait in ZeroMQ, and the disconnection of the subscriber that reads least."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import zmq

from trackd.server.slow_subscribers import SlowSubscribers
from trackd.server.unsent import Unsent, UnsentReplies

RECORD = bytes(1_000_000)


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


def publisher(context: zmq.Context, address: str = "tcp://127.0.0.1:*") -> tuple[zmq.Socket, str]:
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    socket.sndbuf = 65_536
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # a second subscription to a topic is received too
    socket.bind(address)
    return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)


def subscriber(context: zmq.Context, xpub: zmq.Socket, address: str, *, reads: bool = True) -> zmq.Socket:
    socket = context.socket(zmq.SUB)
    socket.linger, socket.rcvtimeo, socket.rcvbuf = 0, 5000, 65_536
    socket.rcvhwm = 1000 if reads else 1
    socket.connect(address)
    socket.subscribe(b"")
    xpub.recv()
    return socket


def test_messages_are_sent_until_too_many_bytes_are_unsent(context):
    xpub, address = publisher(context)
    unsent = Unsent(10_000_000)
    slow = subscriber(context, xpub, address, reads=False)
    sent = sum(unsent.send(xpub, [b"t", RECORD], 1_000_000) for _ in range(50))
    assert 10 <= sent < 20  # some are in the buffers of TCP and of the subscriber
    slow.close()
    deadline = time.monotonic() + 5
    while unsent.nbytes and time.monotonic() < deadline:
        xpub.poll(10)  # ZeroMQ notices closed connections while its socket is used
        unsent.look()
    assert unsent.nbytes == 0


def test_a_single_message_beyond_the_bound_is_sent(context):
    xpub, address = publisher(context)
    unsent = Unsent(10)
    reader = subscriber(context, xpub, address)
    assert unsent.send(xpub, [b"t", RECORD], 1_000_000)
    assert len(reader.recv_multipart()[1]) == 1_000_000


def test_replies_are_counted_for_each_connection_and_closed_ones_are_forgotten(context):
    router = context.socket(zmq.ROUTER)
    router.linger, router.router_mandatory = 0, True
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dealer = context.socket(zmq.DEALER)
    dealer.linger, dealer.identity = 0, b"me"
    dealer.connect(f"tcp://127.0.0.1:{port}")
    dealer.send(b"")
    router.recv_multipart()
    replies = UnsentReplies(router)
    assert replies.send(b"me", [b"me", RECORD], 1_000_000)
    assert not replies.send(b"nobody", [b"nobody", RECORD], 1_000_000)
    assert len(dealer.recv()) == 1_000_000
    deadline = time.monotonic() + 5
    while replies._by_owner and time.monotonic() < deadline:
        replies.look()
        time.sleep(0.01)
    assert replies._by_owner == {}


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_the_subscriber_that_does_not_read_is_disconnected_and_no_other_connection(context, kind, tmp_path, caplog):
    xpub, address = publisher(context, "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/tracks")
    other, other_address = publisher(context)  # another socket of this process, with a subscriber as slow
    stuck = subscriber(context, other, other_address, reads=False)
    reader = subscriber(context, xpub, address)
    slow = subscriber(context, xpub, address, reads=False)
    monitor = xpub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    now_ns = [10**12]
    looks = SlowSubscribers(lambda: address, lambda: now_ns[0])
    for number in range(30):
        xpub.send_multipart([b"t", RECORD])
        other.send_multipart([b"t", RECORD])
        assert len(reader.recv_multipart()[1]) == 1_000_000
        if number > 20:
            time.sleep(0.02)
            now_ns[0] += 200_000_000
            with caplog.at_level(logging.WARNING):
                looks.look()
        if "does not read" in caplog.text:
            break
    assert caplog.text.count("does not read") == 1
    assert monitor.poll(3000), "it is still connected"
    xpub.disable_monitor()
    xpub.send_multipart([b"t", RECORD])
    assert len(reader.recv_multipart()[1]) == 1_000_000
    received = 0
    while stuck.poll(500):
        stuck.recv_multipart()
        received += 1
    assert received == number + 1
    slow.close()
