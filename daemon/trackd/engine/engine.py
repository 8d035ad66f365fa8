"""The engine: which thread runs a step, and when.

What happens in a step is in step.py; which lane a stream waits in, in inbox.py and step_cost.py.

- The IO thread runs short steps itself, inline: for a short step the hand-over to another thread and back takes longer
  than the step, and two Python threads compete for the interpreter.
- The engine thread runs commands, and the frames of checkpoints and with encoded images, of all ready streams together.
- The lane threads run long steps, each that of one stream: no other stream waits for it.

Steps of different streams run at the same time. A stream's next step begins when the outcomes of its last one have been
handed on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trackd.config import StreamSettings
from trackd.engine.inbox import Inbox, Work
from trackd.engine.outcome import Outcome
from trackd.engine.queue import StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.step_cost import LIGHT_NS, LIGHT_SIZE
from trackd.engine.stream_state import StreamState
from trackd.store.records import Record
from trackd_client.protocol import ErrorCode, ProtocolError

LANES = 2  # threads for long steps: one stream cannot keep all others with long steps from theirs
_IDLE_S = 0.25  # without work, a thread shows that it is alive after so long
_GATHER_NS = 1_000_000  # short steps that follow one another within this time are handed on together
_SURPRISE_NS = 2 * LIGHT_NS  # an inline step that takes longer was not known to be long
_PENALTY = 500  # after such a step only small ones run inline, for so many times as long


class Engine:
    """Takes work from the inbox until the inbox is stopped and empty.

    Args:
        inbox: where frames and commands wait.
        deliver: receives a step's outcomes, in order; may block while it has no room.
        journaling: whether outcomes have the records that must be stored before they are published.
        has_room: whether `deliver` would not block; None: it never blocks.
        deliver_inline: receives the outcomes of inline steps; `deliver` by default.
        wake_inline: called when another thread has left short steps for the IO thread.
        on_long_step: called with the seconds of each long step, on its thread.
        clock: monotonic ns.
        keeps_looks: whether settlements have what was learnt of animals, to be kept for a restart.
    """

    def __init__(
        self,
        inbox: Inbox,
        deliver: Callable[[list[Outcome]], None],
        journaling: bool = False,
        has_room: Callable[[], bool] | None = None,
        deliver_inline: Callable[[list[Outcome]], None] | None = None,
        wake_inline: Callable[[], None] = lambda: None,
        on_long_step: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], int] = time.monotonic_ns,
        keeps_looks: bool = False,
    ) -> None:
        self._keeps_looks = keeps_looks
        self._inbox = inbox
        self._deliver = deliver
        self._has_room = has_room
        self._deliver_inline = deliver_inline or deliver
        self._wake_inline = wake_inline
        self._on_long_step = on_long_step
        self._clock = clock
        self._runner = StepRunner(inbox, journaling, clock)
        self.inline_since_ns = 0  # when the inline step that runs now began; 0 while none runs
        self._long_since_ns: dict[int, int] = {}  # by thread, when the long step that runs now began
        self.last_step_ns = clock()

    def run(self) -> None:
        """Run the engine thread."""
        while not self._inbox.over:
            called = self._inbox.wait(_IDLE_S)
            self.step(self._inbox.take()[0] if called else [])
            while called and self._inbox.ready_shared:
                self.step(self._inbox.take()[0])

    def step(self, work: list[Work]) -> None:
        """Run one step on the engine thread; without work only note that the thread is alive."""
        if work:
            self._deliver(self._runner.run(work))
            self._release(work)
        self.last_step_ns = self._clock()

    def run_lane(self) -> None:
        """Run a lane thread."""
        thread = threading.get_ident()
        while not self._inbox.over:
            work = self._inbox.take_long(_IDLE_S)
            if not work:
                continue
            began_ns = self._long_since_ns[thread] = self._clock()
            outcomes = self._runner.run(work, cuts=True)
            self._on_long_step((self._clock() - began_ns) / 1e9)
            self._deliver(outcomes)
            del self._long_since_ns[thread]
            self._release(work)

    def _release(self, work: list[Work]) -> None:
        self._inbox.release(work)
        if self._inbox.ready_inline:
            self._wake_inline()

    def step_inline(self) -> bool:
        """Run the next short steps on the calling thread; returns whether there was one.

        Further short steps of their streams that already wait follow, up to `_GATHER_NS` and `LIGHT_SIZE` instances in
        total: storing and publishing one step costs as much as storing and publishing several.
        """
        if self._has_room is not None and not self._has_room():
            return False
        taken, size = self._inbox.take_inline()
        if not taken:
            return False
        began_ns = self.inline_since_ns = self._clock()
        outcomes = self._runner.run(taken)
        room = LIGHT_SIZE - size
        now_ns = self._clock()
        until_ns = now_ns + _GATHER_NS
        if now_ns - began_ns > _SURPRISE_NS:
            self._inbox.keep_small(_PENALTY * (now_ns - began_ns))
        while room > 0:
            for queue, _ in taken:
                if queue.pending:
                    break
            else:
                break
            work, size = self._inbox.take_more(taken, room)
            if not work:
                break
            room -= size
            outcomes += self._runner.run(work)
            if self._clock() >= until_ns:
                break
        self._deliver_inline(outcomes)
        self._inbox.release(taken)
        self.inline_since_ns = 0
        return True

    # --- whether the threads are alive ---

    def standing_since_ns(self) -> int:
        """Return when the engine thread, or the inline step that runs now, last made progress; monotonic."""
        return min(self.last_step_ns, self.inline_since_ns or self.last_step_ns)

    def longest_step_ns(self) -> int:
        """Return how long the oldest of the long steps that run now has run; 0 while none runs."""
        began = list(self._long_since_ns.values())
        return self._clock() - min(began) if began else 0

    # --- stream life; commands call these, so they run on the engine thread ---

    def open(self, queue: StreamQueue, state: StreamState) -> None:
        """Add a stream."""
        self._runner.streams[queue] = state
        state.keeps_looks = self._keeps_looks
        queue.cost.use(state.scorer, state.settings, state.limits.step_ms)

    def state(self, queue: StreamQueue) -> StreamState:
        """Return a stream's state.

        Raises:
            ProtocolError: its opening failed.
        """
        if queue not in self._runner.streams:
            raise ProtocolError(ErrorCode.UNKNOWN_STREAM, f"stream {queue.stream!r} was not opened")
        return self._runner.streams[queue]

    def configure(self, queue: StreamQueue, settings: StreamSettings) -> StreamState:
        """Use other settings from the next frame on; return the stream's state.

        Raises:
            ProtocolError: as `state`.
        """
        state = self.state(queue)
        state.configure(settings)
        queue.cost.use(state.scorer, settings, state.limits.step_ms)
        return state

    def close(self, queue: StreamQueue) -> None:
        """Remove a stream's state."""
        self._runner.streams.pop(queue, None)

    def record(self, make: Callable[[], Record]) -> None:
        """Store something before the running command's result is published; made only with a journal."""
        self._runner.record(make)
