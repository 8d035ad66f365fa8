"""The journal's thread: it stores the engine's outcomes before they are published."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol

from trackd.crash_points import crash_point
from trackd.store.database import Database
from trackd.store.waiting import AnyOutcome, WaitingOutcomes, sized

logger = logging.getLogger(__name__)

FILE_NAME = "journal.sqlite"
_RETRY_S = 0.5
_CHECKPOINT_S = 30.0
_GATHER_S = 0.002  # with `sync`: the wait for more outcomes before a batch is written, while frames arrive in a row
_MAX_BATCH = 4096  # outcomes in one transaction
_MAX_BATCH_BYTES = 64 * 1024 * 1024  # the write-ahead log grows to this size


class OutcomeLog(Protocol):
    """Stores outcomes: the journal, or the log of a fleet."""

    @property
    def fault(self) -> str | None:
        """Why nothing can be stored now; None while it can."""

    @property
    def idle(self) -> bool:
        """Whether all outcomes have been delivered."""


class Journal(Generic[AnyOutcome]):
    """Sits between the engine and the outbox: a frame is published and acked only after it is stored.

    While one batch is written, the next one collects, so one commit stores all outcomes of that time. If commits do not
    wait for the disk and the journal is idle, the calling thread stores its outcomes itself (`store`): a hand-over to
    the journal's thread takes longer than the write, and the outcomes are published after the write either way. A
    batch that cannot be stored is retried until it can, and nothing behind it is passed on: clients get no acks, and
    run out of credit.

    Args:
        state_dir: the folder of the file.
        sync: `durability: power`.
        deliver: receives the outcomes that are stored.
        history_frames: how many frames back a stream's history reaches, for streams without a setting of their own.
        max_bytes: the bound of the file.
    """

    def __init__(
        self,
        state_dir: Path,
        sync: bool,
        deliver: Callable[[list[AnyOutcome]], None],
        history_frames: int,
        max_bytes: int,
    ) -> None:
        self.database = Database(state_dir / FILE_NAME, sync, max_bytes, history_frames)
        self._deliver = deliver
        self._sync = sync
        self._waiting: WaitingOutcomes[AnyOutcome] = WaitingOutcomes(_MAX_BATCH, _MAX_BATCH_BYTES)
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        self._fault: str | None = None

    def put(self, outcomes: list[AnyOutcome]) -> None:
        """Add a step's outcomes. The engine's thread calls this, and waits here while the journal is full."""
        added = sized(outcomes)
        with self._changed:
            # Streams with a drop policy need no credit. So the engine has to wait when nothing can be stored.
            while self._waiting.full and not self._stopping:
                self._changed.wait(_RETRY_S)
            self._waiting.add(added)
            self._changed.notify_all()

    def store(self, outcomes: list[AnyOutcome]) -> None:
        """Store a step's outcomes on the calling thread if that takes no wait, else add them as `put` does."""
        with self._changed:
            free = not (self._sync or self._waiting.queue or self._busy or self._stopping or self._fault)
            self._busy = self._busy or free
        if not free:
            self.put(outcomes)
            return
        try:
            self._write(outcomes)
        except (sqlite3.Error, OSError):
            free = False  # the calling thread must not wait; the journal's thread retries
        if free:
            self._deliver(outcomes)
        with self._changed:
            self._busy = False
            if not free:  # in front of the outcomes that were added during the write
                self._waiting.add_first(sized(outcomes))
            if self._waiting.queue or self._stopping:
                self._changed.notify_all()

    @property
    def fault(self) -> str | None:
        """Why nothing can be stored now; None while it can."""
        return self._fault

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

    def run(self) -> None:
        """Store and deliver outcomes until `stop`."""
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
            in_a_row = bool(self._waiting.queue)  # outcomes were added while the last batch was written
            if not self._waiting.queue and not self._stopping:
                self._changed.wait(1.0)
            if self._busy:  # another thread is in `store`, and notifies at its end
                self._changed.wait_for(lambda: not self._busy, 1.0)
                return []
            if self._sync and in_a_row:
                self._changed.wait_for(lambda: self._stopping, _GATHER_S)
            batch = self._waiting.take()
            self._busy = bool(batch)
            return None if self._stopping and not batch else batch

    def _store(self, batch: list[AnyOutcome]) -> None:
        while True:
            try:
                self._write(batch)
                break
            except (sqlite3.Error, OSError) as error:
                if self._fault is None:
                    logger.error("the journal cannot be written; no frame is acked until it can: %s", error)
                self._fault = f"the journal {self.database.path} cannot be written: {error}"
                if self._stopping:
                    raise
                time.sleep(_RETRY_S)
        if self._fault is not None:
            logger.warning("the journal can be written again")
            self._fault = None

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
            logger.warning("the write-ahead log of the journal could not be copied into its file: %s", error)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
