"""Streams of the journal whose model is gone: they wait, as they were, until the model is loaded again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trackd.config import LimitsConfig
from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.queue import Command
from trackd.engine.stream_state import ScorerFactory, StreamState
from trackd.identity.gallery import Galleries
from trackd.server.publisher import Publisher
from trackd.server.session import Session
from trackd.store.looks_folder import LooksFolder, report
from trackd.store.records import CloseRecord, StoredStream
from trackd_client.protocol import Closed, ErrorCode, EventName, Open, ProtocolError, Status

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class UnavailableStream:
    """A stream that was open when the last daemon ended, and cannot be tracked now."""

    session: Session
    message: Open  # that made it
    stored: StoredStream
    reason: str


def rebuilt_state(
    session: Session,
    message: Open,
    stored: StoredStream,
    make_scorer: ScorerFactory,
    limits: LimitsConfig,
    galleries: Galleries,
    looks: LooksFolder | None = None,
) -> StreamState:
    """Return the state of a stored stream in the engine: its snapshot, and the frames after that tracked again.

    What was learnt of its animals is continued where `looks` has it. If it cannot be used, that is logged.

    Raises:
        DamagedError: the stored bytes are damaged, or are tracked with other ids than those published.
    """
    state = StreamState(
        session.name, session.epoch, stored.opened.first_seq, session.settings, message.skeleton,
        message.frame_shape, make_scorer, limits, galleries=galleries,
    )  # fmt: skip
    state.zones = session.zones
    since = stored.opened.first_seq - 1
    if stored.snapshot is not None:
        state.restore(stored.snapshot)
        since = stored.snapshot.seq
    for record in stored.frames:
        if record.seq > since and record.epoch == session.epoch and record.status == Status.TRACKED:
            state.replay(record)
    if looks is not None and state.identification is not None:
        _continue_looks(state, stored, looks)
    return state


def _continue_looks(state: StreamState, stored: StoredStream, folder: LooksFolder) -> None:
    found = folder.read(state.name, state.epoch)
    if found is None:
        return
    try:
        state.continue_looks(found, stored.frames, stored.last_seq)
    except (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
        report(state.name, str(error)[:200])


class UnavailableStreams:
    """All unavailable streams by name; only the IO thread uses it. Their rows in the journal stay as they are."""

    def __init__(
        self,
        inbox: Inbox,
        engine: Engine,
        publisher: Publisher,
        forget_looks: Callable[[str], None] = lambda stream: None,
    ) -> None:
        self._forget_looks = forget_looks
        self._inbox = inbox
        self._engine = engine
        self._publisher = publisher
        self._by_name: dict[str, UnavailableStream] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[UnavailableStream]:
        return iter(list(self._by_name.values()))

    def add(self, stream: UnavailableStream) -> None:
        """Add a stream."""
        self._by_name[stream.session.name] = stream
        logger.warning(
            "stream=%s epoch=%d seq=%d: unavailable: %s",
            stream.session.name, stream.session.epoch, stream.session.settled_seq, stream.reason,
        )  # fmt: skip

    def get(self, name: str) -> UnavailableStream | None:
        """Return the unavailable stream of this name; None where there is none."""
        return self._by_name.get(name)

    def waiting_for(self, model: str) -> list[UnavailableStream]:
        """Return the streams of a model."""
        return [stream for stream in self if stream.session.model == model]

    def take(self, stream: UnavailableStream) -> bool:
        """Remove a stream, to open it again; returns whether it was here: it may have been closed."""
        if self._by_name.get(stream.session.name) is not stream:
            return False
        del self._by_name[stream.session.name]
        return True

    def check(self, name: str, seq: int | None = None) -> None:
        """Check that a stream is not unavailable.

        Raises:
            ProtocolError: it is (`unknown_model`); the text gives the reason, and what can be done.
        """
        stream = self._by_name.get(name)
        if stream is not None:
            raise ProtocolError(
                ErrorCode.UNKNOWN_MODEL,
                f"stream {name!r} is unavailable: {stream.reason}; load its model again, or close it by control",
                stream=name,
                seq=seq,
            )

    def close(self, stream: UnavailableStream, done: Callable[[Closed], None]) -> None:
        """Close a stream for good: its rows are removed from the journal."""
        session = stream.session
        if not self.take(stream):
            return
        self._inbox.add(session.queue)

        def closed(_: Any, error: Exception | None) -> None:
            self._inbox.remove(session.queue)
            self._forget_looks(session.name)
            logger.info("stream=%s seq=%d: closed by control while unavailable", session.name, session.settled_seq)
            self._publisher.event(session, EventName.CLOSED, {"reason": "closed by control"})
            done(Closed(session.name, session.epoch, session.settled_seq))

        self._inbox.command(
            session.queue, Command(-1, lambda: self._engine.record(lambda: CloseRecord(session.name)), closed)
        )
