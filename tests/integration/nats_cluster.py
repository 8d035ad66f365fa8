"""A cluster of real NATS servers on loopback, whose servers can be killed and started again; and a link to cut."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from daemon_process import fixed_ports, wait_until
from nats_program import ABSENT, NATS_SERVER, monitored
from tcp_proxy import TcpProxy

from trackd.commands.demo.nats_servers import NatsServers
from trackd.fleet.store import AwayError


class NatsCluster(NatsServers):
    """The servers write every message to the disk before they acknowledge it."""

    def __init__(self, n: int = 3) -> None:
        if NATS_SERVER is None:
            pytest.skip(ABSENT)
        self._folder = tempfile.TemporaryDirectory(prefix="trackd-nats-", ignore_cleanup_errors=True)
        ports = [int(text.rpartition(":")[2]) for _ in range(n) for text in fixed_ports()]
        super().__init__(Path(self._folder.name), n, ports)

    def kill(self, number: int) -> None:
        """End a server at once."""
        self._processes[number].send_signal(signal.SIGKILL)
        self._processes[number].wait(10)

    def start(self, number: int) -> None:
        """Start a server again, with its files and ports."""
        self._processes[number] = self._started(number)

    def leader(self, stream: str) -> int:
        """Return which server leads a JetStream stream now."""
        found: list[int] = []

        def look() -> bool:
            for monitor in self.monitors:
                for account in monitored(f"{monitor}/jsz?streams=true").get("account_details", []):
                    for each in account.get("stream_detail", []):
                        name = each.get("cluster", {}).get("leader", "")
                        if each["name"] == stream and name:
                            found.append(int(name.removeprefix("n")))
                            return True
            return False

        wait_until(look, 20, f"{stream} has a leader")
        return found[-1]

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()


class CutLink:
    """A link to one server, for a member, which can be cut and healed."""

    def __init__(self, url: str) -> None:
        self._proxy = TcpProxy(url.replace("nats://", "tcp://"))
        self.url = self._proxy.address.replace("tcp://", "nats://")

    def cut(self) -> None:
        self._proxy.refusing = True
        self._proxy.cut()

    def heal(self) -> None:
        self._proxy.refusing = False

    def __enter__(self) -> CutLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.close()


async def until_done(call: Any, *args: Any, within_s: float = 30.0) -> Any:
    """Call a method until it is not refused with `AwayError`."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call(*args)
        except AwayError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
