"""Messages of several parts, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from trackd_client.transport.multipart import COPIED_BELOW, is_readable, next_frame, receive_parts, send_parts

Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context.socket(zmq.DEALER) as one, context.socket(zmq.DEALER) as other:
        for socket in (one, other):
            socket.linger = 0
            socket.rcvtimeo = 5000
        port = one.bind_to_random_port("tcp://127.0.0.1")
        other.connect(f"tcp://127.0.0.1:{port}")
        other.send(b"")
        assert one.recv() == b"", "both sockets are connected"
        yield one, other
    context.term()


def test_parts_of_any_buffer_type_arrive_unchanged(pair: Pair) -> None:
    boxes = np.arange(40, dtype=np.float32).reshape(10, 4)
    image = np.arange(2 * COPIED_BELOW, dtype=np.uint8)  # large enough to be sent without a copy
    sent = [b"header", boxes.data.cast("B"), b"", image.data, b"last"]
    send_parts(pair[0], sent)
    assert receive_parts(pair[1], wait=True) == [bytes(part) for part in sent]
    send_parts(pair[1], [b"alone"])
    assert receive_parts(pair[0], wait=True) == [b"alone"]


def test_a_message_can_be_read_part_by_part(pair: Pair) -> None:
    send_parts(pair[0], [b"a", b"b"])
    send_parts(pair[0], [b"c"])
    frame = next_frame(pair[1], wait=True)
    assert (frame.bytes, frame.more) == (b"a", True)
    frame = next_frame(pair[1])
    assert (frame.bytes, frame.more) == (b"b", False)
    assert receive_parts(pair[1], wait=True) == [b"c"]


def test_without_a_message_is_readable_is_false_and_a_receive_fails(pair: Pair) -> None:
    assert not is_readable(pair[0])
    with pytest.raises(zmq.Again):
        receive_parts(pair[0])
    pair[0].rcvtimeo = 20
    with pytest.raises(zmq.Again):
        receive_parts(pair[0], wait=True)
    send_parts(pair[1], [b"a"])
    assert pair[0].poll(5000)
    assert is_readable(pair[0])
    assert receive_parts(pair[0]) == [b"a"]
    assert not is_readable(pair[0])


def test_a_send_without_a_peer_fails_at_once(pair: Pair) -> None:
    alone: zmq.Socket[bytes] = pair[0].context.socket(zmq.PUSH)
    with alone:
        alone.linger = 0
        with pytest.raises(zmq.Again):
            send_parts(alone, [b"a", b"b"])
