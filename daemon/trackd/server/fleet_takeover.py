"""A stream as its log has it, made ready to be opened by the member that has claimed it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from trackd.config import LimitsConfig
from trackd.engine.stream_state import StreamState
from trackd.fleet.stored_log import StoredLog
from trackd.identity.gallery import Galleries
from trackd.models.registry import ModelRegistry
from trackd.server.session import Session, restored_session
from trackd.server.unavailable import rebuilt_state
from trackd.store.codec import DamagedError
from trackd.store.records import FrameRecord, StoredStream
from trackd_client.protocol import ErrorCode, Open, ProtocolError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TakenStream:
    """A stream of another member, or of an earlier process, made ready to be opened here."""

    session: Session
    message: Open  # that made it
    state: StreamState
    unwritten: list[FrameRecord]  # settled frames that the last owner's output files may lack


class Takeovers:
    """Makes streams ready, each on a thread of its own.

    Args:
        member: this one's name.
        limits, models, galleries: of the streams.
        clock_s: the wall clock, s since 1970.
    """

    def __init__(
        self,
        member: str,
        limits: LimitsConfig,
        models: ModelRegistry,
        galleries: Galleries,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._member = member
        self._limits = limits
        self._models = models
        self._galleries = galleries
        self._clock_s = clock_s

    def prepare(self, log: StoredLog) -> TakenStream | None:
        """Make a stream ready on a thread of its own; None: it is new, or was closed."""
        stored = log.result()
        if stored is None:
            return None
        reason = self._models.fault(stored.opened.opened["model"], stored.opened.opened.get("model_digest"))
        if reason is not None:
            raise ProtocolError(
                ErrorCode.UNKNOWN_MODEL,
                f"stream {log.stream!r} cannot go on at member {self._member!r}: {reason}",
                stream=log.stream,
            )
        unwritten = []
        if log.written_seq is not None:
            unwritten = [record for record in stored.frames if record.seq > log.written_seq]
        if stored.hole is None:
            try:
                return self._rebuilt(stored, unwritten)
            except DamagedError as error:
                stored = replace(stored, hole=str(error))
        stored = stored.in_new_epoch(max(log.epoch + 1, int(self._clock_s() * 1e6)))
        return self._rebuilt(stored, unwritten, stored.hole)

    def _rebuilt(self, stored: StoredStream, unwritten: list[FrameRecord], hole: str | None = None) -> TakenStream:
        session, message = restored_session(stored, self._limits.history_bytes, time.monotonic_ns())
        session.hole = hole
        if hole is not None:
            logger.error(
                "stream=%s epoch=%d: %s. The stream begins this epoch, without tracks, at seq %d",
                session.name, session.epoch, hole, session.next_seq,
            )  # fmt: skip
        make_scorer = self._models.scorer_factory(session.model)
        state = rebuilt_state(session, message, stored, make_scorer, self._limits, self._galleries)
        return TakenStream(session, message, state, unwritten)
