"""Slow and hostile clients: none affects another client."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import struct
import time
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from daemon_process import wait_until
from fault_tools import (
    FaultDaemon,
    GoodClient,
    crowd,
    drain_replies,
    imbalances,
    long_form,
    refused,
    rounds,
    sdk,
    zmq_context,
)
from raw_client import RawClient, walking_boxes

from trackd_client import Detections, Timeout
from trackd_client.transport.shared_memory import ImageRing

_NUMBERS = itertools.count()


def row_of(client: RawClient, stream: str) -> dict[str, Any]:
    rows = client.request("status")["result"]["streams"]
    return next(row for row in rows if row["stream"] == stream)


def image_frame(client: RawClient, stream: str, seq: int, image: np.ndarray) -> None:
    client.send(
        {
            "kind": "frame", "stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq,
            "image": {"encoding": "raw", "data": {"dtype": "|u1", "shape": list(image.shape), "part": 2}},
            "detections": {"boxes": {"dtype": "<f4", "shape": [3, 4], "part": 1}},
        },
        walking_boxes(seq), image,
    )  # fmt: skip


@pytest.fixture(scope="module")
def daemon():
    with FaultDaemon() as process:
        yield process
        assert process.healthy()[0] == 200
        assert imbalances(process.metrics()) == []


@pytest.fixture
def cam() -> str:
    """A stream name that no other test uses."""
    return f"cam{next(_NUMBERS)}"


# --- credit ---


def test_a_stream_that_is_taken_over_with_frames_in_flight_continues(daemon, cam):
    with sdk(daemon) as first, sdk(daemon) as second:
        stream = first.open_stream(cam)
        for seq in range(32):
            stream.send(None, Detections(boxes=crowd(seq)))
        taken = second.open_stream(cam, takeover=True)
        for seq in range(40):
            taken.send(None, Detections(boxes=walking_boxes(seq)), timeout_s=2)
        taken.flush(5)


def test_a_client_whose_connection_is_cut_under_load_continues(daemon, cam):
    with sdk(daemon) as client:
        stream = client.open_stream(cam)
        for seq in range(32):
            stream.send(None, Detections(boxes=crowd(seq)))
        with client._ingest.turn():
            client._ingest._claim()
            client._ingest._connection.disconnected = True
        for seq in range(40):
            stream.send(None, Detections(boxes=walking_boxes(seq)), timeout_s=3)
        stream.flush(5)
        assert daemon.metrics()[f'trackd_frames_received_total{{stream="{cam}"}}'] == 72


def test_after_many_takeovers_the_last_owner_can_send(daemon, cam):
    with RawClient(daemon.addresses) as a, RawClient(daemon.addresses) as b:
        a.open(cam)
        for _ in range(rounds(20, 500)):
            for client in (b, a):
                client.send({"kind": "open", "stream": cam, "takeover": True})
        time.sleep(0.3)
        credits = {}
        for client in (a, b):
            replies = drain_replies(client)
            last = next((m for m in reversed(replies) if m["kind"] in ("opened", "error")), None)
            credits[client] = last["credit"] if last and last["kind"] == "opened" else None
        assert sorted(credits.values(), key=str) == [32, None], credits


def test_many_takeovers_lose_no_frame_and_keep_the_counts_balanced(daemon, cam):
    with RawClient(daemon.addresses) as a, RawClient(daemon.addresses) as b:
        config = {"on_overload": "drop_oldest"}
        a.open(cam, config=config)
        seq = 0
        for turn in range(rounds(20, 500)):
            client = (b, a)[turn % 2]
            opened = client.open(cam, takeover=True)
            while opened["kind"] == "error":  # about the earlier loss of the stream
                opened = client.recv_kind("opened", "error")
            assert opened["next_seq"] == seq
            for _ in range(5):
                client.frame(cam, seq, walking_boxes(seq))
                seq += 1
            client.send({"kind": "ping", "t_ns": 1})
            client.recv_kind("pong")  # otherwise the other client's open could overtake these frames
        wait_until(lambda: row_of(a, cam)["queued"] == 0)
        row = row_of(a, cam)
        assert row["received"] == seq == row["tracked"] + row["dropped"]
        assert imbalances(daemon.metrics()) == []


@long_form
def test_a_client_that_stopped_reading_gets_its_last_acks_when_it_reads_again():
    with FaultDaemon() as daemon, zmq_context() as context:
        dealer = context.socket(zmq.DEALER)
        dealer.linger, dealer.rcvhwm, dealer.rcvtimeo = 0, 1, 5000
        dealer.setsockopt(zmq.RCVBUF, 4096)
        dealer.connect(daemon.ingest)

        def send(header: dict[str, Any], *parts: bytes) -> None:
            dealer.send_multipart([msgpack.packb({"v": 1, **header}), *parts])

        n = 50
        for i in range(n):
            send({"kind": "open", "stream": f"s{i}", "reply": "tracks"})
        for _ in range(n):
            assert msgpack.unpackb(dealer.recv_multipart()[0])["kind"] == "opened"
        boxes = walking_boxes(0, 60)
        detections = {"boxes": {"dtype": "<f4", "shape": [60, 4], "part": 1}}
        for seq in range(32):  # all of its credit
            for i in range(n):
                header = {"stream": f"s{i}", "seq": seq, "frame_index": seq, "t_ns": seq, "image": None}
                send({"kind": "frame", **header, "detections": detections}, boxes.tobytes())
        wait_until(lambda: daemon.metrics().get('trackd_frames_tracked_total{stream="s49"}') == 32, 15)
        acked: dict[str, int] = {}
        deadline = time.monotonic() + 2.2  # a heartbeat or two
        while time.monotonic() < deadline:
            if dealer.poll(100):
                reply = msgpack.unpackb(dealer.recv_multipart()[0])
                if reply["kind"] == "ack":
                    acked[reply["stream"]] = reply["seq"]
        assert set(acked.values()) == {31}, acked


def test_a_client_that_never_reads_affects_no_other_client_and_is_counted(daemon, cam):
    with GoodClient(daemon.addresses, f"w-{cam}"), zmq_context() as context:
        dealer = context.socket(zmq.DEALER)
        dealer.linger, dealer.rcvhwm, dealer.sndtimeo = 0, 1, 2000
        dealer.setsockopt(zmq.RCVBUF, 4096)
        dealer.connect(daemon.ingest)
        dealer.send(msgpack.packb({"v": 1, "kind": "open", "stream": "unread"}))
        before = daemon.rss_mb
        ping = msgpack.packb({"v": 1, "kind": "ping", "t_ns": 1})
        # The kernel buffers 4 MB of replies; each of these messages causes about 500 bytes.
        bad = msgpack.packb({"v": 1, "kind": "frame", "stream": "d" * 128, "seq": 9, "frame_index": 1, "t_ns": 1})
        try:
            for i in range(rounds(30_000, 1_000_000)):
                dealer.send(bad if i % 2 else ping)
        except zmq.Again:
            pass
        wait_until(lambda: daemon.metrics()["trackd_unsent_replies_total"] > 0, 20)
        assert daemon.rss_mb - before < 30
        assert daemon.healthy()[0] == 200


# --- streams that open and close ---


def test_opens_beyond_the_limit_are_refused_and_counted_and_the_witness_continues():
    with FaultDaemon("limits.streams=16", "stream.idle_timeout_s=1.0") as daemon, GoodClient(daemon.addresses):
        n = rounds(500, 20_000)
        with RawClient(daemon.addresses) as client:
            for i in range(n):
                client.send({"kind": "open", "stream": f"s{i}"})
            kinds = [client.recv_kind("opened", "error") for _ in range(n)]
        assert sum(m["kind"] == "opened" for m in kinds) == 15
        codes = refused(daemon.metrics())
        assert codes["too_large"] + codes["over_budget"] == n - 15  # a flood of opens is also beyond its budget
        assert codes.keys() <= {"too_large", "over_budget"}
        wait_until(
            lambda: daemon.metrics()["trackd_streams_open"] == 1, 6, "the disconnected client's streams are closed"
        )


def test_a_stream_closed_with_frames_in_flight_settles_them_all_first(daemon, cam):
    before = refused(daemon.metrics())
    with RawClient(daemon.addresses, subscribe=cam) as client:
        for _ in range(rounds(5, 100)):
            opened = client.open(cam)
            for seq in range(20):
                client.frame(cam, seq, crowd(seq, 200))
            client.send({"kind": "close", "stream": cam})
            client.frame(cam, 20, walking_boxes(20))  # after the close: refused
            closed = client.recv_kind("closed")
            assert closed["last_seq"] == 19
            assert closed["epoch"] == opened["epoch"]
            assert [client.next_tracks()[0]["seq"] for _ in range(20)] == list(range(20))
        metrics = daemon.metrics()
        assert imbalances(metrics) == []
        assert refused(metrics)["unknown_stream"] - before["unknown_stream"] == rounds(5, 100)


def test_a_closed_stream_can_be_opened_closed_and_reset_by_control_all_at_once(daemon, cam):
    before = refused(daemon.metrics())
    with GoodClient(daemon.addresses, f"w-{cam}"), RawClient(daemon.addresses) as client:
        for i in range(rounds(60, 2000)):
            client.send({"kind": "open", "stream": cam})
            method = ("stream.close", "stream.reset", "stream.configure", "tracks.live")[i % 4]
            client.request(method, stream=cam, config={"window_size": 3 + i % 5})
            client.send({"kind": "close", "stream": cam})
        wait_until(lambda: f'trackd_tracks_active{{stream="{cam}"}}' not in daemon.metrics(), 5)
        assert refused(daemon.metrics())["internal"] == before["internal"]
        assert daemon.healthy()[0] == 200


def test_reset_and_configure_storms_under_load_lose_nothing(daemon, cam):
    n, before = rounds(150, 5000), refused(daemon.metrics())
    with RawClient(daemon.addresses, subscribe=cam) as client:
        client.open(cam, config={"on_overload": "drop_newest", "queue_depth": 4096})
        epochs = []
        for seq in range(n):
            client.frame(cam, seq, walking_boxes(seq, 20), frame_index=seq)
            if seq % 5 == 4:
                epochs.append(client.request("stream.reset", stream=cam)["result"]["epoch"])
            else:
                reply = client.request("stream.configure", stream=cam, config={"window_size": 2 + seq % 9})
                assert "result" in reply, reply
        settled = [client.next_tracks()[0] for _ in range(n)]
        assert [m["seq"] for m in settled] == list(range(n))
        assert {m["status"] for m in settled} == {"tracked"}
        seen = [m["epoch"] for m in settled]
        assert seen == sorted(seen)
        assert set(epochs[:-1]) <= set(seen)
        starts = [
            m for m, before in zip(settled, [None, *settled], strict=False) if before and m["epoch"] > before["epoch"]
        ]
        assert all(m["new_tracks"][0] == 0 for m in starts)
        assert refused(daemon.metrics()) == before


# --- a single message that could affect all clients ---


def test_an_open_that_fails_affects_no_other_stream():
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client:
        config = {"window_size": 10**12, "on_overload": "drop_newest"}
        client.send({"kind": "open", "stream": "big", "config": config})
        for seq in range(20):
            client.frame("big", seq, walking_boxes(seq))
        assert client.recv_kind("error", "opened")["kind"] == "error"
        time.sleep(0.5)
        assert daemon.healthy()[0] == 200


@pytest.mark.parametrize("size", [2**63, 10**12, 10**6])
def test_a_window_that_is_too_large_is_a_bad_config(daemon, cam, size):
    with RawClient(daemon.addresses) as client:
        reply = client.open(cam, config={"window_size": size})
        assert reply["kind"] == "error"
        assert reply["code"] == "bad_config"
        assert "window_size" in reply["message"]
        assert daemon.rss_mb < 300


def test_a_configure_that_fails_changes_nothing(daemon, cam):
    with RawClient(daemon.addresses) as client:
        client.open(cam)
        assert "error" in client.request("stream.configure", stream=cam, config={"window_size": 2**62})
        assert "result" in client.request("stream.configure", stream=cam, config={"max_gap": 3})


@pytest.mark.parametrize("images", ["no yes yes", "yes no* yes yes"])
def test_frames_with_images_after_frames_without_are_tracked(daemon, cam, images):
    image = np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)
    with RawClient(daemon.addresses) as client:
        client.open(cam, reply="tracks")
        for seq, word in enumerate(images.split()):
            if word == "yes":
                image_frame(client, cam, seq, image)
            else:
                client.frame(cam, seq, walking_boxes(seq, 40 if "*" in word else 3))
            tracks = client.recv_kind("tracks")
            assert tracks["status"] == "tracked", tracks["reason"]


@pytest.mark.timeout(60)
def test_a_frame_with_all_instances_at_one_place_does_not_block_other_streams():
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as hostile, RawClient(daemon.addresses) as good:
        good.open("good", reply="tracks")
        hostile.open("crowd", config={"on_overload": "drop_newest"})
        for seq in range(2):
            corner = np.random.default_rng(seq).random((4096, 2))
            hostile.frame("crowd", seq, np.concatenate([corner, corner + 30], axis=1))
        time.sleep(0.2)
        good.frame("good", 0, walking_boxes(0))
        good.ingest.rcvtimeo = 4000
        try:
            good.recv_kind("tracks")
        except zmq.Again:
            daemon.process.kill()
            pytest.fail("the good stream's frame was not tracked within 4 s")


def test_a_stream_whose_outputs_are_slow_does_not_block_other_streams(tmp_path):
    with (
        FaultDaemon(f"out_dir={tmp_path}", "daemon.drain_s=1") as daemon,
        RawClient(daemon.addresses) as client,
        RawClient(daemon.addresses) as good,
    ):
        good.open("good", reply="tracks")
        config = {"outputs": ["ctc"], "on_overload": "drop_newest", "queue_depth": 4096}
        client.open("ctc", frame_shape=[4000, 4000], config=config)
        for seq in range(1300):
            client.frame("ctc", seq, walking_boxes(seq))
        time.sleep(1.0)
        worst = 0.0
        good.ingest.rcvtimeo = 3000
        try:
            for seq in range(20):
                started = time.monotonic()
                good.frame("good", seq, walking_boxes(seq))
                good.recv_kind("tracks")
                worst = max(worst, time.monotonic() - started)
        except zmq.Again:
            worst = 3.0
        finally:
            daemon.process.kill()
        assert worst < 0.5


def test_images_in_shared_memory_count_against_the_budget_of_bytes():
    with FaultDaemon("limits.queue_bytes=500000") as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam", config={"on_overload": "drop_newest"})
        with ImageRing((1000, 1000), slots=4) as ring:
            image = ring.write(np.zeros((1000, 1000), np.uint8))
            location = {"name": image.name, "offset": image.offset, "shape": [1000, 1000], "dtype": image.dtype}
            reference = {"encoding": "shm", **location, "generation": image.generation}
            client.frame("cam", 0, walking_boxes(0), image=reference)
            assert client.next_tracks()[0]["status"] == "dropped"


# --- control ---


def test_a_client_that_requests_much_history_does_not_block_other_clients():
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client, RawClient(daemon.addresses) as good:
        fill_history(client)
        for _ in range(32):
            ask_history(client)
        time.sleep(0.1)
        worst = 0.0
        good.ingest.rcvtimeo = 10_000
        for _ in range(10):
            started = time.monotonic()
            good.send({"kind": "ping", "t_ns": 1})
            good.recv_kind("pong")
            worst = max(worst, time.monotonic() - started)
        assert worst < 0.5


@long_form
def test_a_control_client_that_never_reads_costs_little_memory():
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client:
        fill_history(client)
        before = daemon.rss_mb
        client.control.rcvhwm = 1
        for _ in range(24):
            ask_history(client)
        time.sleep(3)
        assert daemon.rss_mb - before < 60


def fill_history(client: RawClient) -> None:
    client.open("past", config={"on_overload": "drop_newest", "queue_depth": 100})
    corner = np.random.default_rng(0).random((2000, 2)) * 5000
    for seq in range(60):
        client.frame("past", seq, np.concatenate([corner, corner + 20], axis=1))
    wait_until(lambda: row_of(client, "past")["queued"] == 0, 10)


def ask_history(client: RawClient) -> None:
    params = {"stream": "past", "limit": 1024}
    client.control.send(msgpack.packb({"v": 1, "kind": "request", "id": 1, "method": "history", "params": params}))


def test_a_model_path_that_is_a_pipe_is_refused_at_once(daemon, tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    with RawClient(daemon.addresses) as client:
        client.control.rcvtimeo = 8000
        reply = client.request("model.load", name="pipe", path=str(tmp_path / "pipe.ckpt"))
        assert reply["error"]["code"] == "bad_config"


# --- subscribers ---


def test_a_subscriber_that_never_reads_loses_its_own_messages_only():
    with FaultDaemon() as daemon, sdk(daemon) as client:
        _, port = daemon.tracks.removeprefix("tcp://").split(":")
        with zmq_context() as context:
            unread = context.socket(zmq.SUB)
            unread.rcvhwm, unread.linger = 1, 0
            unread.setsockopt(zmq.RCVBUF, 4096)
            unread.subscribe(b"")
            unread.connect(daemon.tracks)
            wait_until(lambda: any(c.laddr.port == int(port) for c in daemon.ps.net_connections("tcp") if c.raddr), 3)
            n = rounds(1200, 30_000)
            reader = client.tracks("cam", timeout_s=10)
            stream = client.open_stream("cam")
            boxes = walking_boxes(0, 100)
            stream.send(None, Detections(boxes=boxes))
            stream.flush()
            before = daemon.rss_mb
            assert next(reader).seq == 0
            for seq in range(1, n):
                stream.send(None, Detections(boxes=boxes))
                if seq % 600 == 0 or seq == n - 1:  # it may lag, by no more than the length of its queue
                    stream.flush()
                    seen = [next(reader).seq for _ in range((seq - 1) % 600 + 1)]
                    assert seen == list(range(seq - len(seen) + 1, seq + 1))
            assert daemon.rss_mb - before < 60  # its 1000 messages, and the history


def test_subscribers_that_reset_their_connections_affect_no_client(daemon, cam):
    with GoodClient(daemon.addresses, f"w-{cam}"):
        host, port = daemon.tracks.removeprefix("tcp://").split(":")
        for _ in range(rounds(30, 1000)):
            raw = socket.create_connection((host, int(port)))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03")
            raw.close()
        assert daemon.healthy()[0] == 200


def test_a_subscriber_reports_no_loss_after_a_stream_was_reset(daemon, cam, caplog):
    with sdk(daemon) as client, caplog.at_level(logging.WARNING, "trackd_client.following.gap_filler"):
        reader = client.tracks(cam, timeout_s=5)
        stream = client.open_stream(cam)
        for seq in range(10):
            stream.send(None, Detections(boxes=walking_boxes(seq)))
        stream.flush()
        assert [next(reader).seq for _ in range(10)] == list(range(10))
        client.reset(cam)
        with contextlib.suppress(Timeout):
            reader.next(0.6)  # long enough for a search for missing frames, which finds none
        for seq in range(10, 15):
            stream.send(None, Detections(boxes=walking_boxes(seq)), frame_index=seq)
        assert [next(reader).seq for _ in range(5)] == list(range(10, 15))
        assert caplog.messages == []
