"""Three NATS servers with the files of deploy/fleet, on free ports of loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from nats_program import NATS_SERVER, monitored

DEPLOY = Path(__file__).parents[2] / "deploy/fleet"
FLEET = "plant"
MEMBERS = ("daemon-0", "daemon-1")
SIZE = 3


def make_credentials(folder: Path, members: tuple[str, ...], servers: str = "127.0.0.1 localhost") -> None:
    """Call the script of deploy/fleet as its comment says."""
    subprocess.run(
        [str(DEPLOY / "make_credentials.sh"), str(folder), FLEET, servers, " ".join(members)], check=True, timeout=60
    )


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class DeployedServers:
    """Starts the servers in `with`, and ends them after it.

    Args:
        folder: an empty folder for credentials, configurations and stores.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.credentials = folder / "credentials"
        make_credentials(self.credentials, MEMBERS)
        ports = free_ports(3 * SIZE)
        self.ports, self.route_ports, self.http_ports = ports[:SIZE], ports[SIZE : 2 * SIZE], ports[2 * SIZE :]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for index in range(SIZE):
            self.configure(index)

    def configure(self, index: int) -> None:
        """Write a server's folder: the files of deploy/fleet, with free ports in place of theirs."""
        place = self.place(index)
        shutil.copytree(self.credentials / "server", place / "fleet", dirs_exist_ok=True)
        text = (DEPLOY / "nats.conf").read_text()
        text = text.replace("0.0.0.0:4222", f"127.0.0.1:{self.ports[index]}")
        (place / "nats.conf").write_text(text.replace("0.0.0.0:6222", f"127.0.0.1:{self.route_ports[index]}"))
        routes = place / "fleet/routes.conf"
        urls = ", ".join(f'"tls://127.0.0.1:{port}"' for port in self.route_ports)
        routes.write_text(re.sub(r"\[.*\]", f"[{urls}]", routes.read_text(), flags=re.DOTALL))

    def place(self, index: int) -> Path:
        return self.folder / f"nats-{index}"

    def command(self, index: int, *options: str) -> tuple[list[str], dict[str, str]]:
        """Return the command of a server, to be run in its folder, and its environment."""
        assert NATS_SERVER is not None
        environment = {
            **os.environ,
            "NATS_NAME": f"nats-{index}",
            "NATS_STORE": str(self.place(index) / "store"),
            "NATS_MONITORING": f"127.0.0.1:{self.http_ports[index]}",
        }
        return [NATS_SERVER, "-c", "nats.conf", *options], environment

    def start(self, index: int) -> None:
        command, environment = self.command(index)
        with (self.place(index) / "log").open("ab") as log:
            self._processes[index] = subprocess.Popen(
                command, env=environment, cwd=self.place(index), stdout=log, stderr=log
            )

    def send(self, index: int, number: signal.Signals) -> None:
        self._processes[index].send_signal(number)

    def stop(self, index: int, number: signal.Signals = signal.SIGTERM) -> None:
        process = self._processes.pop(index)
        process.send_signal(number)
        process.wait(20)

    def __enter__(self) -> DeployedServers:
        for index in range(SIZE):
            self.start(index)
        try:
            self.wait_until_ready(range(SIZE))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(10)
        self._processes.clear()

    def wait_until_ready(self, indices: Any, seconds: float = 30) -> None:
        """Wait until /healthz of each server says that its streams are current."""
        deadline = time.monotonic() + seconds
        for index in indices:
            while self.get(index, "healthz").get("status") != "ok":
                if time.monotonic() > deadline or self._processes[index].poll() is not None:
                    raise AssertionError((self.place(index) / "log").read_text()[-2000:])
                time.sleep(0.1)

    def get(self, index: int, path: str) -> dict[str, Any]:
        """Return what the monitoring of a server says; empty where it does not answer."""
        return monitored(f"http://127.0.0.1:{self.http_ports[index]}/{path}")

    def options(self, certificate: Path | None, index: int | None = None) -> dict[str, Any]:
        """Return the arguments of `nats.connect` with a certificate and the key beside it.

        Args:
            certificate: None: without one.
            index: of the only server to connect to; None: all.
        """
        context = ssl.create_default_context(cafile=str(self.credentials / "server/servers-ca.pem"))
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        ports = self.ports if index is None else [self.ports[index]]
        return {
            "servers": [f"tls://127.0.0.1:{port}" for port in ports],
            "tls": context,
            "connect_timeout": 3,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
        }

    def member(self, name: str) -> Path:
        return self.credentials / f"members/{name}.crt"
