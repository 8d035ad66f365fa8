"""The engine: it owns all stream state and gives every frame its track ids.

A step reads top to bottom: take the next frames, one from each ready stream; prepare (instances); encode (features);
associate; settle. What the streams' scorers can do together they do together.

Steps are the work of the engine's thread. But to hand a short one over and back takes longer than the step itself, and
two threads of Python only take the interpreter from each other: so the IO thread, when it has nothing better to do,
does such steps itself (`step_inline`). There is one step at a time all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from trackd.engine.inbox import Inbox, Item, Work
from trackd.engine.outcome import CommandResult, Outcome, Settlement
from trackd.engine.pending import Pending, associate, encode
from trackd.engine.queue import Command, QueuedFrame, Skip, StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.store.records import FrameRecord, Record
from trackd_client.protocol import EncodedImage, ErrorCode, ProtocolError, Status

logger = logging.getLogger(__name__)

_IDLE_S = 0.25  # how often an engine without work says that it lives
_LIGHT = 1024  # instances of a step that the IO thread may do: a few milliseconds
_HEAVY = _LIGHT + 1
_GATHER_NS = 1_000_000  # for so long short steps follow one another before they are handed on together


class Engine:
    """Takes work from the inbox until that is stopped and empty.

    Args:
        inbox: where frames and commands wait.
        deliver: takes a step's outcomes, in order; may block while there is no room.
        journaling: whether outcomes bear the records that have to be stored before they are handed on.
        has_room: whether `deliver` would not block.
        deliver_inline: takes the outcomes of a step that was done on another thread; `deliver` by default.
        clock: monotonic ns.
    """

    def __init__(
        self,
        inbox: Inbox,
        deliver: Callable[[list[Outcome]], None],
        journaling: bool = False,
        has_room: Callable[[], bool] = lambda: True,
        deliver_inline: Callable[[list[Outcome]], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._inbox = inbox
        self._deliver = deliver
        self._journaling = journaling
        self._has_room = has_room
        self._deliver_lent = deliver_inline or deliver
        self._stepping = threading.Lock()
        self._records: list[Record] = []  # of the command that runs
        self._clock = clock
        self._streams: dict[StreamQueue, StreamState] = {}
        self.last_step_ns = clock()

    def run(self) -> None:
        """The thread's life."""
        while not self._inbox.over:
            called = self._inbox.wait(_IDLE_S)
            with self._stepping:
                self.step(self._inbox.take() if called else [])
                while not self._is_light():  # what is, is left to the IO thread, which has just been told
                    self.step(self._inbox.take())

    def step_inline(self) -> bool:
        """Do the next step on the calling thread, if it is short and nobody is at one; whether it was done."""
        if not self._has_room() or not self._stepping.acquire(blocking=False):
            return False
        try:
            size = self._inbox.size(self._size)
            return self.step(self._inbox.take() if size <= _LIGHT else [], self._deliver_lent, _LIGHT - size)
        finally:
            self._stepping.release()

    # --- stream life; called by commands, so on this thread ---

    def open(self, queue: StreamQueue, state: StreamState) -> None:
        """Take a stream up."""
        self._streams[queue] = state

    def state(self, queue: StreamQueue) -> StreamState:
        """A stream's state.

        Raises:
            ProtocolError: its opening failed.
        """
        if queue not in self._streams:
            raise ProtocolError(ErrorCode.UNKNOWN_STREAM, f"stream {queue.stream!r} was not opened")
        return self._streams[queue]

    def close(self, queue: StreamQueue) -> None:
        """Let a stream's state go."""
        self._streams.pop(queue, None)

    def record(self, make: Callable[[], Record]) -> None:
        """Have something stored before the running command's result is handed on; made only for a journal."""
        if self._journaling:
            self._records.append(make())

    # --- a step ---

    def step(self, work: list[Work], deliver: Callable[[list[Outcome]], None] | None = None, room: int = 0) -> bool:
        """All of one step, and of short ones that wait behind it; what fails in one stream ends there.

        Args:
            work: of the step.
            deliver: takes all outcomes; the engine's own by default.
            room: instances that the steps behind it may have.

        Returns:
            False where there is nothing to do.
        """
        if work:
            (deliver or self._deliver)(self._work(work) + self._backlog(room))
            self._inbox.finished()
        self.last_step_ns = self._clock()
        return bool(work)

    def _backlog(self, room: int) -> list[Outcome]:
        """More steps, if they fit and wait already: to store and publish one takes as long as several."""
        outcomes: list[Outcome] = []
        until_ns = self._clock() + _GATHER_NS
        while room > 0 and self._inbox.ready and (room := room - self._inbox.size(self._size)) >= 0:
            outcomes += self._work(self._inbox.take())
            if self._clock() >= until_ns:
                break
        return outcomes

    def _is_light(self) -> bool:
        return self._inbox.size(self._size) <= _LIGHT

    def _size(self, queue: StreamQueue, item: Item) -> int:
        """How much work something is, in instances; commands, checkpoints and encoded images are much."""
        if isinstance(item, Skip):
            return 0
        state = self._streams.get(queue)
        if isinstance(item, Command) or state is None or not state.scorer.is_light:
            return _HEAVY
        return _HEAVY if isinstance(item.frame.image, EncodedImage) else len(item.frame.detections)

    def _work(self, work: list[Work]) -> list[Outcome]:
        taken_ns = self._clock()
        outcomes: list[Outcome] = []
        pending: list[Pending] = []
        for queue, item in work:
            if isinstance(item, Command):
                outcomes.append(self._execute(item))
            elif isinstance(item, Skip):
                outcomes.append(self._settle_skip(queue, item, taken_ns))
            elif self._too_old(queue, item, taken_ns):
                skip = Skip(item.frame.head, Status.DROPPED, "deadline", item.received_ns)
                outcomes.append(self._settle_skip(queue, skip, taken_ns))
            else:
                try:
                    state = self._streams[queue]
                    pending.append(Pending(queue, item, state, state.prepare(item.frame)))
                except Exception as error:  # one bad frame never stops another stream
                    outcomes.append(self._settle_failure(queue, item, taken_ns, error))
        if pending:
            encode(pending)
            encoded_ns = self._clock()
            associate(pending)
            associated_ns = self._clock()
            for one in pending:
                try:
                    outcomes.append(self._settle(one, taken_ns, encoded_ns, associated_ns))
                except Exception as error:
                    outcomes.append(self._settle_failure(one.queue, one.item, taken_ns, error))
        return outcomes

    def _settle(self, one: Pending, taken_ns: int, encoded_ns: int, associated_ns: int) -> Settlement:
        if one.error is not None or one.assignment is None:
            raise one.error or RuntimeError("the step gave neither ids nor an error")
        state, frame, instances = one.state, one.item.frame, one.encoding.instances
        one.queue.active_tracks = state.n_live
        records: tuple[Record, ...] = ()
        if self._journaling:
            records = (state.frame_record(frame, instances, one.features, one.assignment),)
            if state.snapshot_due():
                records += (state.snapshot_record(frame.seq),)
        settlement = Settlement(
            one.queue, frame.head, state.epoch, Status.TRACKED, one.item.received_ns, taken_ns, encoded_ns,
            associated_ns, detections=frame.detections, instances=instances, assignment=one.assignment,
            records=records,
        )  # fmt: skip
        self._inbox.book(one.queue, frame.seq, Status.TRACKED, None, None)
        return settlement

    def _settle_skip(self, queue: StreamQueue, skip: Skip, taken_ns: int) -> Settlement:
        head, epoch = skip.head, self._streams[queue].epoch
        self._inbox.book(queue, head.seq, skip.status, skip.reason, skip.code)
        records: tuple[Record, ...] = ()
        if self._journaling:
            records = (
                FrameRecord(head.stream, epoch, head.seq, head.frame_index, head.t_ns, str(skip.status), skip.reason),
            )
        return Settlement(
            queue, head, epoch, skip.status, skip.received_ns, taken_ns, taken_ns, taken_ns,
            reason=skip.reason, code=skip.code, records=records,
        )  # fmt: skip

    def _settle_failure(self, queue: StreamQueue, item: QueuedFrame, taken_ns: int, error: Exception) -> Settlement:
        head = item.frame.head
        if isinstance(error, ProtocolError):
            code, reason = error.code, error.message
        else:
            logger.exception("stream=%s seq=%d: the step failed", head.stream, head.seq, exc_info=error)
            code, reason = ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
        return self._settle_skip(queue, Skip(head, Status.REJECTED, reason, item.received_ns, code), taken_ns)

    def _too_old(self, queue: StreamQueue, item: QueuedFrame, now_ns: int) -> bool:
        deadline_ms = self._streams[queue].settings.stream.deadline_ms
        return deadline_ms is not None and now_ns - item.received_ns > deadline_ms * 1e6

    def _execute(self, command: Command) -> CommandResult:
        self._records = []
        try:
            return CommandResult(command.done, command.run(), None, tuple(self._records))
        except Exception as error:
            return CommandResult(command.done, None, error)
