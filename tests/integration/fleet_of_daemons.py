"""Real members of a fleet in processes of their own, over a real NATS cluster."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon_process import DaemonProcess, fixed_ports, wait_until

from trackd_client import Client, TrackdError


class FleetMember:
    """One member: it is started again on the same ports and under the same name."""

    def __init__(self, name: str, servers: Sequence[str], out_dir: Path, overrides: Sequence[str] = ()) -> None:
        self.name = name
        self.overrides = [
            *fixed_ports(), f"daemon.fleet.servers={json.dumps(list(servers))}", "daemon.fleet.name=test",
            f"daemon.fleet.member={name}", f"out_dir={out_dir / name}", *overrides,
        ]  # fmt: skip
        named = (text.removeprefix("daemon.endpoints.") for text in self.overrides if "daemon.endpoints" in text)
        self.at = dict(text.split("=", 1) for text in named)
        self.daemon: DaemonProcess | None = None

    def start(self, **env: str) -> FleetMember:
        self.daemon = DaemonProcess(*self.overrides, env=env)
        return self

    @property
    def process(self) -> DaemonProcess:
        assert self.daemon is not None
        return self.daemon

    def kill(self) -> None:
        """End the process at once, as a power cut does."""
        self.process.process.kill()
        self.process.process.communicate(timeout=10)

    def freeze(self) -> None:
        """Stop the process where it is."""
        self.process.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a stopped process go on."""
        self.process.process.send_signal(signal.SIGCONT)

    def ask(self, method: str, **params: Any) -> Any:
        with Client(control=self.at["control"], timeout_s=5) as client:
            return client.request(method, **params)

    def is_ready(self) -> bool:
        return self.process.get("/readyz")[0] == 200

    def end(self) -> None:
        if self.daemon is not None and self.daemon.process.poll() is None:
            self.thaw()
            self.daemon.process.kill()
            self.daemon.process.communicate(timeout=10)


class FleetOfDaemons:
    """Several members; `with` starts them and ends them."""

    def __init__(self, servers: Sequence[str], out_dir: Path, n: int = 3, overrides: Sequence[str] = ()) -> None:
        self.members = [FleetMember(f"m{number}", servers, out_dir, overrides) for number in range(n)]

    def __enter__(self) -> FleetOfDaemons:
        for member in self.members:
            member.start()
        for member in self.members:
            wait_until(member.is_ready, 30, f"{member.name} is ready")
        wait_until(lambda: len(self.members[0].ask("fleet.status")["members"]) == len(self.members), 10)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.end()

    def controls(self) -> list[str]:
        """The control endpoints, for a `FleetClient`."""
        return [member.at["control"] for member in self.members]

    def owner(self, stream: str) -> FleetMember | None:
        """Return the member that owns a stream, as a living member says."""
        for member in self.members:
            try:
                found = member.ask("locate", stream=stream)
            except TrackdError:
                continue
            if found["owned"]:
                return next(each for each in self.members if each.name == found["member"])
        return None
