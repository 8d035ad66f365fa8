"""A real `trackd serve` in a separate process, on free ports of loopback."""

from __future__ import annotations

import fcntl
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import BinaryIO

READY_S = 60.0  # the first start on a machine compiles the tracker
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_reserved: set[int] = set()  # by this process


def fixed_ports() -> list[str]:
    """Return overrides with fixed endpoints, so that clients reconnect to a daemon that is started again.

    The ports lie outside the range from which the kernel chooses ports itself, and no test of any process gets one of
    them again. Otherwise another daemon could get a port while the one that owns it is down.
    """
    first, last = 32768, 60999
    if _PORT_RANGE.exists():
        first, last = map(int, _PORT_RANGE.read_text().split())
    ports = [port for port in range(10_000, 65_000) if not first <= port <= last] or list(range(first, last + 1))
    found: list[str] = []
    for name in ("ingest", "tracks", "control"):
        port = random.SystemRandom().choice(ports)
        while not _reserve(port):
            port = random.SystemRandom().choice(ports)
        found.append(f"daemon.endpoints.{name}=tcp://127.0.0.1:{port}")
    return found


def _reserve(port: int) -> bool:
    """Reserve a port until this process ends: a lock on one byte of a file that all test processes share."""
    if port in _reserved:
        return False
    try:
        fcntl.lockf(_port_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:  # another process has it
        return False
    _reserved.add(port)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:  # in use by a program that is no test
            return False
    return True


@cache
def _port_locks() -> BinaryIO:
    return (Path(tempfile.gettempdir()) / f"trackd-test-ports-{os.getuid()}").open("ab")  # never closed


def serve_command(*overrides: str, config: Path | None = None) -> list[str]:
    """Return the command of a daemon on free ports, unless the overrides (`key=value`) name others."""
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    command = [sys.executable, "-m", "trackd.cli", "serve"]
    if config is not None:
        command.append(str(config))
    for override in [*free, "daemon.http=127.0.0.1:0", *overrides]:
        command += ["--set", override]
    return command


class DaemonProcess:
    """Starts the daemon, waits for its ready line, and ends it by its pid.

    Args:
        overrides: of the configuration, `key=value`.
        config: the configuration file.
        env: further environment variables.
        may_be_killed: accept a daemon that is killed before its ready line; it has no addresses then.
    """

    def __init__(
        self,
        *overrides: str,
        config: Path | None = None,
        env: dict[str, str] | None = None,
        may_be_killed: bool = False,
    ) -> None:
        self.process = subprocess.Popen(
            serve_command(*overrides, config=config),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
        self.addresses = self._wait_until_ready(may_be_killed)

    def _wait_until_ready(self, may_be_killed: bool = False) -> dict[str, str]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_S)
        line = self.process.stdout.readline() if readable else ""
        if may_be_killed and readable and not line and self.process.wait(10) == -signal.SIGKILL:
            return {}
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
        """Return status and body of an HTTP request."""
        try:
            with urllib.request.urlopen(self.addresses["http"] + path, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Return all samples of a scrape, by name and labels as in its text."""
        _, text = self.get("/metrics")
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> tuple[int, str]:
        """End the daemon; return its exit code and its stderr."""
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
    """Poll until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
