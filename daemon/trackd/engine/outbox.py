"""The hand-over back to the IO thread: outcomes in order, and a file descriptor that a poller can wait for."""

from __future__ import annotations

import contextlib
import socket
from collections import deque

from trackd.engine.outcome import Outcome


class Outbox:
    """A queue with a file descriptor; any thread puts, one thread takes.

    It has no bound of its own: its frames are counted by the inbox, whose queues are bounded by credit.
    """

    def __init__(self) -> None:
        self._taking = False  # the IO thread checks the queue before it polls again, so no wake-up is needed
        self._outcomes: deque[tuple[list[Outcome], int | None]] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the file descriptor to poll for reading."""
        return self._reader.fileno()

    def __bool__(self) -> bool:
        """Whether it holds outcomes."""
        return bool(self._outcomes)

    def put(self, outcomes: list[Outcome], stored_ns: int | None = None) -> None:
        """Add a step's outcomes, journaled at `stored_ns` (monotonic); None without a journal."""
        self._outcomes.append((outcomes, stored_ns))
        if not self._taking:
            self.wake()

    def begin_take(self, signalled: bool) -> None:
        """Start a turn of the IO thread: until `may_sleep`, `put` does not wake it.

        Args:
            signalled: the poll reported the file descriptor as readable.
        """
        self._taking = True
        if signalled:
            with contextlib.suppress(BlockingIOError):
                while len(self._reader.recv(4096)) == 4096:
                    pass

    def may_sleep(self) -> bool:
        """End the turn of the IO thread; returns whether the queue is empty, so that it may wait in its poll."""
        self._taking = False  # before the check: a later `put` wakes the IO thread
        return not self._outcomes

    def wake(self) -> None:
        """Wake the IO thread."""
        with contextlib.suppress(OSError):  # the socket is full, so it is readable already; or it is closed
            self._writer.send(b"\0")

    def take(self) -> list[tuple[Outcome, int | None]]:
        """Remove and return all outcomes, oldest first."""
        taken: list[tuple[Outcome, int | None]] = []
        while self._outcomes:
            outcomes, stored_ns = self._outcomes.popleft()
            for outcome in outcomes:
                taken.append((outcome, stored_ns))  # noqa: PERF401 (a comprehension costs a call for each step)
        return taken

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()
