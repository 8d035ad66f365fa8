"""`trackd serve`: a daemon, its ready line, its signal handlers, and its notifications to systemd."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from trackd.config import Config
from trackd.daemon import Daemon
from trackd.observe.systemd import Systemd

logger = logging.getLogger(__name__)

_POLL_S = 0.5  # the interpreter runs signal handlers between two polls


def serve(config: Config, base: Path | None = None) -> int:
    """Run a daemon until it is drained, or one of its threads dies.

    The first SIGTERM or SIGINT drains the daemon, a second one ends the process at once.

    Args:
        config: the configuration.
        base: the folder of the configuration's file, for relative paths.

    Returns:
        The exit code: 0 after a drain, 1 where an output file could not be finished. The process itself is ended where
        a thread died: with 3 where the device of the checkpoints is lost, else with 1.

    Raises:
        ConfigError: the daemon cannot be started with this configuration.
    """
    daemon = Daemon(config, base=base)
    systemd = Systemd(daemon.health, os.environ)
    signals = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(1)
        daemon.drain()
        systemd.stopping()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    # The objects that exist now are kept for the process's life. Freezing them shortens each garbage collection, which
    # stops all threads.
    gc.collect()
    gc.freeze()
    daemon.start()
    if daemon.health.failure is None:
        ready = " ".join(f"{name}={address}" for name, address in daemon.addresses.items())
        sys.stdout.write(f"ready {ready}\n")
        sys.stdout.flush()
        systemd.ready()
    if systemd.listens:
        threading.Thread(target=systemd.run, args=(daemon.wait,), name="systemd", daemon=True).start()
    while not daemon.wait(_POLL_S):
        pass
    systemd.stopping()
    failure = daemon.close()
    if failure is None:
        for path in daemon.unfinished:
            sys.stderr.write(f"trackd: {path} could not be finished; the log names the reason\n")
        return 1 if daemon.unfinished else 0
    sys.stderr.write(f"trackd: {failure}\n")
    sys.stderr.flush()
    # A normal exit would wait forever for a thread that hangs.
    os._exit(daemon.exit_code)
