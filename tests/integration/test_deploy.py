"""The files of deploy/ work: a real Prometheus scrapes a real daemon with our configuration."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes

from trackd.config import LimitsConfig
from trackd.server.unsent import TRACKS_BYTES

DEPLOY = Path(__file__).parents[2] / "deploy"
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian's package has it)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@needs_prometheus
def test_prometheus_scrapes_a_daemon_with_our_configuration(tmp_path):
    port = free_port()
    with DaemonProcess() as daemon, RawClient(daemon.addresses) as client:
        client.open("cam")
        for seq in range(5):
            client.frame("cam", seq, walking_boxes(seq))
        while client.recv_kind("ack")["seq"] < 4:
            pass
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"]["scrape_interval"] = "1s"
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [daemon.http.removeprefix("http://")]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(DEPLOY / "prometheus/alerts.yml", tmp_path)
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:

            def values(query: str) -> list[str]:
                url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
                try:
                    with urllib.request.urlopen(url, timeout=2) as response:
                        rows = json.load(response)["data"]["result"]
                except OSError:
                    return []
                return [row["value"][1] for row in rows]

            wait_until(lambda: values('trackd_frames_tracked_total{stream="cam"}') == ["5"], 30, "the scrape")
            assert values("trackd_ready") == ["1"]
            assert values('trackd_latency_seconds_count{stage="total"}') == ["5"]
            balance = "sum(trackd_frames_received_total) - sum(trackd_frames_tracked_total) - sum(trackd_frames_queued)"
            assert values(balance) == ["0"]
        finally:
            prometheus.terminate()
            prometheus.wait(10)


def test_the_latency_histogram_has_edges_from_1_ms_to_2_5_s():
    with DaemonProcess() as daemon, RawClient(daemon.addresses) as client:
        client.open("cam")
        client.frame("cam", 0, walking_boxes(0))
        client.recv_kind("ack")
        _, text = daemon.get("/metrics")
        edges = [line.split('le="')[1].split('"')[0] for line in text.splitlines()
                 if line.startswith("trackd_latency_seconds_bucket") and 'stage="total"' in line]  # fmt: skip
        assert (edges[0], edges[-2], edges[-1]) == ("0.001", "2.5", "+Inf")


def test_the_service_file_runs_the_installed_daemon_and_drains_on_stop():
    text = (DEPLOY / "systemd/trackd.service").read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert lines["ExecStart"].endswith("/trackd serve /etc/trackd/daemon.yaml")
    assert lines["KillSignal"] == "SIGTERM"
    drain_s = yaml.safe_load((DEPLOY.parent / "configs/daemon.yaml").read_text())["daemon"]["drain_s"]
    assert float(lines["TimeoutStopSec"]) > drain_s
    assert lines["User"] != "root"


def test_a_memory_limit_above_the_sum_of_the_default_limits_bounds_the_daemon():
    """Nothing in ZeroMQ bounds a message of endless parts, so the limit is the operating system's."""
    limits = LimitsConfig()
    least = limits.queue_bytes + limits.streams * limits.history_bytes + TRACKS_BYTES
    unit = (DEPLOY / "systemd/trackd.service").read_text()
    (gigabytes,) = re.findall(r"^MemoryMax=(\d+)G$", unit, re.MULTILINE)
    assert int(gigabytes) * 2**30 > least
    documented = (DEPLOY.parent / "docs/deployment.md").read_text() + (DEPLOY / "docker/Dockerfile").read_text()
    runs = re.findall(r"docker run .*", documented)
    assert len(runs) == 3
    assert all(f"--memory {gigabytes}g " in run for run in runs)


def test_the_image_runs_as_a_user_without_privileges():
    lines = (DEPLOY / "docker/Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["trackd"]
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    for path in copied:
        assert (DEPLOY.parent / path).exists(), path
