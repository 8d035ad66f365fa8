"""`trackd-client trigger` and `events` beside a real daemon, as processes."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until

from trackd_client import Client, Detections, Stream

LONG_S = 60.0
CLI = [sys.executable, "-m", "trackd_client.apps.cli"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as made:
        yield made


@contextmanager
def program(daemon: DaemonProcess, *words: str) -> Iterator[subprocess.Popen[str]]:
    endpoints = ["--tracks", daemon.tracks, "--control", daemon.control]
    process = subprocess.Popen([*CLI, *words, *endpoints], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LONG_S)


def boxes(*xs: float) -> Detections:
    return Detections(boxes=np.array([[x, 100, x + 20, 120] for x in xs], np.float32).reshape(-1, 4))


def rules(path: Path, to: str, *, streams: str = "[]") -> str:
    path.write_text(
        f"zones: {{feeder: [[200, 50], [400, 50], [400, 200], [200, 200]]}}\n"
        f"actions: {{out: {{kind: udp, to: '{to}'}}, line: {{kind: print, message: '{{rule}} {{track}}'}}}}\n"
        "rules:\n"
        f"  at-feeder: {{when: zone_enter, zone: feeder, hysteresis_px: 5, streams: {streams}, do: [out, line]}}\n"
        f"  alone: {{when: ended, streams: {streams}, do: [line]}}\n"
    )
    return str(path)


@pytest.mark.parametrize("named", [True, False])
def test_a_rule_fires_into_a_udp_socket_for_a_named_stream_and_for_one_that_is_opened_later(daemon, tmp_path, named):
    name = "named" if named else "later"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener, Client(daemon.ingest) as client:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(LONG_S)
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        file = rules(tmp_path / "rules.yaml", to, streams=f"[{name}]" if named else "[]")
        with program(daemon, "trigger", file) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "ready rules=2 actions=2\n"
            with client.open_stream(name, config={"max_gap": 2}) as stream:
                # One box walks in, trembles at the edge and stays; another one stays outside.
                for index, x in enumerate([150, 170, 185, 195, 188, 195, 188, 210, 260]):
                    stream.send(None, boxes(x, 20), frame_index=index + 40, t_ns=1_000_000_000 + index)
                stream.flush()
                fired = json.loads(listener.recv(65536))
                assert (fired["rule"], fired["stream"], fired["track"]) == ("at-feeder", name, 0)
                assert (fired["frame_index"], fired["t_ns"], fired["x"]) == (43, 1_000_000_003, 205.0)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LONG_S)
        assert process.returncode == 0, err
        assert out == "at-feeder 0\n"
        assert "fired 1\n" in err
        assert "action=out: sent 1, failed 0, overflowed 0; behind tracks p50 " in err
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(65536)


def test_check_only_checks_and_a_fault_is_one_line_with_code_2(tmp_path):
    file = rules(tmp_path / "rules.yaml", "127.0.0.1:9")
    checked = subprocess.run([*CLI, "trigger", file, "--check"], capture_output=True, text=True, timeout=LONG_S)
    assert (checked.returncode, checked.stdout) == (0, f"{file}: 2 rules, 2 actions\n")
    rules(tmp_path / "rules.yaml", "127.0.0.1:none")
    faulty = subprocess.run([*CLI, "trigger", file], capture_output=True, text=True, timeout=LONG_S)
    assert faulty.returncode == 2
    assert faulty.stderr.startswith(f"trackd-client: {file}: actions.out.to should be a host and a port")
    assert len(faulty.stderr.splitlines()) == 1


def send_until(stream: Stream, condition: Callable[[], bool], what: str) -> None:
    """Send frames in which tracks begin and end: a program that was just started follows from the next frame on."""
    sent = 0

    def step() -> bool:
        nonlocal sent
        stream.send(None, boxes(*range(0, 1200, 60)[: sent % 19]))
        sent += 1
        return condition()

    wait_until(step, LONG_S, what)


def test_events_are_one_json_line_each_and_a_closed_pipe_ends_them_quietly(daemon):
    with Client(daemon.ingest, daemon.tracks, daemon.control) as client, program(daemon, "events", "--json") as process:
        out = process.stdout
        assert out is not None
        with client.open_stream("probe") as probe:
            send_until(probe, lambda: bool(select.select([out], [], [], 0)[0]), "the first line")
        # It follows all streams, and those that are opened later from their first frame.
        with client.open_stream("pipe", config={"max_gap": 2}) as stream:
            for index, xs in enumerate([(20, 300), (20, 300), (20,), (20,), (20,), (20,)]):
                stream.send(None, boxes(*xs), frame_index=index, t_ns=7_000 + index)
            stream.flush()
            lines = (line for line in map(json.loads, out) if line["stream"] == "pipe")
            rows = [next(line for line in lines if "track" in line)]
            while rows[-1]["event"] != "ended":
                rows.append(next(lines))
            client.reset("pipe")
        assert [(row["event"], row["track"]) for row in rows] == [("new", 0), ("new", 1), ("lost", 1), ("ended", 1)]
        assert all(row["frame_index"] == row["seq"] and row["t_ns"] == 7000 + row["seq"] for row in rows)
        names = []
        while not names or names[-1] != "closed":
            names.append(next(lines)["event"])
        assert "reset" in names
        out.close()
        process.wait(LONG_S)
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_pipe_that_takes_one_line_gets_one(daemon):
    with Client(daemon.ingest, daemon.tracks, daemon.control) as client, client.open_stream("head") as stream:
        command = [*CLI, "events", "head", "--json", "--tracks", daemon.tracks, "--control", daemon.control]
        events = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        head = subprocess.Popen(["head", "-1"], stdin=events.stdout, stdout=subprocess.PIPE)
        assert events.stdout is not None
        assert events.stderr is not None
        events.stdout.close()
        send_until(stream, lambda: events.poll() is not None, "the end of the pipe")
        out, _ = head.communicate(timeout=LONG_S)
        assert json.loads(out)["stream"] == "head"
        assert (events.returncode, events.stderr.read()) == (0, b"")
        events.stderr.close()
