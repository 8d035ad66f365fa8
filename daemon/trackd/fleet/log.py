"""The fleet's thread: it stores the engine's outcomes in the logs of their streams before they are published."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic

from trackd.crash_points import crash_point
from trackd.fleet.batch import encode_batch
from trackd.fleet.cancelling import cancelled
from trackd.fleet.figures import FleetFigures
from trackd.fleet.held import HeldStream
from trackd.fleet.store import AwayError, FencedError, FleetStore
from trackd.store.records import CloseRecord, Record
from trackd.store.waiting import AnyOutcome, WaitingOutcomes, sized

logger = logging.getLogger(__name__)

_RETRY_S = 0.2
_GATHER_S = 0.001  # the wait for more outcomes before a batch is appended, while frames arrive in a row
_MAX_BATCH = 4096  # outcomes that are appended together
_MAX_BATCH_BYTES = 16 * 1024 * 1024
_WAIT_S = 0.5  # of a thread that waits for room

Work = Callable[[], Coroutine[Any, Any, None]]


class FleetLog(Generic[AnyOutcome]):
    """Sits between the engine and the outbox, as the journal does: a frame is published and acked after its append.

    While the appends of one batch are under way, one for each stream and all at the same time, the next batch collects.
    The outcomes of a stream that another member has taken over are not delivered: the fence has refused its append.

    Args:
        store: of this member.
        instance: of this process.
        deliver: receives the outcomes that are stored, on the fleet's thread.
        refused: turns an outcome of a stream that is lost into what is delivered in its place; None: nothing.
        figures: for the metrics.
    """

    def __init__(
        self,
        store: FleetStore,
        instance: str,
        deliver: Callable[[list[AnyOutcome]], None],
        refused: Callable[[AnyOutcome], AnyOutcome | None],
        figures: FleetFigures,
    ) -> None:
        self.store = store
        self.instance = instance
        self.held: dict[str, HeldStream] = {}  # only the event loop uses it
        self.on_lost: Callable[[str], None] = lambda stream: None  # called on the event loop
        self.confirm: Callable[[set[str]], Coroutine[Any, Any, None]] | None = None  # before a delivery
        self.written_seq: Callable[[str], int | None] = lambda stream: None  # of a stream's output files
        self._deliver = deliver
        self._refused = refused
        self.figures = figures
        self._waiting: WaitingOutcomes[AnyOutcome] = WaitingOutcomes(_MAX_BATCH, _MAX_BATCH_BYTES)
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._woken = False
        self._begun: list[Work] = []  # before the loop runs
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection_fault: str | None = "the fleet's store is not connected yet"
        self._append_fault: str | None = None
        self._failure: Exception | None = None

    # --- as the journal ---

    @property
    def fault(self) -> str | None:
        """Why nothing can be stored now; None while it can."""
        return self.connection_fault or self._append_fault

    def put(self, outcomes: list[AnyOutcome]) -> None:
        """Add a step's outcomes. An engine thread that calls this waits here while the log is full."""
        added = sized(outcomes)
        with self._changed:
            while self._waiting.full and not self._stopping:
                self._changed.wait(_WAIT_S)
            self._waiting.add(added)
            woken, self._woken = self._woken, True
        if not woken and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def has_room(self) -> bool:
        """Whether `put` would not wait."""
        return not self._waiting.full

    @property
    def idle(self) -> bool:
        """Whether all outcomes have been delivered."""
        with self._changed:
            return not self._waiting.queue and not self._busy

    def stop(self) -> None:
        """Make `run` return when all outcomes are stored."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.submit(self._note_stop)

    async def _note_stop(self) -> None:
        self._wake.set()

    def submit(self, work: Work) -> None:
        """Run a coroutine function on the event loop; any thread may call this, also before the loop runs."""
        with self._changed:
            if self._loop is None:
                self._begun.append(work)
                return
        with suppress(RuntimeError):  # the loop is closed: the daemon ends
            self._loop.call_soon_threadsafe(self.start, work)

    def start(self, work: Work) -> None:
        """Run a coroutine function beside the others; on the event loop."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Work) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a task of the fleet failed")

    # --- the thread ---

    def run(self) -> None:
        """Run the event loop until `stop`."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        with self._changed:
            self._loop = asyncio.get_running_loop()
            begun, self._begun = self._begun, []
        for work in begun:
            self.start(work)
        try:
            while (batch := await self._take()) is not None:
                if batch:
                    await self._store(batch)
                    with self._changed:
                        self._busy = False
                        self._changed.notify_all()
        finally:
            await cancelled(set(self._tasks))  # none of them may connect again after the close
            with suppress(AwayError):
                await self.store.leave()
            await self.store.close()

    def fail(self, error: Exception) -> None:
        """End `run` with an error: the daemon ends with it as the reason; on the event loop."""
        self._failure = error
        self._wake.set()

    async def _take(self) -> list[AnyOutcome] | None:
        if self._waiting.queue:  # outcomes were added during the last appends: frames arrive in a row
            await asyncio.sleep(_GATHER_S)
        elif not self._stopping:
            await self._wake.wait()
        if self._failure is not None:
            raise self._failure
        self._wake.clear()
        with self._changed:
            self._woken = False
            batch = self._waiting.take()
            self._busy = bool(batch)
            self._changed.notify_all()
            return None if self._stopping and not batch else batch

    async def _store(self, batch: list[AnyOutcome]) -> None:
        by_stream: dict[str, list[Record]] = {}
        for outcome in batch:
            for record in outcome.records:
                by_stream.setdefault(record.stream, []).append(record)
        if by_stream:
            crash_point("before_journal")
            if len(by_stream) == 1:
                [(stream, records)] = by_stream.items()
                await self._append(stream, records)
            else:
                await asyncio.gather(*(self._append(stream, records) for stream, records in by_stream.items()))
            crash_point("after_journal")
            if self.confirm is not None:
                await self.confirm({stream for stream in by_stream if stream in self.held})
        self._deliver([kept for outcome in batch if (kept := self._kept(outcome)) is not None])
        for stream, records in by_stream.items():
            if isinstance(records[-1], CloseRecord):
                self.held.pop(stream, None)

    def _kept(self, outcome: AnyOutcome) -> AnyOutcome | None:
        records = outcome.records
        return outcome if not records or records[0].stream in self.held else self._refused(outcome)

    async def _append(self, stream: str, records: list[Record]) -> None:
        """Append records to a stream's log, however long it takes; nothing happens if the stream is lost."""
        held = self.held.get(stream)
        if held is None:
            return
        records, base = held.message(records)
        data, link, epoch = encode_batch(records, held.link, held.epoch, self.written_seq(stream))
        began = time.monotonic()
        while True:
            try:
                sequence = await self.store.append(stream, held.term, held.sequence, data, base)
                break
            except AwayError as error:
                if self._append_fault is None:
                    logger.error("the fleet's log cannot be written; no frame is acked until it can: %s", error)
                self._append_fault = f"the fleet's log cannot be written: {error}"
                if self._stopping:
                    raise
                await asyncio.sleep(_RETRY_S)
            except FencedError as error:
                self.figures.fence_refusals += 1
                logger.warning("stream=%s term=%d: an append was refused: %s", stream, held.term, error)
                self._note_answer()
                self.lose(stream)
                return
            if self.held.get(stream) is not held:
                self._note_answer()
                return
        self._note_answer()
        self.figures.appended(time.monotonic() - began, len(data))
        held.sequence, held.link, held.epoch, held.base = sequence, link, epoch, base or sequence
        before = sequence if isinstance(records[-1], CloseRecord) else held.retained.added(sequence, records)
        if before is not None:
            self.start(lambda: self._trim(stream, before))

    def _note_answer(self) -> None:
        if self._append_fault is not None:
            logger.warning("the fleet's log can be written again")
            self._append_fault = None

    async def _trim(self, stream: str, before: int) -> None:
        with suppress(AwayError):  # the next trim deletes these too
            await self.store.trim(stream, before)

    def lose(self, stream: str) -> None:
        """Give up a stream that another member has, or may have; on the event loop."""
        if self.held.pop(stream, None) is not None:
            self.on_lost(stream)
