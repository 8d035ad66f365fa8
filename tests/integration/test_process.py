"""The daemon as a process: signals, exit codes, health, and one clear line for an error at start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trackd.cli", *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})},
    )  # fmt: skip


def assert_one_clear_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_sigterm_settles_the_queued_frames_and_exits_0():
    with DaemonProcess() as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam")
        for seq in range(20):
            client.frame("cam", seq, walking_boxes(seq))
        client.recv_kind("ack")
        code, stderr = daemon.stop(signal.SIGTERM)
        assert (code, stderr) == (0, "")
        settled = 0
        while client.tracks.poll(500):
            topic, header, _ = client.recv_tracks()
            settled += topic.startswith(b"tracks/")
            last = header
        assert last["event"] == "closed"
        assert settled == last["last_seq"] + 1


def test_sigint_drains_too():
    with DaemonProcess() as daemon:
        assert daemon.stop(signal.SIGINT)[0] == 0


def test_the_drain_request_ends_the_daemon_with_exit_code_0():
    with DaemonProcess() as daemon, RawClient(daemon.addresses) as client:
        assert client.request("drain")["result"]["draining"] is True
        assert daemon.process.wait(10) == 0


def test_a_second_signal_exits_at_once():
    # Both signals are pending when the process continues.
    with DaemonProcess() as daemon:
        os.kill(daemon.process.pid, signal.SIGSTOP)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGINT)
        os.kill(daemon.process.pid, signal.SIGCONT)
        assert daemon.process.wait(10) in (0, 1)


def test_a_running_daemon_is_healthy_and_ready():
    with DaemonProcess() as daemon:
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz")[0] == 200
        assert daemon.metrics()["trackd_ready"] == 1
        assert daemon.get("/nothing")[0] == 404


def test_a_frame_after_the_drain_request_does_not_keep_the_daemon_running():
    with DaemonProcess() as daemon, RawClient(daemon.addresses) as client:
        client.open("cam")
        client.frame("cam", 0, walking_boxes(0))
        client.recv_kind("ack")
        client.request("drain")
        client.ingest.rcvtimeo = 500
        client.frame("cam", 1, walking_boxes(1))
        assert daemon.process.wait(10) == 0


def test_a_daemon_without_http_serves():
    with DaemonProcess("daemon.http=null") as daemon, RawClient(daemon.addresses) as client:
        assert "http" not in daemon.addresses
        assert client.open("cam")["kind"] == "opened"


def test_ipc_endpoints_serve(tmp_path):
    overrides = [f"daemon.endpoints.{name}=ipc://{tmp_path}/sockets/{name}" for name in ("ingest", "tracks", "control")]
    with DaemonProcess(*overrides) as daemon, RawClient(daemon.addresses) as client:
        assert client.open("cam")["kind"] == "opened"
        assert (tmp_path / "sockets").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tracker.windowsize=3", ["tracker.windowsize", "window_size"]),
        ("trackr.window_size=3", ["trackr", "tracker"]),
        ("tracker.window_size=big", ["tracker.window_size", "integer", "big"]),
        ("tracker.window_size=0", ["tracker.window_size", "1", "0"]),
        ("tracker.iou=giou", ["tracker.iou", "mult", "max", "giou"]),
        ("tracker.decay_time=1.5", ["tracker.decay_time", "1.5"]),
        ("stream.on_overload=drop", ["stream.on_overload", "drop_oldest"]),
        ("daemon.endpoints.ingest=http://x", ["daemon.endpoints", "tcp://"]),
        ("daemon.endpoints.ingest=tcp://0.0.0.0:*", ["loopback", "insecure"]),
        ("daemon.http=0.0.0.0:0", ["daemon.http", "loopback"]),
        ("daemon.http=nonsense", ["daemon.http", "host:port"]),
        ("nonsense", ["--set", "nonsense"]),
        ("ckpt_path=/no/such.ckpt", ["/no/such.ckpt"]),
    ],
)
def test_a_bad_value_is_one_clear_line_and_exit_code_2(override, words):
    assert_one_clear_line(run("serve", "--set", override), *words)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("daemon.endpoints.control=tcp://0.0.0.0:*", ["daemon.endpoints.control", "loopback"]),
        ("daemon.http=0.0.0.0:0", ["daemon.http", "loopback"]),
        ("daemon.http=nonsense", ["daemon.http", "host:port"]),
        ("security.http_token_file=/no/such/token", ["http_token_file", "/no/such/token"]),
        ("ckpt_path=/no/such.ckpt", ["/no/such.ckpt"]),
    ],
)
def test_a_bad_value_is_reported_before_any_port_is_bound(override, words):
    with socket.socket() as taken:  # the daemon's first bind would fail
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ingest = f"daemon.endpoints.ingest=tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert_one_clear_line(run("serve", "--set", ingest, "--set", override), *words)


def test_a_config_file_that_does_not_exist_is_one_clear_line_and_exit_code_2():
    assert_one_clear_line(run("serve", "/no/such.yaml"), "/no/such.yaml", "no such file")


def test_a_config_file_that_is_no_yaml_is_one_clear_line_and_exit_code_2(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("tracker: [1, 2")
    assert_one_clear_line(run("serve", str(path)), "bad.yaml", "YAML")


def test_an_environment_variable_overrides_a_key():
    assert_one_clear_line(run("serve", env={"TRACKD__TRACKER__IOU": "giou"}), "tracker.iou", "giou")


@pytest.mark.parametrize("name", ["daemon.endpoints.ingest", "daemon.http"])
def test_a_port_in_use_is_one_clear_line_and_exit_code_2(name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        value = f"tcp://127.0.0.1:{port}" if "endpoints" in name else f"127.0.0.1:{port}"
        free = [f"daemon.endpoints.{other}=tcp://127.0.0.1:*" for other in ("ingest", "tracks", "control")]
        overrides = [word for override in [*free, f"{name}={value}"] for word in ("--set", override)]
        assert_one_clear_line(run("serve", *overrides), name, "in use", str(port))


def test_a_thread_that_dies_ends_the_process_with_exit_code_1_and_a_reason():
    fault = (
        "import trackd.engine.inbox as i, trackd.cli as c, sys\n"
        "real = i.Inbox.take\n"
        "def take(self, *given):\n"
        "    work, size = real(self, *given)\n"
        "    if work: raise RuntimeError('staged')\n"
        "    return work, size\n"
        "i.Inbox.take = take\n"
        "sys.argv = ['trackd', 'serve'] + sys.argv[1:]\n"
        "c.main()\n"
    )
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    overrides = [word for override in [*free, "daemon.http=null"] for word in ("--set", override)]
    process = subprocess.Popen(
        [sys.executable, "-c", fault, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    addresses = dict(word.split("=", 1) for word in line.split()[1:])
    with RawClient(addresses) as client:
        client.send({"kind": "open", "stream": "cam"})
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "trackd: the engine thread died: RuntimeError: staged" in stderr


def test_an_engine_that_has_stopped_stepping_while_frames_wait_is_not_healthy():
    fault = (
        "import trackd.engine.step as e, trackd.cli as c, sys, time\n"
        "real = e.StepRunner.run\n"
        "def run(self, work):\n"
        "    if any(type(item).__name__ == 'QueuedFrame' for _, item in work): time.sleep(3)\n"
        "    return real(self, work)\n"
        "e.StepRunner.run = run\n"
        "sys.argv = ['trackd', 'serve'] + sys.argv[1:]\n"
        "c.main()\n"
    )
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    extra = ["daemon.http=127.0.0.1:0", "daemon.stall_s=0.5"]
    overrides = [word for override in [*free, *extra] for word in ("--set", override)]
    daemon = DaemonProcess.__new__(DaemonProcess)
    daemon.process = subprocess.Popen(
        [sys.executable, "-c", fault, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    daemon.addresses = daemon._wait_until_ready()
    with daemon, RawClient(daemon.addresses) as client:
        client.open("cam")
        assert daemon.get("/healthz")[0] == 200
        client.frame("cam", 0, walking_boxes(0))
        time.sleep(0.2)
        wait_until(lambda: daemon.get("/healthz")[0] == 503, 3.0, "the report of the stall")
        status, body = daemon.get("/readyz")
        assert status == 503
        assert "engine" in body
        client.recv_kind("ack")
        wait_until(lambda: daemon.get("/healthz")[0] == 200, 3.0, "health after the stall")
