"""Clients that never read what they asked for: the daemon's memory is bounded by bytes, whatever a record's size."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
import zmq
from fault_tools import MB, FaultDaemon, rounds, within, zmq_context, zmtp, zmtp_part
from heavy_messages import frame
from raw_client import RawClient, walking_boxes
from witness import Witness, most_p99_ms

from trackd.server.unsent import REPLY_BYTES, TRACKS_BYTES

RECORD_MB = 4.1  # 1,000 instances with 256 keypoints as float 64
_PARTS = frame("large", 0, 1000, 256)
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def daemon():
    with FaultDaemon("limits.history_bytes=1000000") as process:
        yield process
        assert process.healthy()[0] == 200


@pytest.fixture
def stream() -> str:
    return f"large{next(_NUMBERS)}"


def large_frame(stream: str, seq: int) -> list[bytes]:
    """Return a frame whose record has `RECORD_MB`."""
    header = {**msgpack.unpackb(_PARTS[0]), "stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq}
    return [msgpack.packb(header), *_PARTS[1:]]


@contextmanager
def subscriber_that_never_reads(address: str) -> Iterator[list[str]]:
    """Subscribe to everything and answer the daemon's heartbeats, but read nothing; the list tells if it was cut."""
    ended = threading.Event()
    cut: list[str] = []
    with zmtp(address, "SUB") as raw:
        raw.sendall(zmtp_part(b"\x01"))

        def beat() -> None:
            try:
                while not ended.wait(0.5):
                    raw.sendall(b"\x04\x07\x04PING\x00\x00")
            except OSError as error:
                cut.append(str(error))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield cut
        finally:
            ended.set()
            thread.join(5)


def unread_dealer(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.linger, dealer.rcvhwm, dealer.sndtimeo = 0, 1, 10_000
    dealer.setsockopt(zmq.RCVBUF, 4096)
    dealer.connect(address)
    return dealer


@within(120, 300)
def test_a_subscriber_that_never_reads_takes_no_more_than_its_bytes_and_is_disconnected(daemon, stream):
    n = rounds(100, 1000)  # records
    with Witness(daemon.addresses, f"beside-{stream}") as witness:
        before, most = daemon.rss_mb, 0.0
        with RawClient(daemon.addresses, subscribe=stream) as reader, subscriber_that_never_reads(daemon.tracks) as cut:
            assert reader.open(stream)["kind"] == "opened"
            for seq in range(n):
                reader.ingest.send_multipart(large_frame(stream, seq))
                while reader.recv()["kind"] != "ack":
                    pass
                header, _ = reader.next_tracks()
                assert header["seq"] == seq  # a subscriber that reads loses nothing
                most = max(most, daemon.rss_mb - before)
            time.sleep(0.6)
        assert cut, "it still has its connection"
    print(f"{n * RECORD_MB:.0f} MB of records: +{most:.0f} MB; witness p99 {witness.p99_ms:.1f} ms")
    assert n * RECORD_MB > 1.2 * TRACKS_BYTES / MB
    assert most < TRACKS_BYTES / MB + 60
    assert witness.p99_ms <= most_p99_ms()


@within(60, 60)
def test_a_thousand_small_records_still_wait_for_a_subscriber(daemon, stream):
    with RawClient(daemon.addresses) as client, zmq_context() as context:
        slow = context.socket(zmq.SUB)
        slow.linger, slow.rcvhwm, slow.rcvtimeo = 0, 1, 5000
        slow.setsockopt(zmq.RCVBUF, 4096)
        slow.connect(daemon.tracks)
        slow.subscribe(f"tracks/{stream}/".encode())
        time.sleep(0.3)
        assert client.open(stream)["kind"] == "opened"
        for seq in range(1000):
            client.frame(stream, seq, walking_boxes(seq))
            while client.recv()["kind"] != "ack":
                pass
        for seq in range(1000):
            assert msgpack.unpackb(slow.recv_multipart()[1])["seq"] == seq


@within(90, 180)
def test_an_owner_that_never_reads_its_records_takes_no_more_than_its_bytes(daemon, stream):
    with Witness(daemon.addresses, f"beside-{stream}") as witness, RawClient(daemon.addresses) as other:
        before, most = daemon.rss_mb, 0.0
        with zmq_context() as context:
            dealer = unread_dealer(context, daemon.ingest)
            config = {"queue_depth": 1024}
            dealer.send(msgpack.packb({"v": 1, "kind": "open", "stream": stream, "reply": "tracks", "config": config}))
            dealer.poll(5000)
            n = rounds(80, 400)
            for seq in range(n):
                dealer.send_multipart(large_frame(stream, seq))
                deadline = time.monotonic() + 10
                while other.request("status")["result"]["streams"][-1]["tracked"] <= seq:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                most = max(most, daemon.rss_mb - before)
    print(f"{n * RECORD_MB:.0f} MB of replies: +{most:.0f} MB; witness p99 {witness.p99_ms:.1f} ms")
    assert n * RECORD_MB > 3 * REPLY_BYTES / MB
    assert most < REPLY_BYTES / MB + 60
    assert witness.p99_ms <= most_p99_ms()


@within(60, 120)
def test_a_client_that_never_reads_its_replies_takes_no_more_than_its_bytes(daemon, stream):
    with RawClient(daemon.addresses) as client:
        assert client.open(stream)["kind"] == "opened"
        for seq in range(8):
            client.ingest.send_multipart(frame(stream, seq, 1000, 4, "<f4"))
            while client.recv()["kind"] != "ack":
                pass
        before, most = daemon.rss_mb, 0.0
        with zmq_context() as context:
            dealer = unread_dealer(context, daemon.control)
            params = {"stream": stream}
            request = msgpack.packb({"v": 1, "kind": "request", "id": 1, "method": "history", "params": params})
            for _ in range(255):  # each reply has 1 MB
                dealer.send(request)
            deadline = time.monotonic() + rounds(4, 40)
            while time.monotonic() < deadline:
                time.sleep(0.05)
                most = max(most, daemon.rss_mb - before)
        print(f"255 replies: +{most:.0f} MB")
        assert most < REPLY_BYTES / MB + 40
