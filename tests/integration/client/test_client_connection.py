"""The client over real sockets, against a small scripted daemon."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
from fake_daemon import TWO, FakeDaemon

from trackd_client import Client, Detections, EncodedImage, ErrorCode, StreamLost, Timeout, TrackdError
from trackd_client.protocol import (
    Ack,
    Close,
    Error,
    Frame,
    Message,
    Open,
    Ping,
    Status,
    Tracks,
)
from trackd_client.sending import driver, exchange
from trackd_client.transport import connection


def frames(daemon: FakeDaemon) -> list[int]:
    return [message.seq for message in daemon.received if isinstance(message, Frame)]


# --- streams ---


def test_frames_get_a_seq_and_settle_and_the_stream_is_closed(daemon, client):
    with client.open_stream("cam") as stream:
        assert [stream.send(None, TWO) for _ in range(20)] == list(range(20))
        stream.flush()
        assert stream.unacked == 0
    assert isinstance(daemon.received[-1], Close)
    assert [m.frame_index for m in daemon.received if isinstance(m, Frame)] == list(range(20))


def test_a_closed_loop_gets_its_own_frames_tracks(client):
    with client.open_stream("cam", reply="tracks") as stream:
        for index in range(50):
            tracks = stream.track(None, TWO, frame_index=index * 10)
            assert (tracks.seq, tracks.frame_index) == (index, index * 10)
            assert tracks.track_ids.tolist() == [0, 1]


def test_track_without_replies_raises_an_error_that_names_the_option(client):
    with client.open_stream("cam") as stream, pytest.raises(TrackdError, match='reply="tracks"'):
        stream.track(None, TWO)


def test_send_waits_for_credit_and_continues_after_a_grant(daemon, client):
    held: list[Frame] = []
    daemon.script = lambda frame: held.append(frame) or []
    stream = client.open_stream("cam")
    for _ in range(8):
        stream.send(None, TWO)
    with pytest.raises(Timeout, match="is it running"):
        stream.send(None, TWO, timeout_s=0.05)
    assert (stream.next_seq, stream.unacked) == (8, 8)
    sender = threading.Thread(target=stream.send, args=(None, TWO))
    sender.start()
    daemon.script = lambda frame: None
    for frame in held:
        daemon.run(lambda frame=frame: daemon.send_to_owner("cam", daemon.settle(frame)))
    sender.join(5)
    assert not sender.is_alive()
    stream.close()
    assert frames(daemon) == list(range(9))


def test_frames_are_resent_after_a_restart_of_the_daemon(daemon, client):
    daemon.script = lambda frame: [] if frame.seq >= 3 else None
    stream = client.open_stream("cam")
    for _ in range(6):
        stream.send(None, TWO)
    deadline = time.monotonic() + 5
    while len(frames(daemon)) < 6 and time.monotonic() < deadline:
        time.sleep(0.005)
    daemon.received.clear()
    daemon.script = lambda frame: None
    daemon.restart()
    stream.flush()
    opened = next(message for message in daemon.received if isinstance(message, Open))
    assert opened.takeover
    assert frames(daemon)[-3:] == [3, 4, 5]
    assert daemon.next_seq["cam"] == 6
    stream.close()


def test_a_daemon_without_the_streams_state_gets_the_frames_with_new_seqs(daemon, client, caplog):
    daemon.script = lambda frame: [] if frame.seq >= 3 else None
    stream = client.open_stream("cam")
    for _ in range(6):
        stream.send(None, TWO)
    deadline = time.monotonic() + 5
    while stream.unacked > 3 and time.monotonic() < deadline:
        with pytest.raises(Timeout):
            stream.flush(timeout_s=0.02)
    # Wait until the daemon has ignored the last three frames: otherwise it would settle them before the restart.
    while len(frames(daemon)) < 6 and time.monotonic() < deadline:
        time.sleep(0.005)
    daemon.run(lambda: setattr(daemon, "script", lambda frame: None))
    with caplog.at_level(logging.WARNING):
        daemon.restart(fresh=True)
        stream.flush()
    assert "begins a new epoch" in caplog.text
    assert (stream.epoch, stream.next_seq) == (2, 3)
    assert [row.frame_index for row in daemon.settled["cam"]] == [3, 4, 5]
    stream.close()


def test_a_connection_that_zeromq_restores_before_the_client_reads_keeps_the_stream(daemon, client):
    stream = client.open_stream("cam")
    for _ in range(2):
        stream.send(None, TWO)
    stream.flush()
    daemon.restart()
    time.sleep(0.2)  # ZeroMQ reconnects as a new connection; the keepalive thread has not read the socket yet
    stream.send(None, TWO)
    time.sleep(0.1)  # the daemon answers that another connection is the owner; the client reads that before the loss
    stream.send(None, TWO)
    stream.flush()
    assert [row.seq for row in daemon.settled["cam"]] == [0, 1, 2, 3]
    stream.close()


def test_a_closed_loop_fetches_tracks_that_settled_during_a_disconnection(daemon, client):
    def settle_without_a_reply(frame: Frame) -> list[Message]:
        daemon.settle(frame)
        return []

    daemon.script = settle_without_a_reply
    stream = client.open_stream("cam", reply="tracks")
    result: list[Tracks] = []
    caller = threading.Thread(target=lambda: result.append(stream.track(None, TWO)))
    caller.start()
    deadline = time.monotonic() + 5
    while not daemon.settled.get("cam") and time.monotonic() < deadline:
        time.sleep(0.005)
    daemon.restart()
    caller.join(5)
    assert [tracks.seq for tracks in result] == [0]
    assert result[0].track_ids.tolist() == [0, 1]
    stream.close()


def test_two_threads_share_a_client_and_do_not_wait_for_each_other(daemon, client):
    daemon.script = lambda frame: [] if frame.stream == "slow" else None
    slow = client.open_stream("slow", reply="tracks")
    fast = client.open_stream("fast", reply="tracks")
    failures: list[Exception] = []

    def wait_long() -> None:
        try:
            slow.track(None, TWO, timeout_s=4.0)
        except Timeout as error:
            failures.append(error)

    waiter = threading.Thread(target=wait_long)
    waiter.start()
    for _ in range(20):
        fast.track(None, TWO)
    assert waiter.is_alive(), "the twenty round trips end before the wait of the other thread"
    waiter.join(10)
    assert len(failures) == 1


def test_each_of_many_threads_on_one_client_gets_its_own_tracks(client):
    failures: list[BaseException] = []

    def loop(name: str) -> None:
        try:
            with client.open_stream(name, reply="tracks") as stream:
                for index in range(100):
                    tracks = stream.track(None, TWO)
                    assert (tracks.stream, tracks.seq) == (name, index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(f"cam{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


def test_a_pausing_thread_releases_the_turn(client):
    ingest = client.open_stream("cam")._ingest
    started = threading.Event()

    def pause():
        with ingest.turn():
            started.set()
            ingest.pause(1.0)

    pausing = threading.Thread(target=pause)
    pausing.start()
    started.wait()
    with ingest.turn():
        assert pausing.is_alive()
    pausing.join()


def test_frames_in_quick_succession_are_sent_without_a_read_for_each(client, monkeypatch):
    stream = client.open_stream("cam")
    reads = []
    receive = connection.Connection.receive
    monkeypatch.setattr(connection.Connection, "receive", lambda self: reads.append(self) or receive(self))
    monkeypatch.setattr(exchange, "READ_S", 1000.0)
    for _ in range(4):
        stream.send(None, TWO)
    assert not reads
    monkeypatch.setattr(exchange, "READ_S", 0.0)
    stream.send(None, TWO)
    assert reads


def test_a_blocked_sender_sends_in_portions(context, monkeypatch):
    daemon = FakeDaemon(context, depth=16)
    pauses = []
    pause = driver.IngestDriver.pause
    monkeypatch.setattr(driver.IngestDriver, "pause", lambda self, s: pauses.append(s) or pause(self, s))
    with Client(**daemon.endpoints, context=context) as client:
        stream = client.open_stream("cam")
        for _ in range(200):
            stream.send(None, TWO)
        stream.close()
    daemon.stop()
    assert 0 < len(pauses) < 100
    assert len(daemon.settled["cam"]) == 200


def test_a_send_to_a_full_queue_times_out_in_time_pauses_included(client, daemon, monkeypatch):
    daemon.script = lambda frame: []
    stream = client.open_stream("cam")
    for _ in range(daemon.depth):
        stream.send(None, TWO)
    monkeypatch.setattr("trackd_client.sending.pace.Pace.pause_s", lambda *_, **__: 60.0)
    started = time.monotonic()
    with pytest.raises(Timeout, match=r"within 0\.1 s"):
        stream.send(None, TWO, timeout_s=0.1)
    assert time.monotonic() - started < 10


def test_an_idle_client_pings(daemon, client, monkeypatch):
    monkeypatch.setattr("trackd_client.sending.driver.KEEPALIVE_S", 0.2)
    stream = client.open_stream("cam")
    deadline = time.monotonic() + 5
    while not any(isinstance(message, Ping) for message in daemon.received) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(isinstance(message, Ping) for message in daemon.received)
    stream.close()


def test_an_idle_client_detects_a_restart_by_itself(daemon, client):
    stream = client.open_stream("cam")
    daemon.received.clear()
    daemon.restart()
    deadline = time.monotonic() + 5
    while not any(isinstance(message, Open) for message in daemon.received) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(isinstance(message, Open) and message.takeover for message in daemon.received)
    stream.close()


def test_a_takeover_by_another_client_raises_stream_lost(daemon, client):
    stream = client.open_stream("cam")
    daemon.script = lambda frame: [Error(ErrorCode.STREAM_BUSY, "another client owns it", "cam", fatal=True)]
    stream.send(None, TWO)
    with pytest.raises(StreamLost, match="another client owns it"):
        stream.flush()
    with pytest.raises(StreamLost):
        stream.send(None, TWO)


def test_the_client_waits_for_the_successor_of_a_draining_daemon(daemon, client):
    stream = client.open_stream("cam")
    daemon.script = lambda frame: [Error(ErrorCode.DRAINING, "draining", "cam", frame.seq)]
    daemon.on_open = lambda message: [Error(ErrorCode.DRAINING, "draining", "cam")]
    stream.send(None, TWO)
    with pytest.raises(Timeout, match="draining"):
        stream.flush(timeout_s=0.6)
    daemon.script, daemon.on_open = lambda frame: None, lambda message: None
    stream.flush()
    stream.close()


def test_a_refused_open_raises_the_daemons_reason(daemon, client):
    daemon.on_open = lambda message: [Error(ErrorCode.BAD_CONFIG, "tracker.iou must be …", "cam")]
    with pytest.raises(TrackdError, match=r"tracker\.iou") as caught:
        client.open_stream("cam", config={"iou": 3})
    assert caught.value.code is ErrorCode.BAD_CONFIG
    daemon.on_open = lambda message: None
    client.open_stream("cam").close()


def test_without_a_daemon_the_timeout_names_the_endpoint_and_a_check(context):
    with Client(ingest="tcp://127.0.0.1:1", control="tcp://127.0.0.1:1", context=context, timeout_s=0.1) as client:
        with pytest.raises(Timeout, match=r"tcp://127\.0\.0\.1:1 did not open stream 'cam'.*is it running"):
            client.open_stream("cam")
        with pytest.raises(Timeout, match=r"tcp://127\.0\.0\.1:1 did not answer status.*is it running"):
            client.status()


def test_a_daemon_that_starts_late_is_found(context, daemon):
    daemon.stop()
    with Client(**daemon.endpoints, context=context, timeout_s=5.0) as client:
        threading.Timer(0.2, daemon.start).start()
        client.open_stream("cam").close()


def test_a_rejected_frame_raises_from_its_own_track_and_no_other_call(daemon, client):
    def reject(frame: Frame) -> list[Message] | None:
        if frame.seq != 1:
            return None
        daemon.next_seq["cam"] = 2
        rejected = Tracks("cam", 1, 1, frame.frame_index, 0, Status.REJECTED, "frame_index must rise")
        return [Error(ErrorCode.INVALID_FRAME, "frame_index must rise", "cam", 1), rejected, Ack("cam", 1, 1)]

    daemon.script = reject
    with client.open_stream("cam", reply="tracks") as stream:
        stream.track(None, TWO)
        with pytest.raises(TrackdError, match="frame_index must rise"):
            stream.track(None, TWO)
        stream.track(None, TWO)
        assert [error.seq for error in stream.rejected] == [1]


def test_an_invalid_frame_is_refused_before_it_gets_a_seq(client):
    with client.open_stream("cam") as stream:
        with pytest.raises(TrackdError, match="uint8 or uint16; got float64"):
            stream.send(np.zeros((4, 4)), TWO)
        with pytest.raises(TrackdError, match="must rise; got -1 after -1"):
            stream.send(None, TWO, frame_index=-1)
        assert stream.send(None, TWO) == 0


def test_the_callers_arrays_may_change_after_send(daemon, client):
    image = np.full((400, 400), 7, np.uint8)
    boxes = np.zeros((1, 4), np.float32)
    with client.open_stream("cam") as stream:
        stream.send(image, Detections(boxes=boxes))
        image[:] = 0
        boxes[:] = 9
        stream.flush()
    frame = next(message for message in daemon.received if isinstance(message, Frame))
    assert (frame.image == 7).all()
    assert (frame.detections.boxes == 0).all()


def test_detections_are_converted_to_the_wires_dtypes(daemon, client):
    given = Detections(boxes=[[0, 1, 2, 3]], classes=np.array([5]), gt_ids=np.array([2], np.int32))
    with client.open_stream("cam") as stream:
        stream.send(EncodedImage("jpeg", b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x02\x00\x03\x01\x01\x11\x00"), given)
        stream.flush()
    frame = next(message for message in daemon.received if isinstance(message, Frame))
    dtypes = [frame.detections.boxes.dtype.str, frame.detections.classes.dtype.str, frame.detections.gt_ids.dtype.str]
    assert dtypes == ["<f4", "<i4", "<i8"]


def test_raw_images_in_shared_memory_stay_readable_until_their_acks(daemon, client):
    from trackd_client.transport.shared_memory import SharedImageReader

    seen: list[int] = []
    reader = SharedImageReader()

    def read_late(frame: Frame) -> list[Message] | None:
        seen.append(int(reader.read(frame.image)[0, 0]))
        return None

    daemon.script = read_late
    with client.open_stream("cam", shared_memory=True) as stream:
        for number in range(40):
            stream.send(np.full((8, 8), number, np.uint8), TWO)
    assert seen == list(range(40))


def test_a_client_opens_a_stream_only_once(client):
    stream = client.open_stream("cam")
    with pytest.raises(TrackdError, match="is open in this client"):
        client.open_stream("cam")
    stream.close()
    stream.close()
    client.open_stream("cam").close()


def test_calls_on_a_closed_client_raise_an_error(daemon):
    client = Client(**daemon.endpoints)
    stream = client.open_stream("cam")
    client.close()
    client.close()
    for call in (lambda: stream.send(None, TWO), client.status, lambda: client.open_stream("x")):
        with pytest.raises(TrackdError, match="closed"):
            call()


# --- control ---


def test_requests_give_typed_values_and_ignore_keys_they_do_not_know(client):
    with client.open_stream("cam", reply="tracks") as stream:
        stream.track(None, TWO)
        status = client.status()
        assert [(row.stream, row.next_seq) for row in status.streams] == [("cam", 1)]
        live = client.live("cam")
        assert (live.epoch, live.seq, live.tracks[0].state) == (1, 0, "active")
        assert [tracks.seq for tracks in client.history("cam")] == [0]


def test_a_refused_request_raises_the_daemons_error(client):
    with pytest.raises(TrackdError, match="not open") as caught:
        client.live("nothing")
    assert caught.value.code is ErrorCode.UNKNOWN_STREAM
    with pytest.raises(TrackdError, match=r"'frobnicate' is not known"):
        client.request("frobnicate")


def test_configure_takes_effect_on_the_open_stream(client):
    with client.open_stream("cam") as stream:
        client.configure("cam", {"on_overload": "drop_oldest"})
        assert stream.config == {"stream": {"on_overload": "drop_oldest"}}


def test_a_late_answer_is_not_used_for_the_next_request(daemon, client):
    daemon.answers_control = False
    client.timeout_s = 0.1
    with pytest.raises(Timeout):
        client.status()
    daemon.answers_control = True
    client.timeout_s = 5.0
    with client.open_stream("cam"):
        assert client.live("cam").stream == "cam"


def test_requests_work_after_a_restart_of_the_daemon(daemon, client):
    client.status()
    daemon.restart()
    client.status()
