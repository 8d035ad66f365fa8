"""`trackd-client record` and `play` as processes: the bytes are those that the daemon published, also after a kill."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zmq
from daemon_process import DaemonProcess, wait_until

from trackd_client import Client, Detections, Status
from trackd_client.apps.record import Recorder
from trackd_client.apps.trigger import Trigger, check_rules
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import Kind, Record
from trackd_client.message_log.writer import LogWriter, segments
from trackd_client.protocol import Tracks, decode

LONG_S = 60.0
CLI = [sys.executable, "-m", "trackd_client.apps.cli"]
FRAMES = 300


class Subscriber:
    """A SUB socket that collects every message of a stream on a thread."""

    def __init__(self, endpoint: str, stream: str = "cam") -> None:
        self.messages: list[tuple[bytes, ...]] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 50)
        for kind in ("tracks", "events"):
            self._socket.setsockopt(zmq.SUBSCRIBE, f"{kind}/{stream}/".encode())
        self._socket.connect(endpoint)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.messages.append(tuple(self._socket.recv_multipart()))
            except zmq.Again:
                continue

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()
        self._context.term()


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen([*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate(timeout=LONG_S)


def recorder(daemon: DaemonProcess, folder: Path, *words: str):
    return process("record", str(folder), *words, "--tracks", daemon.tracks, "--control", daemon.control)


def seqs(messages: list[tuple[bytes, ...]]) -> list[int]:
    decoded = [decode(parts[1:]) for parts in messages]
    return [each.seq for each in decoded if isinstance(each, Tracks)]


def whole(records: list[Record]) -> list[tuple[bytes, ...]]:
    """The messages of a log, those from `history` too: a recorder may miss the first frames after its start."""
    return [record.parts for record in records if record.kind is not Kind.GAP]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Iterator[tuple[Path, list[tuple[bytes, ...]], str]]:
    """A log of a stream, what a subscriber got meanwhile, and what the killed recorder's log had.

    The recorder is killed in the middle and started again; the daemon goes on meanwhile.
    """
    folder = tmp_path_factory.mktemp("log")
    rng = np.random.default_rng(1)
    with (
        DaemonProcess() as daemon,
        Client(daemon.ingest, daemon.tracks, daemon.control) as client,
        client.open_stream("cam") as stream,
        Subscriber(daemon.tracks) as subscriber,
    ):

        def send(n: int) -> None:
            for _ in range(n):
                corner = rng.uniform(0, 400, (4, 2))
                stream.send(None, Detections(boxes=np.concatenate([corner, corner + 20], 1).astype(np.float32)))

        with recorder(daemon, folder, "cam", "--segment-bytes", "16k") as first:
            assert first.stderr is not None
            assert first.stderr.readline() == "ready\n"
            send(FRAMES)
            wait_until(lambda: len(list(LogReader(folder).records())) > 50, LONG_S, "a part of the log")
            first.kill()
            first.wait(LONG_S)
        killed = len(list(LogReader(folder).records()))
        with recorder(daemon, folder, "--segment-bytes", "16k") as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "ready\n"
            send(FRAMES)
            stream.flush()
            last = 2 * FRAMES - 1
            wait_until(lambda: last in seqs(whole(list(LogReader(folder).records()))), LONG_S, "the last frame")
            wait_until(lambda: last in seqs(list(subscriber.messages)), LONG_S, "the subscriber")
            second.send_signal(signal.SIGTERM)
            _, shown = second.communicate(timeout=LONG_S)
            assert second.returncode == 0, shown
            assert re.search(r"recorded \d+ messages, \d+ from history, 0 missing", shown)
        assert killed > 50
        yield folder, list(subscriber.messages), shown


def test_the_records_are_the_published_bytes_also_after_a_kill(recorded):
    folder, published, _ = recorded
    reader = LogReader(folder)
    records = list(reader.records())
    assert reader.damaged == []
    assert len(reader.cut) <= 1  # the record that was being written when the recorder was killed
    assert len(segments(folder)) > 2
    known = set(published)
    received = [record.parts for record in records if record.kind is Kind.MESSAGE]
    assert [message for message in received if message[0].startswith(b"tracks/") and message not in known] == []
    assert len(received) > FRAMES
    found = seqs(whole(records))
    assert found == sorted(set(found))
    # Nothing is missing but what was published while no recorder ran, between the two.
    jumps = [b - a for a, b in pairwise(found) if b != a + 1]
    assert len(jumps) <= 1
    assert found[-1] == 2 * FRAMES - 1
    times = [record.received_ns for record in records]
    assert times == sorted(times)


def played(folder: Path, *words: str) -> list[tuple[bytes, ...]]:
    """What a subscriber gets of a play at the highest speed."""
    ports = ("--tracks", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*")
    with process("play", str(folder), "--speed", "max", "--linger-s", "1", *words, *ports) as player:
        assert player.stdout is not None
        assert select.select([player.stdout], [], [], LONG_S)[0]
        endpoint = re.match(r"ready tracks=(\S+) ", player.stdout.readline())
        assert endpoint is not None
        with Subscriber(endpoint[1]) as subscriber:
            out, err = player.communicate(timeout=LONG_S)
            assert player.returncode == 0, err
            count = re.search(r"played (\d+) messages", out)
            assert count is not None
            wait_until(lambda: len(subscriber.messages) == int(count[1]), LONG_S, "all messages")
            return subscriber.messages


def test_a_play_publishes_the_recorded_bytes(recorded):
    folder, _, _ = recorded
    assert played(folder) == whole(list(LogReader(folder).records()))


def test_a_play_with_faults_is_the_same_for_the_same_seed(recorded):
    folder, _, _ = recorded
    faults = ("--loss", "0.1", "--duplicate", "0.1", "--reorder", "0.1", "--delay-ms", "1")
    one, two = (played(folder, "--seed", "5", *faults) for _ in range(2))
    assert one == two
    original = whole(list(LogReader(folder).records()))
    assert one != original
    assert set(one) < set(original)


def test_a_subscriber_of_the_sdk_gets_every_settlement_of_a_play_that_loses_messages(recorded):
    folder, _, _ = recorded
    wanted = seqs(whole(list(LogReader(folder).records())))
    ports = ("--tracks", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*")
    words = ("--speed", "20", "--loss", "0.3", "--duplicate", "0.2", "--reorder", "0.2", "--linger-s", "30")
    with process("play", str(folder), *words, *ports) as player:
        assert player.stdout is not None
        line = player.stdout.readline()
        found = re.match(r"ready tracks=(\S+) control=(\S+)", line)
        assert found is not None, line
        with Client(tracks=found[1], control=found[2]) as client:
            got = []
            for tracks in client.tracks("cam", timeout_s=LONG_S):
                assert tracks.status is Status.TRACKED
                got.append(tracks.seq)
                if tracks.seq >= wanted[-5]:  # the last ones may be lost without a later message that shows it
                    break
        assert got == wanted[: len(got)]
        assert len(got) > FRAMES


def test_a_wrong_size_or_speed_and_a_missing_log_are_one_line(tmp_path):
    for words, code, text in [
        (("record", str(tmp_path), "--segment-bytes", "big"), 2, "--segment-bytes must be a number of bytes above 0"),
        (("play", str(tmp_path), "--speed", "fast"), 2, "--speed must be a number above 0, or max"),
        (("play", str(tmp_path)), 1, "no recorded messages"),
    ]:
        ended = subprocess.run([*CLI, *words], capture_output=True, text=True, timeout=LONG_S)
        assert ended.returncode == code, ended.stderr
        assert text in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_a_rule_on_a_zone_of_the_stream_fires_when_the_recording_is_played(tmp_path):
    log, pot = tmp_path / "log", [[100, 100], [200, 100], [200, 200], [100, 200]]
    with (
        DaemonProcess() as daemon,
        Client(daemon.ingest, daemon.tracks, daemon.control) as client,
        client.open_stream("cam") as stream,
        LogWriter(log, 1 << 20) as writer,
    ):

        def send(x: float) -> None:
            stream.send(None, Detections(boxes=np.array([[x, 140, x + 20, 160]], np.float32)))
            stream.flush()

        client.set_zones("cam", {"pot": pot})
        recording = Recorder(client, writer, ["cam"])
        try:
            wait_until(lambda: [send(20), recording.step(0.1)] and recording.counts.messages > 0, LONG_S, "a message")
            send(140)
            last = client.live("cam").seq
            wait_until(lambda: recording.step(0.1) or last in seqs(whole(list(LogReader(log).records()))), LONG_S)
        finally:
            recording.close()
    rules = {
        "zones": {"pot": "stream"},
        "actions": {"out": {"kind": "print"}},
        "rules": {"in": {"when": "zone_enter", "zone": "pot", "streams": ["cam"], "do": ["out"]}},
    }
    free = ("--tracks", "tcp://127.0.0.1:*", "--control", "tcp://127.0.0.1:*", "--speed", "max", "--linger-s", "60")
    with process("play", str(log), *free) as playing:
        at = dict(word.split("=") for word in playing.stdout.readline().split()[1:])
        with (
            Client(tracks=at["tracks"], control=at["control"]) as client,
            Trigger(client, check_rules(rules)) as trigger,
        ):
            fired = []
            wait_until(lambda: fired.extend(trigger.step()) or fired, LONG_S, "the rule")
    assert (fired[0].rule, fired[0].zone, fired[0].x) == ("in", "pot", 150.0)
