"""A daemon that is killed and started again at the same addresses, with the same state folder."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_READY_S = 120.0


class RestartedDaemon:
    """`trackd serve` in a process of its own; its sockets are files in the folder, so the addresses stay."""

    def __init__(self, folder: Path) -> None:
        self.addresses = {name: f"ipc://{folder}/{name}" for name in ("ingest", "tracks", "control")}
        endpoints = [f"daemon.endpoints.{name}={address}" for name, address in self.addresses.items()]
        self._overrides = [*endpoints, "daemon.http=null", f"daemon.state_dir={folder}/state"]
        self.killed_s = self.ready_s = 0.0  # monotonic
        self._process = self._started()

    def kill_and_start_again(self) -> None:
        """Kill the daemon without warning, wait until it is gone, and start the next one."""
        self.killed_s = time.monotonic()
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        self._process = self._started()
        self.ready_s = time.monotonic()

    def _started(self) -> subprocess.Popen[str]:
        words = [word for override in self._overrides for word in ("--set", override)]
        process = subprocess.Popen(
            [sys.executable, "-m", "trackd.cli", "serve", *words], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _READY_S)
        line = process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            process.kill()
            raise RuntimeError(f"the daemon did not become ready; it wrote {line!r}")
        return process

    def __enter__(self) -> RestartedDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=45)
