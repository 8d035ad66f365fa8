"""Recordings that clients start and stop: in the daemon's own folder, published, bounded, and readable after a kill."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes

from trackd_client import AsyncClient, Client, TrackdError
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import Kind
from trackd_client.protocol import REPLY_LIMITS, Event, Tracks, decode

LONG_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def daemon(folder):
    with DaemonProcess(f"recording.dir={folder}", "recording.at_once=2") as process:
        yield process


@pytest.fixture
def client(daemon, request):
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    with RawClient(daemon.addresses, subscribe=name) as client:
        client.stream = name
        client.epoch = client.open(name)["epoch"]
        yield client
        client.request("recording.stop", stream=name)


def send(client, *seqs):
    for seq in seqs:
        client.frame(client.stream, seq, walking_boxes(seq))
        while client.recv_kind("ack", "error")["seq"] < seq:
            pass


def act(client, what, **params):
    return client.request(f"recording.{what}", stream=client.stream, **params)


def recorded(folder):
    """Return the seqs and the events in a recording, heartbeats left out; no part of it is damaged."""
    reader = LogReader(folder)
    records = list(reader.records())
    assert reader.damaged == []
    messages = [decode(record.parts[1:], REPLY_LIMITS) for record in records if record.kind is not Kind.GAP]
    seqs = [message.seq for message in messages if isinstance(message, Tracks)]
    events = [str(message.event) for message in messages if isinstance(message, Event)]
    return seqs, [event for event in events if event != "heartbeat"]


def test_what_is_published_between_start_and_stop_is_recorded_byte_for_byte(client, folder):
    send(client, 0)
    started = act(client, "start", author="ada")["result"]
    assert started["stream"] == client.stream
    assert abs(time.time_ns() - started["t_ns"]) < 60e9
    event = client.next_event("recording")["detail"]
    told = {"author": "ada", "recording": started["recording"], "t_ns": started["t_ns"]}
    assert event == {"action": "started", **told}
    assert act(client, "start")["error"]["code"] == "bad_recording"
    send(client, 1, 2)
    published = [client.tracks.recv_multipart() for _ in range(2)]
    rows = {row["recording"]: row for row in client.request("recording.list")["result"]}
    assert rows[started["recording"]]["active"]
    stopped = act(client, "stop", author="bob")["result"]
    assert (stopped["recording"], stopped["missing"]) == (started["recording"], 0)
    detail = client.next_event("recording")["detail"]
    assert (detail["action"], detail["author"], detail["messages"]) == ("stopped", "bob", stopped["messages"])
    send(client, 3)

    log = folder / started["recording"]
    assert recorded(log) == ([1, 2], ["recording"])
    records = [list(record.parts) for record in LogReader(log).records() if record.parts[0].startswith(b"tracks/")]
    assert records == published
    (row,) = [row for row in client.request("recording.list")["result"] if row["recording"] == log.name]
    assert row == {
        **{key: stopped[key] for key in ("stream", "recording", "seconds", "messages", "missing", "bytes")},
        "author": "ada", "t_ns": started["t_ns"], "active": False, "reason": None,
    }  # fmt: skip


def test_a_recording_ends_with_its_stream(client, folder):
    name = act(client, "start")["result"]["recording"]
    send(client, 0)
    client.request("stream.close", stream=client.stream)
    assert client.next_event("closed")
    assert client.next_event("recording")["detail"]["reason"] == "the stream was closed"
    assert recorded(folder / name) == ([0], ["recording", "closed"])


def test_what_cannot_be_started_or_stopped_is_one_line(client, daemon):
    assert act(client, "stop")["error"] == {
        "code": "bad_recording",
        "message": f"stream {client.stream!r} is not recorded",
    }
    assert act(client, "start", author="x" * 65)["error"]["code"] == "bad_message"
    assert client.request("recording.start", stream="../up")["error"]["code"] == "bad_message"
    assert client.request("recording.start", stream="none")["error"]["code"] == "unknown_stream"
    others = [f"{client.stream}{number}" for number in range(2)]
    for other in others:
        client.open(other)
        client.request("recording.start", stream=other)
    error = act(client, "start")["error"]
    assert error["code"] == "bad_recording"
    assert error["message"].startswith("recording.at_once allows 2 recordings at once; stop one of ")
    for other in others:
        assert "result" in client.request("recording.stop", stream=other)


def test_without_a_folder_the_error_names_the_key(tmp_path):
    with DaemonProcess("daemon.http=null") as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        client.open("cam")
        for method in ("start", "stop", "list"):
            error = act(client, method)["error"]
            assert error["code"] == "bad_recording"
            assert error["message"].startswith("recording.dir is not set in the daemon's configuration")


def test_a_recording_that_reaches_its_bound_ends_and_says_why(tmp_path):
    options = (f"recording.dir={tmp_path}", "recording.max_bytes=1048576", "daemon.http=null")
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        client.open("cam")
        name = act(client, "start")["result"]["recording"]
        client.next_event("recording")
        for seq in range(30):
            client.frame("cam", seq, walking_boxes(seq, 2000))
            while client.recv_kind("ack")["seq"] < seq:
                pass
        detail = client.next_event("recording")["detail"]
        assert detail["action"] == "stopped"
        assert "and at most 1048576" in detail["reason"]
        seqs, _ = recorded(tmp_path / name)
        assert seqs == list(range(len(seqs)))
        assert 0 < sum(path.stat().st_size for path in (tmp_path / name).glob("*.messages")) <= 1_048_576
        assert act(client, "start")["result"]["recording"] != name


def test_the_sdk_starts_stops_and_lists_recordings_in_threads_and_in_an_event_loop(client, daemon):
    at, name = daemon.addresses, client.stream
    with Client(at["ingest"], at["tracks"], at["control"]) as sdk:
        started = sdk.start_recording(name, author="ada")
        assert (started.stream, started.author, started.active) == (name, "ada", True)
        assert sdk.recordings()[-1].recording == started.recording
        assert sdk.stop_recording(name).recording == started.recording
        with pytest.raises(TrackdError, match="is not recorded"):
            sdk.stop_recording(name)

    async def in_a_loop():
        async with AsyncClient(at["ingest"], at["tracks"], at["control"]) as sdk:
            await sdk.start_recording(name)
            stopped = await sdk.stop_recording(name)
            return stopped, await sdk.recordings()

    stopped, rows = asyncio.run(in_a_loop())
    assert [row.active for row in rows if row.recording == stopped.recording] == [False]


def test_a_kill_keeps_zones_and_recordings_that_were_acknowledged_and_the_cut_one_goes_on(tmp_path):
    folder = tmp_path / "recordings"
    options = (f"recording.dir={folder}", f"daemon.state_dir={tmp_path / 'state'}", "daemon.http=null")
    door = {"door": [[0.0, 0.0], [9.0, 9.0]]}
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        client.open("cam")
        whole = act(client, "start")["result"]["recording"]
        send(client, *range(5))
        act(client, "stop")
        cut = act(client, "start")["result"]["recording"]
        client.request("stream.set_zones", stream="cam", lines=door)
        send(client, *range(5, 80))
        daemon.stop(signal.SIGKILL)
    assert recorded(folder / whole) == (list(range(5)), ["recording"])
    before, _ = recorded(folder / cut)
    assert before == list(range(5, 5 + len(before)))
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        rows = client.request("recording.list")["result"]
        assert [(row["recording"], row["active"]) for row in rows] == [(whole, False), (cut, True)]
        assert rows[1]["t_ns"] > rows[0]["t_ns"]
        assert client.request("stream.zones", stream="cam")["result"]["lines"] == door
        client.open("cam", takeover=True)
        send(client, *range(80, 90))
        stopped = act(client, "stop")["result"]
        assert (stopped["recording"], stopped["messages"]) == (cut, len(list(LogReader(folder / cut).records())))
        last = act(client, "start")["result"]["recording"]
        send(client, 90)
        code, _ = daemon.stop()
        assert code == 0
    seqs, events = recorded(folder / cut)
    assert seqs == list(range(5, 90)), "each that was acked is there once"
    assert events[:2] == ["recording", "zones"]
    assert recorded(folder / last) == ([90], ["recording", "zones"]), "it has the zones of its start"
    with (
        DaemonProcess(*options) as daemon,
        RawClient(daemon.addresses) as client,
    ):  # a daemon that was stopped ends them
        rows = client.request("recording.list")["result"]
        assert [row["reason"] for row in rows] == [None, None, "the daemon has ended"]
        assert not any(row["active"] for row in rows)


def test_without_a_journal_a_kill_leaves_a_readable_recording_without_an_end(tmp_path):
    options = (f"recording.dir={tmp_path}", "daemon.http=null")
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        client.open("cam")
        cut = act(client, "start")["result"]["recording"]
        send(client, *range(30))
        wait_until(lambda: 10 in recorded(tmp_path / cut)[0], LONG_S, "messages of the recording")
        daemon.stop(signal.SIGKILL)
    seqs, _ = recorded(tmp_path / cut)
    assert seqs == list(range(len(seqs)))
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        (row,) = client.request("recording.list")["result"]
        assert (row["recording"], row["active"], row["seconds"], row["messages"]) == (cut, False, None, None)
