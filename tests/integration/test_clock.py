"""A client and a daemon whose clocks differ: real sockets and processes; only the daemon's clock is simulated."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until

from trackd_client import Client, Detections, Timeout

OFFSET_NS = -3_600_123_456_789
BOXES = np.array([[10, 20, 50, 60]], np.float32)
# Patched before any module of ours imports `time.time_ns`.
OTHER_CLOCK = (
    "import sys, time\n"
    "real = time.time_ns\n"
    f"time.time_ns = lambda: real() + ({OFFSET_NS})\n"
    "import trackd.cli as c\n"
    "sys.argv = ['trackd', 'serve'] + sys.argv[1:]\n"
    "c.main()\n"
)


class LateDaemon(DaemonProcess):
    """A daemon whose host's clock is an hour behind."""

    def __init__(self) -> None:
        free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
        words = [word for override in [*free, "daemon.http=null"] for word in ("--set", override)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER_CLOCK, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addresses = self._wait_until_ready()


@pytest.fixture(scope="module")
def daemon():
    with LateDaemon() as made:
        yield made


@pytest.fixture
def client(daemon):
    with Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=5.0) as made:
        yield made


def test_a_client_measures_the_daemons_clock_to_within_the_stated_uncertainty(client):
    assert client.clock_offset_ns is None
    clock = client.clock()
    assert abs(clock.offset_ns - OFFSET_NS) <= clock.uncertainty_ns < 50_000_000
    assert client.clock_offset_ns == clock.offset_ns
    assert client.clock_uncertainty_ns < 50_000_000


def test_a_known_offset_is_returned_at_once_and_renewed_while_a_stream_sends(client, monkeypatch):
    monkeypatch.setattr("trackd_client.sending.driver.CLOCK_S", 0.1)
    client.clock()
    samples = client._ingest.clock.samples
    with client.open_stream("busy", reply="tracks") as stream:
        deadline = time.monotonic() + 10
        while client._ingest.clock.samples < samples + 2:
            assert time.monotonic() < deadline, "no ping was sent while a closed loop ran"
            stream.track(None, Detections(boxes=BOXES))
    clock = client.clock()
    assert abs(clock.offset_ns - OFFSET_NS) <= clock.uncertainty_ns


def test_an_idle_client_measures_the_clock_without_a_call(client, monkeypatch):
    monkeypatch.setattr("trackd_client.sending.driver.KEEPALIVE_S", 0.2)
    with client.open_stream("idle"):
        wait_until(lambda: client.clock_offset_ns is not None, 10)
        assert abs(client.clock_offset_ns - OFFSET_NS) <= client.clock_uncertainty_ns


def test_the_capture_latency_of_a_camera_on_another_host_is_measured_in_the_daemons_clock(client, daemon):
    with (
        Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=5.0) as subscriber,
        client.open_stream("cam", daemon_clock=True) as stream,
    ):
        updates = subscriber.tracks("cam", timeout_s=5.0)
        subscriber.clock()
        captured_ns = time.time_ns() - 80_000_000  # the exposure was 80 ms ago
        stream.send(None, Detections(boxes=BOXES), t_ns=captured_ns)
        tracks = next(updates)
        latency = subscriber.capture_latency(tracks)
        true_ns = time.time_ns() - captured_ns
    assert abs(tracks.t_ns - captured_ns - OFFSET_NS) < 50_000_000
    assert 80_000_000 <= true_ns < 3_000_000_000
    slack_ns = (
        latency.uncertainty_ns + client.clock_uncertainty_ns + 20_000_000
    )  # between the two readings of the clock
    assert abs(latency.latency_ns - true_ns) <= slack_ns


def test_without_the_flag_a_capture_time_is_sent_unchanged(client):
    with client.open_stream("plain", reply="tracks") as stream:
        client.clock()
        assert stream.track(None, Detections(boxes=BOXES), t_ns=1_234).t_ns == 1_234


def test_without_a_daemon_a_clock_request_raises_a_timeout_that_names_the_endpoint():
    with (
        Client(ingest="tcp://127.0.0.1:1", timeout_s=0.3) as client,
        pytest.raises(Timeout, match=r"tcp://127\.0\.0\.1:1 did not answer a ping.*is it running"),
    ):
        client.clock()
