"""A daemon in a process of its own, for the commands that start one."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_READY_S = 120.0  # the first start on a machine compiles the tracker
_DRAIN_S = 45.0


class DaemonProgram:
    """`trackd serve` on free loopback ports, in a process of its own; it is drained when the context ends.

    It is in a process group of its own: a Ctrl-C at the terminal ends this program, which then ends the daemon. So the
    daemon accepts frames until this program has closed its streams.

    Args:
        overrides: `a.b.c=value` texts; they win over the free ports.

    Attributes:
        addresses: `ingest`, `tracks`, `control` and, unless it is off, `http`.

    Raises:
        RuntimeError: the daemon did not become ready.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
        words = [word for override in [*free, "daemon.http=127.0.0.1:0", *overrides] for word in ("--set", override)]
        command = [sys.executable, "-m", "trackd.cli", "serve", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)
        try:
            self.addresses = self._read_addresses()
        except BaseException:
            self.stop()
            raise

    def _read_addresses(self) -> dict[str, str]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _READY_S)
        line = self._process.stdout.readline() if readable else ""
        if readable and not line:
            raise RuntimeError("the daemon ended before it was ready; its own line says why")
        if not line.startswith("ready "):
            raise RuntimeError(f"the daemon did not become ready within {_READY_S:.0f} s")
        return dict(word.split("=", 1) for word in line.split()[1:])

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self._process.kill()
        self._process.wait(_DRAIN_S)

    def stop(self) -> None:
        """Drain the daemon, and wait for its end."""
        with self._process:
            self._process.terminate()
            self._process.wait(_DRAIN_S)

    def __enter__(self) -> DaemonProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def running_daemon(overrides: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start a daemon as `DaemonProgram` does; yield its addresses."""
    with DaemonProgram(overrides) as daemon:
        yield daemon.addresses
