"""The journal's thread: what the engine settles is written first, and handed on only then."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from trackd.crash_points import crash_point
from trackd.store.database import Database
from trackd.store.records import Record

logger = logging.getLogger(__name__)

FILE_NAME = "journal.sqlite"
_RETRY_S = 0.5
_CHECKPOINT_S = 30.0
_GATHER_S = 0.002  # a batch that waits for the disk is given so long to grow, where frames come one after the other
MOST_WAITING = 8192  # outcomes
MOST_WAITING_BYTES = 256 * 1024 * 1024
_MOST_AT_ONCE = 4096  # outcomes in one transaction
_MOST_BYTES_AT_ONCE = 64 * 1024 * 1024  # the write-ahead log grows to that


class Outcome(Protocol):
    """Something that the engine hands on, and what has to be stored before."""

    @property
    def records(self) -> Sequence[Record]:
        """In order."""

    @property
    def nbytes(self) -> int:
        """About what it takes while it waits."""


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)


class Journal(Generic[AnyOutcome]):
    """Stands between the engine and the outbox: a frame is published and acked only once it is stored.

    While one batch is being written the next one gathers, so that a commit is shared by all that came meanwhile. Where
    a commit does not wait for the disk and nothing is under way, whoever brings outcomes stores them at once itself
    (`store`): to hand them to this thread and back takes longer, and all that is published waits for it either way.
    What cannot be stored is tried again and again, and nothing behind it is handed on: clients get no acks, and
    their credit ends.

    Args:
        state_dir: the folder of the file.
        sync: `durability: power`.
        deliver: takes outcomes that are stored.
        history_frames: how many frames back a stream's history reaches, where it does not say.
        most_bytes: what the file may hold.
    """

    def __init__(
        self,
        state_dir: Path,
        sync: bool,
        deliver: Callable[[list[AnyOutcome]], None],
        history_frames: int,
        most_bytes: int,
    ) -> None:
        self.database = Database(state_dir / FILE_NAME, sync, most_bytes, history_frames)
        self._deliver = deliver
        self._sync = sync
        self._waiting: deque[tuple[AnyOutcome, int]] = deque()  # with its bytes
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        self.fault: str | None = None  # why nothing can be stored at the moment

    def put(self, outcomes: list[AnyOutcome]) -> None:
        """Take a step's outcomes; called on the engine's thread."""
        sized = _sized(outcomes)
        with self._changed:
            # Streams that shed have no credit to end: where nothing can be stored, the engine waits here.
            while self._full and not self._stopping:
                self._changed.wait(_RETRY_S)
            self._waiting.extend(sized)
            self._waiting_bytes += sum(size for _, size in sized)
            self._changed.notify_all()

    def store(self, outcomes: list[AnyOutcome]) -> None:
        """As `put`, but stores them on the calling thread where that is soon done."""
        with self._changed:
            free = not (self._sync or self._waiting or self._busy or self._stopping or self.fault)
            self._busy = self._busy or free
        if not free:
            self.put(outcomes)
            return
        try:
            self._write(outcomes)
        except (sqlite3.Error, OSError):
            free = False  # this thread must not wait for it to work again; the journal's may
        if free:
            self._deliver(outcomes)
        with self._changed:
            self._busy = False
            if not free:  # before anything that came meanwhile
                sized = _sized(outcomes)
                self._waiting.extendleft(reversed(sized))
                self._waiting_bytes += sum(size for _, size in sized)
            if self._waiting or self._stopping:
                self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether `put` would not wait."""
        return not self._full

    @property
    def _full(self) -> bool:
        return len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES

    @property
    def idle(self) -> bool:
        """Whether all that was put has been handed on."""
        with self._changed:
            return not self._waiting and not self._busy

    def stop(self) -> None:
        """Have `run` return once nothing is left."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def run(self) -> None:
        """The thread's life."""
        next_checkpoint = time.monotonic() + _CHECKPOINT_S
        while (batch := self._take()) is not None:
            if batch:
                self._store(batch)
                self._deliver(batch)
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
            if time.monotonic() > next_checkpoint:
                next_checkpoint = time.monotonic() + _CHECKPOINT_S
                self._fold()
        self._fold()
        self.database.close()

    def _take(self) -> list[AnyOutcome] | None:
        with self._changed:
            came_meanwhile = bool(self._waiting)  # while the last batch was written
            if not self._waiting and not self._stopping:
                self._changed.wait(1.0)
            if self._busy:  # somebody stores at this moment, and says when that is done
                self._changed.wait_for(lambda: not self._busy, 1.0)
                return []
            if self._sync and came_meanwhile:
                self._changed.wait_for(lambda: self._stopping, _GATHER_S)
            batch: list[AnyOutcome] = []
            nbytes = 0
            while self._waiting and len(batch) < _MOST_AT_ONCE and nbytes < _MOST_BYTES_AT_ONCE:
                outcome, size = self._waiting.popleft()
                batch.append(outcome)
                nbytes += size
            self._waiting_bytes -= nbytes
            self._busy = bool(batch)
            return None if self._stopping and not batch else batch

    def _store(self, batch: list[AnyOutcome]) -> None:
        while True:
            try:
                self._write(batch)
                break
            except (sqlite3.Error, OSError) as error:
                if self.fault is None:
                    logger.error("the journal cannot be written, and nothing is acked until it can: %s", error)
                self.fault = f"the journal {self.database.path} cannot be written: {error}"
                if self._stopping:
                    raise
                time.sleep(_RETRY_S)
        if self.fault is not None:
            logger.warning("the journal can be written again")
            self.fault = None

    def _write(self, batch: list[AnyOutcome]) -> None:
        records = [record for outcome in batch for record in outcome.records]
        if records:
            crash_point("before_journal")
            self.database.write(records)
            crash_point("after_journal")

    def _fold(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            crash_point("before_fold")
            self.database.fold()
            crash_point("after_fold")
        except sqlite3.Error as error:
            logger.warning("the journal could not be folded: %s", error)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


def _sized(outcomes: list[AnyOutcome]) -> list[tuple[AnyOutcome, int]]:
    """Each with its bytes."""
    return [(outcome, outcome.nbytes) for outcome in outcomes]
