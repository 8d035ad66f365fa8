"""Whether the daemon lives and works: what `/healthz` and `/readyz` tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.store.journal import Journal


@dataclass(slots=True)
class Health:
    """Reads the parts' own signs of life; nothing here is set by hand but `draining` and `failure`."""

    engine: Engine
    inbox: Inbox
    stall_s: float
    journal: Journal[Any] | None = None
    clock: Callable[[], int] = time.monotonic_ns
    last_io_ns: int = field(default_factory=time.monotonic_ns)
    bound: bool = False
    draining: bool = False
    failure: str | None = None

    def fault(self) -> str | None:
        """What is wrong with the process; None while it is healthy."""
        if self.failure is not None:
            return self.failure
        now = self.clock()
        waiting = self.inbox.waiting
        idle_s = (now - self.engine.last_step_ns) / 1e9
        if waiting and idle_s > self.stall_s:
            return f"the engine has not stepped for {idle_s:.1f} s while {waiting} frames wait"
        io_s = (now - self.last_io_ns) / 1e9
        if io_s > self.stall_s:
            return f"the IO thread has not turned for {io_s:.1f} s"
        return None

    def storage_fault(self) -> str | None:
        """Why nothing can be stored; None while it can, or where nothing is."""
        return None if self.journal is None else self.journal.fault

    def unready(self) -> str | None:
        """Why no new frame should be sent; None while the daemon takes them."""
        if not self.bound:
            return "starting"
        if self.draining:
            return "draining"
        return self.storage_fault() or self.fault()
