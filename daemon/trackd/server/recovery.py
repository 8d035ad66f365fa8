"""Open the streams of the journal again, at the start of a daemon or when a model is loaded that was gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trackd.config import LimitsConfig
from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import output_record_of
from trackd.engine.queue import AT_ONCE, Command
from trackd.engine.stream_state import ScorerFactory, StreamState
from trackd.identity.gallery import Galleries
from trackd.models.registry import ModelRegistry
from trackd.outputs.thread import OutputsThread
from trackd.server.session import Session, Sessions, restored_session
from trackd.server.unavailable import UnavailableStream, UnavailableStreams, rebuilt_state
from trackd.store.looks_folder import LooksFolder
from trackd.store.records import FrameRecord, Record, StoredStream
from trackd_client.protocol import Open

logger = logging.getLogger(__name__)


class Recovery:
    """Opens streams as the journal has them; only the IO thread uses it, but for `rebuilt`."""

    def __init__(
        self,
        limits: LimitsConfig,
        sessions: Sessions,
        inbox: Inbox,
        engine: Engine,
        models: ModelRegistry,
        outputs: OutputsThread,
        unavailable: UnavailableStreams,
        galleries: Path,
        looks: LooksFolder | None = None,
    ) -> None:
        self._looks = looks
        self._limits = limits
        self._sessions = sessions
        self._inbox = inbox
        self._engine = engine
        self._models = models
        self._outputs = outputs
        self._unavailable = unavailable
        self._galleries = Galleries(galleries, lenient=True)

    def recover(self, stored: StoredStream, now_ns: int) -> list[Record]:
        """Open a stream as it was when the last daemon ended. Call this before any thread runs.

        Where its model is gone, the stream becomes unavailable, and stays in the journal as it is. A stream that lacks
        frames which were acked begins a new epoch, without tracks; its records are returned, to be stored before any
        thread runs.

        Raises:
            ConfigError: the stored stream does not fit this daemon.
            DamagedError: the stored bytes are damaged.
        """
        hole = stored.hole
        if hole is not None:
            stored = stored.in_new_epoch(self._sessions.next_epoch())
        session, message = restored_session(stored, self._limits.history_bytes, now_ns)
        session.hole = hole
        records: list[Record] = [] if hole is None else [stored.opened]
        if hole is not None:
            logger.error(
                "stream=%s epoch=%d: %s. The stream begins this epoch, without tracks, at seq %d",
                session.name, session.epoch, hole, session.next_seq,
            )  # fmt: skip
        reason = self._models.fault(session.model, session.model_digest)
        if reason is not None:
            self._unavailable.add(UnavailableStream(session, message, stored, reason))
            return records
        make_scorer = self._models.scorer_factory(session.model)
        state = rebuilt_state(session, message, stored, make_scorer, self._limits, self._galleries, self._looks)
        self._add_recovered(session, message, stored, state)
        self._engine.open(session.queue, state)
        if hole is None:
            logger.info("stream=%s epoch=%d seq=%d: recovered", session.name, session.epoch, session.settled_seq)
            return []
        return [*records, state.snapshot_record(session.settled_seq)]

    def _add_recovered(self, session: Session, message: Open, stored: StoredStream, state: StreamState) -> None:
        session.queue.active_tracks = state.n_live
        self._sessions.add(session)
        self._inbox.add(session.queue)
        if session.settings.stream.outputs:
            self._continue_outputs(session, message, stored)

    def rebuilt(self, stream: UnavailableStream, make_scorer: ScorerFactory) -> StreamState:
        """Return the state in the engine of an unavailable stream; any thread may call this.

        Raises:
            DamagedError: its stored frames are damaged, or are tracked with other ids than those published.
        """
        return rebuilt_state(
            stream.session, stream.message, stream.stored, make_scorer, self._limits, self._galleries, self._looks
        )

    def restore(self, stream: UnavailableStream, state: StreamState, now_ns: int) -> None:
        """Open an unavailable stream again, without an owner, since its model is loaded now.

        Args:
            stream: as `unavailable` has it; nothing happens if it was closed.
            state: its state in the engine, rebuilt with the model.
            now_ns: monotonic.
        """
        session = stream.session
        if not self._unavailable.take(stream):
            return
        session.last_open_ns = now_ns
        session.opening = True
        self._add_recovered(session, stream.message, stream.stored, state)

        def opened(_: Any, error: Exception | None) -> None:
            session.opening = False
            logger.info("stream=%s epoch=%d seq=%d: available again", session.name, session.epoch, session.settled_seq)

        self._inbox.command(session.queue, Command(AT_ONCE, lambda: self._engine.open(session.queue, state), opened))

    def _continue_outputs(self, session: Session, message: Open, stored: StoredStream) -> None:
        """Continue the output files of an earlier daemon, and write the frames that it settled and they lack."""
        kinds = session.settings.stream.outputs
        written = self._outputs.open(session.name, kinds, message, session.opened_epoch, session.settled_seq)
        missing = [record for record in stored.frames if record.seq > written]
        first = missing[0].seq if missing else session.settled_seq + 1
        if first > written + 1:
            logger.error(
                "stream=%s: its outputs lack seq=%d to %d: the journal does not have these frames any more",
                session.name, written + 1, first - 1,
            )  # fmt: skip
        write_missing(self._outputs, session.name, missing)


def write_missing(outputs: OutputsThread, name: str, records: Iterable[FrameRecord]) -> None:
    """Write stored frames into the output files of a stream that is open."""
    for record in records:
        output = output_record_of(record)
        if output is None:
            outputs.skip(name, record.seq)
        else:
            outputs.write(name, record.seq, output, record.nbytes)
