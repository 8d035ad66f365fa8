"""A real `trackd serve` in a process of its own, on free ports of loopback."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

READY_S = 60.0  # the first start on a machine compiles the tracker


def fixed_ports() -> list[str]:
    """Overrides with endpoints that stay, so that a daemon started again is where its clients look for it."""
    found = []
    with ExitStack() as held:  # all at once, or one could be given twice
        for name in ("ingest", "tracks", "control"):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(f"daemon.endpoints.{name}=tcp://127.0.0.1:{probe.getsockname()[1]}")
    return found


class DaemonProcess:
    """Starts the daemon, waits for its ready line, and ends it by its pid."""

    def __init__(self, *overrides: str, config: Path | None = None, env: dict[str, str] | None = None) -> None:
        free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
        command = [sys.executable, "-m", "trackd.cli", "serve"]
        if config is not None:
            command.append(str(config))
        for override in [*free, "daemon.http=127.0.0.1:0", *overrides]:
            command += ["--set", override]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        self.addresses = self._wait_until_ready()

    def _wait_until_ready(self) -> dict[str, str]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_S)
        line = self.process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            self.process.kill()
            _, stderr = self.process.communicate(timeout=5)
            raise AssertionError(f"no ready line; got {line!r} and {stderr}")
        return dict(word.split("=", 1) for word in line.split()[1:])

    def __getattr__(self, name: str) -> str:
        try:
            return self.__dict__["addresses"][name]
        except KeyError:
            raise AttributeError(name) from None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an HTTP request."""
        try:
            with urllib.request.urlopen(self.addresses["http"] + path, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """All samples of a scrape, by name and labels as they are printed."""
        _, text = self.get("/metrics")
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> tuple[int, str]:
        """End it; returns its exit code and what it wrote on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, stderr

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate(timeout=5)


def wait_until(condition, timeout_s: float = 5.0, what: str = "the condition") -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.01)
