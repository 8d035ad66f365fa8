"""The hand-over from the IO thread to the threads that run steps: bounded queues, one lock, three lanes.

A stream whose next item is due waits in the lane of that item: in `SHORT` for the IO thread, which runs such steps
inline; in `SHARED` for the engine thread, which runs commands and the steps that share their passes; in `LONG` for the
lane threads, each of which runs the step of one stream. A stream is in one lane at a time, and in none while a thread
runs its step or command: so its frames stay in order, and one thread at a time uses its state.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from trackd.engine.queue import Command, Ledger, QueuedFrame, Skip, StreamQueue
from trackd.engine.step_cost import DECODED_BYTES, LIGHT_SIZE, SHARED, SHORT, SMALL_PAIRS
from trackd_client.protocol import EncodedImage, ErrorCode, Status

Item = QueuedFrame | Skip | Command
Work = tuple[StreamQueue, Item]


class Inbox:
    """The queues of all streams, and the order of their turns."""

    def __init__(self, max_bytes: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._shared_call = threading.Condition(self._lock)
        self._long_call = threading.Condition(self._lock)
        self._shared_called = self._long_called = False  # the threads of the lane must look for work
        self._short: deque[StreamQueue] = deque()
        self._shared: deque[StreamQueue] = deque()
        self._long: deque[StreamQueue] = deque()
        self._lanes = (self._short, self._shared, self._long)
        self._queues: dict[str, StreamQueue] = {}
        self._closed_streams = Ledger()
        self._nbytes = 0
        self._n_taken = 0  # streams whose steps or commands run
        self._stopping = False
        self._takes_short = False  # the engine thread must run short steps too: the IO thread could not
        self._small_until_ns = 0  # until then only small steps run inline

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

    # --- the IO thread adds work ---

    def put(self, queue: StreamQueue, item: QueuedFrame | Skip) -> None:
        """Add a received frame. The caller calls `wake` or runs the step inline afterwards."""
        with self._lock:
            queue.put(item)
            if isinstance(item, QueuedFrame):
                self._nbytes += item.nbytes
            if not queue.in_turn:
                self._take_turn(queue)

    def shed_oldest(self, queue: StreamQueue, reason: str) -> bool:
        """Drop the oldest waiting frame of a stream; False if none waits."""
        with self._lock:
            if not len(queue):
                return False
            self._nbytes -= queue.shed_oldest(Status.DROPPED, reason)
            self._change_turn(queue)
            return True

    def command(self, queue: StreamQueue, command: Command) -> None:
        """Add work for the engine thread between two frames of a stream; as `put`."""
        with self._lock:
            queue.command(command)
            self._change_turn(queue)

    def wake(self, leave_short: bool = False) -> None:
        """Wake the threads that have work.

        Args:
            leave_short: the IO thread runs the short steps itself.
        """
        if self._shared or self._long or (self._short and not leave_short):
            with self._lock:
                if self._short and not leave_short:
                    self._takes_short = True
                self._call_threads()

    def _call_threads(self) -> None:
        if self._shared or self._takes_short or self._stopping:
            self._shared_called = True
            self._shared_call.notify()
        if self._long or self._stopping:
            self._long_called = True
            self._long_call.notify_all()

    @property
    def ready(self) -> bool:
        """Whether there is work for any thread."""
        return bool(self._short or self._shared or self._long)

    @property
    def ready_shared(self) -> bool:
        """Whether there is work for the engine thread."""
        return bool(self._shared or (self._short and (self._takes_short or self._stopping)))

    @property
    def ready_inline(self) -> bool:
        """Whether there is work for the IO thread."""
        return bool(self._short)

    # --- whose turn it is ---

    def _take_turn(self, queue: StreamQueue) -> None:
        """Let a stream wait in the lane of its next item, if one is due."""
        item = queue.next()
        if item is None:
            return
        lane, size = self._lane_of(queue, item)
        if lane is None:  # it has become a rejected frame
            item, lane = queue.next(), SHORT
        queue.due, queue.due_size, queue.lane, queue.in_turn = item, size, lane, True
        self._lanes[lane].append(queue)

    def _change_turn(self, queue: StreamQueue) -> None:
        """Follow a change of a stream's next item."""
        if queue.lane is not None:
            if queue.next() is queue.due:
                return
            self._lanes[queue.lane].remove(queue)
            queue.lane, queue.in_turn = None, False
        if not queue.in_turn:
            self._take_turn(queue)

    def _lane_of(self, queue: StreamQueue, item: Item) -> tuple[int | None, int]:
        """Return an item's lane, and its size in instances; None if the frame had to be rejected."""
        if type(item) is not QueuedFrame:
            return (SHARED if type(item) is Command else SHORT), 0
        cost, frame = queue.cost, item.frame
        boxes = frame.detections.boxes
        n = len(frame.detections if boxes is None else boxes)
        is_small = cost.is_light and n * (n + queue.active_tracks) <= SMALL_PAIRS
        if is_small and cost.runs_inline and type(frame.image) is not EncodedImage:
            return SHORT, n
        pairs = cost.pairs(n, queue.active_tracks)
        if is_small:
            return cost.lane(frame, n, pairs), n
        item.pairs = pairs
        expected_ms = cost.over_limit_ms(n, pairs)
        if expected_ms is not None:
            assert cost.limit_ns is not None
            reason = (
                f"the step would take about {expected_ms:.0f} ms for {n} instances and {queue.active_tracks} tracks; "
                f"limits.step_ms allows {cost.limit_ns / 1e6:g}"
            )
            self._nbytes -= queue.shed_oldest(Status.REJECTED, reason, ErrorCode.STEP_TOO_LONG)
            return None, 0
        lane = cost.lane(frame, n, pairs)
        if lane == SHORT and self._clock() < self._small_until_ns:
            lane = SHARED
        return lane, n

    def keep_small(self, ns: int) -> None:
        """For some time, run no step of many instances inline: one took much longer than it should."""
        self._small_until_ns = self._clock() + ns

    # --- the threads take work, and release its streams when its outcomes have been handed on ---

    def take(self) -> tuple[list[Work], int]:
        """Take the next step of the engine thread: the next item of each stream of its lane.

        The streams of `SHORT` have a step of their own before, if the IO thread could not run it.

        Returns:
            The work, and its size in instances.
        """
        with self._lock:
            if self._short and (self._takes_short or self._stopping):
                self._takes_short = False
                return self._take(list(self._short))
            chosen: list[StreamQueue] = []
            decoded_bytes = 0
            for queue in self._shared:
                image = queue.due.frame.image if type(queue.due) is QueuedFrame else None
                if type(image) is EncodedImage and queue.cost.needs_image:
                    decoded_bytes += image.decoded_bytes
                    if decoded_bytes > DECODED_BYTES and chosen:
                        break
                chosen.append(queue)
            return self._take(chosen)

    def take_inline(self, room: int = LIGHT_SIZE) -> tuple[list[Work], int]:
        """Take the next step of the IO thread: as `take`, for the streams of `SHORT`, up to `room` instances."""
        with self._lock:
            self._takes_short = False
            chosen: list[StreamQueue] = []
            size = 0
            for queue in self._short:
                size += queue.due_size
                if size > room:
                    break
                chosen.append(queue)
            return self._take(chosen)

    def take_more(self, taken: Iterable[Work], room: int) -> tuple[list[Work], int]:
        """Take the next short items of streams that the IO thread has taken already, up to `room` instances."""
        with self._lock:
            work: list[Work] = []
            total = 0
            for queue, _ in taken:
                item = queue.next()
                if item is None:
                    continue
                lane, size = self._lane_of(queue, item)
                if lane != SHORT or total + size > room:
                    continue
                total += size
                self._remove(queue, item)
                work.append((queue, item))
            return work, total

    def take_long(self, timeout_s: float) -> list[Work]:
        """Take the step of one stream of `LONG`, after a wait of at most `timeout_s`."""
        with self._lock:
            if not self._long_called and not self.over:
                self._long_call.wait(timeout_s)
            if not self._long_called:
                return []
            work, _ = self._take([self._long[0]] if self._long else [])
            self._long_called = bool(self._long)
            return work

    def _take(self, chosen: Sequence[StreamQueue]) -> tuple[list[Work], int]:
        work: list[Work] = []
        size = 0
        for queue in chosen:
            item, lane = queue.due, queue.lane
            assert item is not None
            assert lane is not None
            self._lanes[lane].popleft()
            queue.lane = queue.due = None
            self._remove(queue, item)
            work.append((queue, item))
            size += queue.due_size
        self._n_taken += len(work)
        return work, size

    def _remove(self, queue: StreamQueue, item: Item) -> None:
        if type(item) is QueuedFrame:
            self._nbytes -= item.nbytes
        queue.remove(item)

    def release(self, work: Iterable[Work]) -> None:
        """Note that the outcomes of work taken have been handed on: each stream may have its next turn.

        The turn is at the end of the lane, so that no stream waits for another's backlog.
        """
        with self._lock:
            for queue, _ in work:
                self._n_taken -= 1
                queue.in_turn = False
                if queue.pending:
                    self._take_turn(queue)
            self._call_threads()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` until the engine thread must look for work; returns whether it must."""
        with self._lock:
            if not self._shared_called and not self.over:
                self._shared_call.wait(timeout_s)
            called, self._shared_called = self._shared_called, False
            return called

    def book(self, queue: StreamQueue, seq: int, status: Status, reason: str | None, code: ErrorCode | None) -> None:
        """Count a settled frame."""
        with self._lock:
            queue.book(seq, status, reason, code)

    def stop(self) -> None:
        """End the threads once no work is left."""
        with self._lock:
            self._stopping = True
            self._call_threads()

    @property
    def over(self) -> bool:
        """Whether it is stopped and empty, and no step runs."""
        return self._stopping and not self._n_taken and not self.ready

    @property
    def waiting(self) -> int:
        """Number of frames that are not settled, over all streams."""
        with self._lock:
            return sum(queue.ledger.queued for queue in self._queues.values())

    @property
    def backlog(self) -> int:
        """The most frames that wait for their steps in one stream."""
        with self._lock:
            return max(map(len, self._queues.values()), default=0)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and the outcomes of all work taken have been handed on."""
        with self._lock:
            return not self._n_taken and not any(
                queue.pending or queue.ledger.queued for queue in self._queues.values()
            )

    def snapshot(self) -> tuple[dict[str, Ledger], dict[str, int], Ledger]:
        """Return ledgers and active tracks by stream, and the sum over closed streams, all of one moment."""
        with self._lock:
            ledgers = {name: queue.ledger.copy() for name, queue in self._queues.items()}
            active = {name: queue.active_tracks for name, queue in self._queues.items()}
            return ledgers, active, self._closed_streams.copy()
