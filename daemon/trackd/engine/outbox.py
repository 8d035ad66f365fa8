"""The hand-over back to the IO thread: outcomes in order, with a wake-up that a poller can see."""

from __future__ import annotations

import contextlib
import socket
from collections import deque

from trackd.engine.outcome import Outcome


class Outbox:
    """A queue with a file descriptor; any thread puts, one thread takes.

    It needs no bound of its own: what is in it was counted by the inbox, whose queues are bounded by credit.
    """

    def __init__(self) -> None:
        self._taking = False  # the taker will look before it waits: nobody needs to wake it
        self._outcomes: deque[tuple[list[Outcome], int | None]] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._reader.fileno()

    def __bool__(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._outcomes)

    def put(self, outcomes: list[Outcome], stored_ns: int | None = None) -> None:
        """Hand a step's outcomes over; `stored_ns` (monotonic) is when they were journaled, if they were."""
        self._outcomes.append((outcomes, stored_ns))
        if not self._taking:
            self.wake()

    def begin_take(self, signalled: bool) -> None:
        """The taker is at it, until it says `may_sleep`; `signalled`: the file descriptor was readable."""
        self._taking = True
        if signalled:
            with contextlib.suppress(BlockingIOError):
                while len(self._reader.recv(4096)) == 4096:
                    pass

    def may_sleep(self) -> bool:
        """The taker is about to wait, if this is true: nothing has come that it has not taken."""
        self._taking = False  # before it looks: what comes from now on wakes it
        return not self._outcomes

    def wake(self) -> None:
        """Wake the taker."""
        with contextlib.suppress(OSError):  # the pipe is full: it is awake already; or closed: nobody is there
            self._writer.send(b"\0")

    def take(self) -> list[tuple[Outcome, int | None]]:
        """All that has come since the last call, oldest first."""
        taken: list[tuple[Outcome, int | None]] = []
        while self._outcomes:
            outcomes, stored_ns = self._outcomes.popleft()
            taken.extend((outcome, stored_ns) for outcome in outcomes)
        return taken

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()
