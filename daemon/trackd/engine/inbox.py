"""The hand-over from the IO thread to the engine: bounded queues, one lock, one wake-up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from trackd.engine.queue import Command, Ledger, QueuedFrame, Skip, StreamQueue
from trackd_client.protocol import ErrorCode, Status

Item = QueuedFrame | Skip | Command
Work = tuple[StreamQueue, Item]


class Inbox:
    """Every stream's queue, and whose turn it is."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._turns: deque[StreamQueue] = deque()
        self._queues: dict[str, StreamQueue] = {}
        self._closed_streams = Ledger()
        self._nbytes = 0
        self._stopping = False
        self._called = False  # the engine thread is to look
        self._in_step = False

    def add(self, queue: StreamQueue) -> None:
        """Take a new stream in."""
        with self._lock:
            self._queues[queue.stream] = queue

    def remove(self, queue: StreamQueue) -> None:
        """Forget a closed stream; its counts go on in the sum over closed streams."""
        with self._lock:
            if self._queues.get(queue.stream) is queue:
                del self._queues[queue.stream]
                self._closed_streams.add(queue.ledger)

    def has_room(self, queue: StreamQueue, nbytes: int) -> bool:
        """Whether one more frame fits the stream's depth and the budget of bytes over all streams."""
        with self._lock:
            return len(queue) < queue.depth and self._nbytes + nbytes <= self.max_bytes

    def put(self, queue: StreamQueue, item: QueuedFrame | Skip) -> None:
        """Take a received frame in; `wake` says when somebody has to look."""
        with self._lock:
            queue.put(item)
            if isinstance(item, QueuedFrame):
                self._nbytes += item.nbytes
            self._take_turn(queue)

    def shed_oldest(self, queue: StreamQueue, reason: str) -> bool:
        """Drop the oldest waiting frame of a stream; False where none waits."""
        with self._lock:
            if not len(queue):
                return False
            self._nbytes -= queue.shed_oldest(reason)
            self._take_turn(queue)
            return True

    def command(self, queue: StreamQueue, command: Command) -> None:
        """Have the engine thread do something between two frames of a stream; as `put`."""
        with self._lock:
            queue.command(command)
            self._take_turn(queue)

    def _take_turn(self, queue: StreamQueue) -> None:
        if not queue.in_turn:
            queue.in_turn = True
            self._turns.append(queue)

    def wake(self) -> None:
        """Call the engine thread, if there is anything to do."""
        if self._turns:
            with self._lock:
                self._called = True
                self._ready.notify()

    @property
    def ready(self) -> bool:
        """Whether anything is to be done."""
        return bool(self._turns)

    @property
    def over(self) -> bool:
        """Whether it is stopped and empty."""
        return self._stopping and not self._turns

    def wait(self, timeout_s: float) -> bool:
        """Until the engine thread is called, for at most `timeout_s`; whether it was."""
        with self._lock:
            if not self._called and not self._stopping:
                self._ready.wait(timeout_s)
            called, self._called = self._called or self._stopping, False
            return called

    def size(self, of: Callable[[StreamQueue, Item], int]) -> int:
        """How much work the next step would be; `of` tells of a piece of it."""
        with self._lock:
            return sum(of(queue, item) for queue in self._turns if (item := queue.next()) is not None)

    def take(self) -> list[Work]:
        """The next step's work: of each ready stream what is next.

        A stream that has more goes to the end of the line, so that none waits for another's backlog. Whoever takes
        work says `finished` when its outcomes have been handed on.
        """
        with self._lock:
            work: list[Work] = []
            for _ in range(len(self._turns)):
                queue = self._turns.popleft()
                queue.in_turn = False
                # One thing at a time where a command waits behind it: it is due only once that is settled.
                item = queue.take()
                if item is not None:
                    work.append((queue, item))
                    if isinstance(item, QueuedFrame):
                        self._nbytes -= item.nbytes
                if queue.pending and item is not None:
                    queue.in_turn = True
                    self._turns.append(queue)
            self._in_step = self._in_step or bool(work)
            return work

    def finished(self) -> None:
        """What was taken has been handed on."""
        self._in_step = False

    def book(self, queue: StreamQueue, seq: int, status: Status, reason: str | None, code: ErrorCode | None) -> None:
        """Book the end of a frame; a command that waited for it comes into turn."""
        with self._lock:
            queue.book(seq, status, reason, code)
            if queue.pending:
                self._take_turn(queue)

    def stop(self) -> None:
        """Have `take` return None once nothing is left."""
        with self._lock:
            self._stopping = True
            self._ready.notify_all()

    @property
    def waiting(self) -> int:
        """Frames that are not settled, over all streams."""
        with self._lock:
            return sum(queue.ledger.queued for queue in self._queues.values())

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and all that was taken has been handed on."""
        with self._lock:
            return not self._in_step and not any(
                queue.pending or queue.ledger.queued for queue in self._queues.values()
            )

    def snapshot(self) -> tuple[dict[str, Ledger], dict[str, int], Ledger]:
        """Ledgers and active tracks by stream, and the sum over closed streams, all of one moment."""
        with self._lock:
            ledgers = {name: queue.ledger.copy() for name, queue in self._queues.items()}
            active = {name: queue.active_tracks for name, queue in self._queues.items()}
            return ledgers, active, self._closed_streams.copy()
