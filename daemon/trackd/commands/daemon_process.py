"""A daemon in a process of its own, for the commands that start one."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_READY_S = 120.0  # the first start on a machine compiles the tracker
_DRAIN_S = 45.0


@contextmanager
def running_daemon(overrides: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start `trackd serve` on free loopback ports; drain it when the context ends.

    It is in a process group of its own: a Ctrl-C at the terminal ends this program, which then ends the daemon. So the
    daemon accepts frames until this program has closed its streams.

    Args:
        overrides: `a.b.c=value` texts; they win over the free ports.

    Yields:
        the daemon's addresses: `ingest`, `tracks`, `control` and, unless it is off, `http`.

    Raises:
        RuntimeError: the daemon did not become ready.
    """
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    words = [word for override in [*free, "daemon.http=127.0.0.1:0", *overrides] for word in ("--set", override)]
    with subprocess.Popen(
        [sys.executable, "-m", "trackd.cli", "serve", *words], stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], _READY_S)
            line = process.stdout.readline() if readable else ""
            if readable and not line:
                raise RuntimeError("the daemon ended before it was ready; its own line says why")
            if not line.startswith("ready "):
                raise RuntimeError(f"the daemon did not become ready within {_READY_S:.0f} s")
            yield dict(word.split("=", 1) for word in line.split()[1:])
        finally:
            process.terminate()
            process.wait(_DRAIN_S)
