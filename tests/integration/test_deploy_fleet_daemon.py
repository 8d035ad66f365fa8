"""A daemon with the environment of deploy/fleet/compose.yaml joins real NATS servers with its own certificate."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from daemon_process import wait_until

pytest.importorskip("nats")

from deployed_servers import DEPLOY, DeployedServers, free_ports
from nats_program import needs_nats

pytestmark = [
    needs_nats,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_a_daemon_of_compose_joins_its_fleet_and_leaves_it_at_sigterm(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    with DeployedServers(tmp_path) as servers:
        ports = free_ports(4)
        members = servers.credentials / "members"
        environment = {
            **os.environ,
            **compose["services"]["daemon-0"]["environment"],
            # The folders and the ports of this test in place of the containers' ones.
            "TRACKD__DAEMON__STATE_DIR": str(tmp_path / "state"),
            "TRACKD__DAEMON__FLEET__TLS_CA": str(members / "servers-ca.pem"),
            "TRACKD__DAEMON__FLEET__TLS_CERT": str(members / "daemon-0.crt"),
            "TRACKD__DAEMON__FLEET__TLS_KEY": str(members / "daemon-0.key"),
            "TRACKD__DAEMON__FLEET__SERVERS": str([f"tls://127.0.0.1:{port}" for port in servers.ports]),
            "TRACKD__DAEMON__HTTP": f"127.0.0.1:{ports[3]}",
            **{
                f"TRACKD__DAEMON__ENDPOINTS__{name}": f"tcp://127.0.0.1:{port}"
                for name, port in zip(("INGEST", "TRACKS", "CONTROL"), ports[:3], strict=True)
            },
        }
        daemon = subprocess.Popen(
            [sys.executable, "-c", "from trackd.cli import main; main()", "serve", "-v"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{ports[3]}/readyz"), 60, "the daemon has joined")
            daemon.send_signal(signal.SIGTERM)
            output, _ = daemon.communicate(timeout=30)
        finally:
            daemon.kill()
            daemon.wait(10)
        assert daemon.returncode == 0, output
        assert "member=daemon-0: it has joined the fleet" in output
