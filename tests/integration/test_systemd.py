"""The notifications of a daemon to systemd, read from a real datagram socket in systemd's place."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, fixed_ports, wait_until
from raw_client import RawClient, walking_boxes

UNIT = Path(__file__).parents[2] / "deploy/systemd/trackd.service"
WATCHDOG_S = 1.5
STALL_S = 1.2  # longer than 1 s, after which an idle IO thread runs again
STANDSTILL_S = 4.0
STALLING_ENGINE = (
    "import trackd.engine.step as e, trackd.cli as c, sys, time\n"
    "real = e.StepRunner.run\n"
    "def run(self, work):\n"
    f"    if any(type(item).__name__ == 'QueuedFrame' for _, item in work): time.sleep({STANDSTILL_S})\n"
    "    return real(self, work)\n"
    "e.StepRunner.run = run\n"
    "sys.argv = ['trackd', 'serve'] + sys.argv[1:]\n"
    "c.main()\n"
)


class Listener:
    """A datagram socket as systemd's; stores each message with the time of its receipt."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                text = self._socket.recv(4096).decode()
            except TimeoutError:
                continue
            self.received += [(time.monotonic(), line) for line in text.splitlines()]

    def times(self, message: str) -> list[float]:
        return [when for when, line in self.received if line == message]

    def statuses(self) -> list[str]:
        return [line.removeprefix("STATUS=") for _, line in self.received if line.startswith("STATUS=")]

    def wait_for(self, message: str, timeout_s: float = 30.0) -> float:
        wait_until(lambda: self.times(message), timeout_s, message)
        return self.times(message)[0]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@trackd-test-{os.getpid()}"
    with Listener(name) as made:
        yield made


@pytest.fixture
def at_a_path(tmp_path):
    with Listener(str(tmp_path / "notify")) as made:
        yield made


def environment(listener: Listener) -> dict[str, str]:
    return {"NOTIFY_SOCKET": listener.name, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}


class StallingDaemon(DaemonProcess):
    """A daemon whose engine stalls in each frame."""

    def __init__(self, listener: Listener) -> None:
        free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
        overrides = [*free, "daemon.http=127.0.0.1:0", f"daemon.stall_s={STALL_S}"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", STALLING_ENGINE, *(word for each in overrides for word in ("--set", each))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment(listener)},
        )  # fmt: skip
        self.addresses = self._wait_until_ready()


def test_ready_is_sent_after_the_sockets_are_bound_and_stopping_at_sigterm(listener):
    overrides = fixed_ports()
    ports = [int(override.rpartition(":")[2]) for override in overrides]
    command = [sys.executable, "-m", "trackd.cli", "serve", "--set", "daemon.http=null"]
    command += [word for override in overrides for word in ("--set", override)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment(listener)}
    )
    try:
        wait_until(lambda: listener.times("READY=1") or process.poll() is not None, 30, "READY=1")
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        assert listener.received[0][1] == "READY=1"
        listener.wait_for("STATUS=ready; streams: 0, frames that wait: 0", 5)
        assert listener.times("STOPPING=1") == []
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
    assert (process.returncode, stderr) == (0, "")
    listener.wait_for("STOPPING=1", 1)
    assert len(listener.times("READY=1")) == len(listener.times("STOPPING=1")) == 1


def test_the_watchdog_is_fed_while_the_engine_runs_and_not_while_it_stalls(at_a_path):
    listener = at_a_path
    with StallingDaemon(listener) as daemon, RawClient(daemon.addresses) as client:
        wait_until(lambda: len(listener.times("WATCHDOG=1")) >= 4, 10, "four feeds of an idle daemon")
        fed = listener.times("WATCHDOG=1")
        assert max(b - a for a, b in itertools.pairwise(fed)) < WATCHDOG_S
        client.open("cam")
        client.frame("cam", 0, walking_boxes(0))
        stalled_at = time.monotonic()
        client.ingest.rcvtimeo = int(STANDSTILL_S * 3000)
        client.recv_kind("ack")
        resumed_at = time.monotonic()
        assert resumed_at - stalled_at > STANDSTILL_S
        silent = (stalled_at + STALL_S + 0.5, stalled_at + STANDSTILL_S)
        assert [when for when in listener.times("WATCHDOG=1") if silent[0] < when < silent[1]] == []
        wait_until(lambda: listener.times("WATCHDOG=1")[-1] > resumed_at, 5, "feeds after the stall")
        # systemd would have found a gap longer than its limit.
        fed = listener.times("WATCHDOG=1")
        assert max(b - a for a, b in itertools.pairwise(fed)) > WATCHDOG_S
        _, stderr = daemon.stop()
    assert "the watchdog is not fed: the engine has not stepped" in stderr
    assert "the watchdog is fed again" in stderr


def test_a_drain_by_request_is_reported_to_systemd(at_a_path):
    with DaemonProcess(env=environment(at_a_path)) as daemon, RawClient(daemon.addresses) as client:
        client.open("cam")
        wait_until(lambda: "ready; streams: 1, frames that wait: 0" in at_a_path.statuses(), 5, "the status")
        client.request("drain")
        assert daemon.process.wait(10) == 0
        at_a_path.wait_for("STOPPING=1", 1)


def test_the_unit_waits_for_ready_and_feeds_a_watchdog():
    text = UNIT.read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert lines["Type"] == "notify"
    assert float(lines["WatchdogSec"]) >= 3
    assert "AF_UNIX" in lines["RestrictAddressFamilies"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["trackd.service", "trackd-camera@.service"])
def test_systemd_accepts_the_unit(tmp_path, name):
    unit = tmp_path / name.replace("@", "@0")
    text = re.sub(r"/opt/trackd/bin/\S+", sys.executable, UNIT.with_name(name).read_text())  # the program must exist
    unit.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    problems = [line for line in result.stderr.splitlines() if unit.name in line]
    assert (result.returncode, problems) == (0, []), result.stderr
