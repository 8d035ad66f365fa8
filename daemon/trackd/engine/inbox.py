"""The hand-over from the IO thread to the engine: bounded queues, one lock, one wake-up."""

from __future__ import annotations

import threading
from collections import deque

from trackd.engine.queue import Command, Ledger, QueuedFrame, Skip, StreamQueue
from trackd_client.protocol import EncodedImage, ErrorCode, Status

Item = QueuedFrame | Skip | Command
Work = tuple[StreamQueue, Item]

LIGHT_SIZE = 1024  # instances of a step that may run inline: a few milliseconds
_HEAVY_SIZE = LIGHT_SIZE + 1


class Inbox:
    """The queues of all streams, and the order of their turns."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._turns: deque[StreamQueue] = deque()
        self._queues: dict[str, StreamQueue] = {}
        self._closed_streams = Ledger()
        self._nbytes = 0
        self._stopping = False
        self._called = False  # the engine thread must look for work
        self._in_step = False

    def add(self, queue: StreamQueue) -> None:
        """Add a new stream."""
        with self._lock:
            self._queues[queue.stream] = queue

    def remove(self, queue: StreamQueue) -> None:
        """Remove a closed stream; its counts are added to the sum over closed streams."""
        with self._lock:
            if self._queues.get(queue.stream) is queue:
                del self._queues[queue.stream]
                self._closed_streams.add(queue.ledger)

    def has_room(self, queue: StreamQueue, nbytes: int) -> bool:
        """Return whether one more frame fits the stream's depth and the byte limit over all streams."""
        with self._lock:
            return len(queue) < queue.depth and self._nbytes + nbytes <= self.max_bytes

    def put(self, queue: StreamQueue, item: QueuedFrame | Skip) -> None:
        """Add a received frame. The caller calls `wake` or runs the step inline afterwards."""
        with self._lock:
            queue.put(item)
            if isinstance(item, QueuedFrame):
                self._nbytes += item.nbytes
            self._take_turn(queue)

    def shed_oldest(self, queue: StreamQueue, reason: str) -> bool:
        """Drop the oldest waiting frame of a stream; False if none waits."""
        with self._lock:
            if not len(queue):
                return False
            self._nbytes -= queue.shed_oldest(reason)
            self._take_turn(queue)
            return True

    def command(self, queue: StreamQueue, command: Command) -> None:
        """Add work for the engine thread between two frames of a stream; as `put`."""
        with self._lock:
            queue.command(command)
            self._take_turn(queue)

    def _take_turn(self, queue: StreamQueue) -> None:
        if not queue.in_turn:
            queue.in_turn = True
            self._turns.append(queue)

    def wake(self) -> None:
        """Wake the engine thread if there is work."""
        if self._turns:
            with self._lock:
                self._called = True
                self._ready.notify()

    @property
    def ready(self) -> bool:
        """Whether there is work."""
        return bool(self._turns)

    @property
    def over(self) -> bool:
        """Whether it is stopped and empty."""
        return self._stopping and not self._turns

    def wait(self, timeout_s: float) -> bool:
        """Wait for a call of `wake`, at most `timeout_s`; returns whether there was one."""
        with self._lock:
            if not self._called and not self._stopping:
                self._ready.wait(timeout_s)
            called, self._called = self._called or self._stopping, False
            return called

    def size(self) -> int:
        """Return the size of the next step in instances; above `LIGHT_SIZE` if it must not run inline."""
        with self._lock:
            return sum(_size(queue, item) for queue in self._turns if (item := queue.next()) is not None)

    def take(self, limit: int | None = None) -> tuple[list[Work], int]:
        """Take the next step's work: the next item of each ready stream.

        A stream with more work goes to the end of the ring, so that no stream waits for another's backlog. The caller
        must call `finished` when the outcomes have been handed on.

        Args:
            limit: take nothing if the step is larger; None: no limit.

        Returns:
            The work, and its size in instances.
        """
        with self._lock:
            items: list[Item | None] = []
            size = 0
            for queue in self._turns:
                item = queue.next()
                items.append(item)
                if item is not None and limit is not None:
                    size += _size(queue, item)
            if limit is not None and size > limit:
                return [], size
            work: list[Work] = []
            for item in items:
                queue = self._turns.popleft()
                queue.in_turn = False
                if item is None:
                    continue
                work.append((queue, item))
                if isinstance(item, QueuedFrame):
                    self._nbytes -= item.nbytes
                queue.remove(item)
                if queue.pending:
                    self._take_turn(queue)
            self._in_step = self._in_step or bool(work)
            return work, size

    def finished(self) -> None:
        """Note that the outcomes of all work taken have been handed on."""
        self._in_step = False

    def book(self, queue: StreamQueue, seq: int, status: Status, reason: str | None, code: ErrorCode | None) -> None:
        """Count a settled frame; a command that waited for it becomes due."""
        with self._lock:
            queue.book(seq, status, reason, code)
            if queue.pending:
                self._take_turn(queue)

    def stop(self) -> None:
        """End the engine thread once no work is left."""
        with self._lock:
            self._stopping = True
            self._ready.notify_all()

    @property
    def waiting(self) -> int:
        """Number of frames that are not settled, over all streams."""
        with self._lock:
            return sum(queue.ledger.queued for queue in self._queues.values())

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and the outcomes of all work taken have been handed on."""
        with self._lock:
            return not self._in_step and not any(
                queue.pending or queue.ledger.queued for queue in self._queues.values()
            )

    def snapshot(self) -> tuple[dict[str, Ledger], dict[str, int], Ledger]:
        """Return ledgers and active tracks by stream, and the sum over closed streams, all of one moment."""
        with self._lock:
            ledgers = {name: queue.ledger.copy() for name, queue in self._queues.items()}
            active = {name: queue.active_tracks for name, queue in self._queues.items()}
            return ledgers, active, self._closed_streams.copy()


def _size(queue: StreamQueue, item: Item) -> int:
    """Return an item's size in instances. Commands, checkpoints' frames and encoded images never run inline."""
    if isinstance(item, Skip):
        return 0
    if isinstance(item, Command) or not queue.is_light or isinstance(item.frame.image, EncodedImage):
        return _HEAVY_SIZE
    boxes = item.frame.detections.boxes
    return len(item.frame.detections if boxes is None else boxes)
