"""The engine: whose turn it is, which thread runs the step, and how much runs at once.

What happens in a step is in step.py. Steps are the work of the engine thread. For a short step the hand-over to that
thread and back takes longer than the step itself, and two Python threads compete for the interpreter; so the IO thread
runs short steps itself, inline, when it has nothing else to do. Only one step runs at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trackd.engine.inbox import LIGHT_SIZE, Inbox, Work
from trackd.engine.outcome import Outcome
from trackd.engine.queue import StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.stream_state import StreamState
from trackd.store.records import Record
from trackd_client.protocol import ErrorCode, ProtocolError

_IDLE_S = 0.25  # without work, the engine thread shows that it is alive after so long
_GATHER_NS = 1_000_000  # short steps that follow one another within this time are handed on together


class Engine:
    """Takes work from the inbox until the inbox is stopped and empty.

    Args:
        inbox: where frames and commands wait.
        deliver: receives a step's outcomes, in order; may block while it has no room.
        journaling: whether outcomes have the records that must be stored before they are published.
        has_room: whether `deliver` would not block; None: it never blocks.
        deliver_inline: receives the outcomes of inline steps; `deliver` by default.
        clock: monotonic ns.
    """

    def __init__(
        self,
        inbox: Inbox,
        deliver: Callable[[list[Outcome]], None],
        journaling: bool = False,
        has_room: Callable[[], bool] | None = None,
        deliver_inline: Callable[[list[Outcome]], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._inbox = inbox
        self._deliver = deliver
        self._has_room = has_room
        self._deliver_inline = deliver_inline or deliver
        self._stepping = threading.Lock()
        self._clock = clock
        self._runner = StepRunner(inbox, journaling, clock)
        self.last_step_ns = clock()

    def run(self) -> None:
        """Run the engine thread."""
        while not self._inbox.over:
            called = self._inbox.wait(_IDLE_S)
            with self._stepping:
                self.step(self._inbox.take()[0] if called else [])
                while self._inbox.size() > LIGHT_SIZE:  # the IO thread, which was just woken, runs shorter ones
                    self.step(self._inbox.take()[0])

    def step(self, work: list[Work]) -> None:
        """Run one step on the engine thread; without work only note that the thread is alive."""
        if work:
            self._deliver(self._runner.run(work))
            self._inbox.finished()
        self.last_step_ns = self._clock()

    def step_inline(self) -> bool:
        """Run the next step on the calling thread if it is short and no other runs; returns whether it ran.

        Further short steps that already wait follow, up to `_GATHER_NS` and `LIGHT_SIZE` instances in total: storing
        and publishing one step costs as much as storing and publishing several.
        """
        if (self._has_room is not None and not self._has_room()) or not self._stepping.acquire(blocking=False):
            return False
        try:
            work, size = self._inbox.take(LIGHT_SIZE)
            if not work:
                return False
            outcomes = self._runner.run(work)
            room = LIGHT_SIZE - size
            until_ns = self._clock() + _GATHER_NS
            while room > 0 and self._inbox.ready:
                work, size = self._inbox.take(room)
                if size > room:
                    break
                room -= size
                outcomes += self._runner.run(work)
                if self._clock() >= until_ns:
                    break
            self._deliver_inline(outcomes)
            self._inbox.finished()
            self.last_step_ns = self._clock()
            return True
        finally:
            self._stepping.release()

    # --- stream life; commands call these, so they run on the engine thread ---

    def open(self, queue: StreamQueue, state: StreamState) -> None:
        """Add a stream."""
        self._runner.streams[queue] = state
        queue.is_light = state.scorer.is_light

    def state(self, queue: StreamQueue) -> StreamState:
        """Return a stream's state.

        Raises:
            ProtocolError: its opening failed.
        """
        if queue not in self._runner.streams:
            raise ProtocolError(ErrorCode.UNKNOWN_STREAM, f"stream {queue.stream!r} was not opened")
        return self._runner.streams[queue]

    def close(self, queue: StreamQueue) -> None:
        """Remove a stream's state."""
        queue.is_light = False
        self._runner.streams.pop(queue, None)

    def record(self, make: Callable[[], Record]) -> None:
        """Store something before the running command's result is published; made only with a journal."""
        self._runner.record(make)
