"""The daemon's health: the answers of `/healthz` and `/readyz`, and the condition for feeding systemd's watchdog."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.outputs.thread import OutputsThread
from trackd.store.journal import OutcomeLog


@dataclass(slots=True)
class Health:
    """Derives the health from the times at which the threads last ran.

    Attributes:
        last_io_ns: when the IO thread last ran, monotonic; it writes this itself.
        bound: the sockets are bound and all threads run.
        draining: a drain has begun.
        failure: why a thread ended; None while all run.
        long_step_s: a step that runs for longer hangs; None: no step does.
    """

    engine: Engine
    inbox: Inbox
    stall_s: float
    journal: OutcomeLog | None = None
    outputs: OutputsThread | None = None
    clock: Callable[[], int] = time.monotonic_ns
    last_io_ns: int = field(default_factory=time.monotonic_ns)
    bound: bool = False
    draining: bool = False
    failure: str | None = None
    long_step_s: float | None = None

    def fault(self) -> str | None:
        """Return what is wrong with the process; None while it is healthy."""
        if self.failure is not None:
            return self.failure
        now = self.clock()
        waiting = self.inbox.waiting
        idle_s = (now - self.engine.standing_since_ns()) / 1e9
        # While nothing can be stored the engine has to wait, and a restart would not help. `/readyz` reports that.
        if waiting and idle_s > self.stall_s and self._can_store():
            return f"the engine has not stepped for {idle_s:.1f} s while {waiting} frames wait"
        long_s = self.engine.longest_step_ns() / 1e9
        if self.long_step_s is not None and long_s > self.long_step_s and self._can_store():
            return f"a long step has run for {long_s:.1f} s"
        # An inline step is counted above, and began after the IO thread was last seen.
        io_s = (now - max(self.last_io_ns, self.engine.inline_since_ns)) / 1e9
        if io_s > self.stall_s:
            return f"the IO thread has not run for {io_s:.1f} s"
        return None

    def silence(self) -> str | None:
        """Return which thread has not run for `stall_s`; None while both run.

        Stricter than `fault`: an engine without work has to run too.
        """
        if self.failure is not None:
            return self.failure
        now = self.clock()
        engine_s = (now - self.engine.standing_since_ns()) / 1e9
        if engine_s > self.stall_s and self._can_store():
            return f"the engine has not stepped for {self.stall_s:g} s"
        if (
            self.long_step_s is not None
            and self.engine.longest_step_ns() / 1e9 > self.long_step_s
            and self._can_store()
        ):
            return f"a long step has run for {self.long_step_s:g} s"
        if (now - self.last_io_ns) / 1e9 > self.stall_s:
            return f"the IO thread has not run for {self.stall_s:g} s"
        return None

    def _can_store(self) -> bool:
        return self.journal is None or self.journal.fault is None

    def summary(self) -> str:
        """Return the daemon's state in one line."""
        ledgers, _, _ = self.inbox.snapshot()
        queued = sum(ledger.queued for ledger in ledgers.values())
        return f"{self.unready() or 'ready'}; streams: {len(ledgers)}, frames that wait: {queued}"

    def storage_fault(self) -> str | None:
        """Return why the journal or an output cannot be written; None while they can, or where there are none."""
        fault = None if self.journal is None else self.journal.fault
        return fault if fault is not None or self.outputs is None else self.outputs.fault()

    def unready(self) -> str | None:
        """Return why clients should send no frames; None while the daemon accepts them."""
        if not self.bound:
            return "starting"
        if self.draining:
            return "draining"
        return self.storage_fault() or self.fault()
