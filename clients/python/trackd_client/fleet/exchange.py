"""The messages of one stream of a fleet over one connection, which goes to the member that has the stream.

The connection asks a member where the stream is (on `control`), and then goes to the owner (on `ingest`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Any

from trackd_client.errors import Timeout, TrackdError, Unreachable
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.place import Place, stated_place
from trackd_client.fleet.steps import PAUSE_S, Ask, Pause, locating
from trackd_client.protocol import (
    REPLY_LIMITS,
    Error,
    ErrorCode,
    Message,
    Opened,
    ProtocolError,
    Reply,
    Request,
    decode,
    encode,
)
from trackd_client.requests import result_of
from trackd_client.sending.exchange import READ_S, Exchange
from trackd_client.sending.session import SessionState
from trackd_client.transport.connection import Connection

logger = logging.getLogger(__name__)

PING_S = 1.0  # without a message; then ping
CONNECT_S = 1.0  # for the first message of a member, after the `open`
SILENCE_S = 2.0  # for any message after a ping
WARN_S = 5.0  # between two warnings that a stream is not found
INTERNAL_S = 1.0  # after a fault of a member that should open the stream


class FleetExchange(Exchange):
    """Sends and receives for one stream, wherever it is.

    Args:
        connection: to any endpoint; it is redirected.
        directory: the members, shared with the client's other streams.
        stream: its name.
    """

    def __init__(self, connection: Connection, directory: Directory, stream: str) -> None:
        super().__init__(connection)
        self.place: Place | None = None  # where the stream was last looked for
        self._directory = directory
        self._stream = stream
        self._steps: Generator[Ask | Pause, Any, Place] | None = None  # the stream is being located
        self._asked: int | None = None  # the id of the request that waits for its reply
        self._ask_until = 0.0
        self._request_ids = 0
        self._resume_at: float | None = None  # a pause, then go to `_next_place`, or continue to locate
        self._next_place: Place | None = None
        self._serving = False  # the connection is to the ingest endpoint of `place`
        self._heard_at: float | None = None  # the last message of that connection
        self._unanswered_since: float | None = None  # the first ping after it
        self._hops = 0  # places since the stream was open
        self._warned_at = -WARN_S

    def turn(self, now: float, *, read: bool = True, until: Callable[[], Any] | None = None) -> bool:
        """See `Exchange.turn`; also locate the stream where that is due."""
        received = False
        if read or now - self._read_at >= READ_S:
            self._read_at = now
            while (parts := self.connection.receive()) is not None:
                received = True
                if self._serving:
                    self._heard_at, self._unanswered_since = now, None
                    self._handle(parts)
                elif self._asked is not None:
                    self._read_reply(parts, now)
                if until is not None and until():
                    break
        if any(not session.ended for session in self.sessions.values()):
            self._follow(now)
        if self._serving:
            self._send(now, may_retry=now >= self._retry_at)
            if self._unanswered_since is None and self._ping_due(now):
                self.ping()
        return received

    @property
    def retry_due(self) -> bool:
        """Whether the stream is being located, or something else must be done soon without a message."""
        if not self._serving:
            return any(not session.ended for session in self.sessions.values())
        return any(session.retry_due for session in self.sessions.values())

    def ping(self) -> None:
        """Send a ping, if the connection is to a member that should have the stream."""
        if not self._serving:
            return
        super().ping()
        if self._unanswered_since is None:
            self._unanswered_since = self.pinged_at

    def _ping_due(self, now: float) -> bool:
        return self._heard_at is None or now - self._heard_at >= PING_S

    # --- where it is ---

    def _follow(self, now: float) -> None:
        """Handle a lost connection and what is overdue."""
        if self._serving:
            fault = self._fault(now)
            if fault is not None:
                self._lose(fault, now, pause_s=PAUSE_S if self._hops else 0.0)
        elif self._resume_at is not None:
            if now >= self._resume_at:
                self._resume(now)
        elif self._steps is None:
            self._locate(now)
        elif self._asked is not None:
            if self.connection.disconnected or self.connection.unreachable:
                self._fail(Unreachable(self.connection.refusal or "it cannot be reached"), now)
            elif now >= self._ask_until:
                self._fail(Timeout(self.connection.refusal or "it did not answer"), now)

    def _fault(self, now: float) -> str | None:
        """Return why the connection is of no use any more, or None."""
        if self.connection.disconnected:
            return self.connection.refusal or "the connection was lost"
        if self._heard_at is None and self.connection.unreachable:
            return "it cannot be reached"
        limit_s = CONNECT_S if self._heard_at is None else SILENCE_S
        if self._unanswered_since is not None and now - self._unanswered_since >= limit_s:
            return "it does not answer"
        return None

    def _lose(self, why: str, now: float, *, pause_s: float, next_place: Place | None = None) -> None:
        """Leave the present member: the frames without an ack wait until the stream is open again."""
        if self.place is not None:
            self._directory.answered(self._stream, self.place.control, f"member {self.place.member!r}: {why}")
            self._directory.forget(self._stream, self.place)
        if now - self._warned_at >= WARN_S and any(session.was_open for session in self.sessions.values()):
            self._warned_at = now
            logger.warning(
                "stream=%s member=%s: %s; the client looks for the stream, %d frames wait for an ack",
                self._stream, self.place.member if self.place else None, why,
                sum(session.unacked for session in self.sessions.values()),
            )  # fmt: skip
        for session in self.sessions.values():
            session.disconnected()
        self._serving = False
        self._steps = None
        self._asked = None
        self._next_place = next_place
        self._hops += 1
        self._resume_at = now + pause_s
        if pause_s <= 0:
            self._resume(now)

    def _resume(self, now: float) -> None:
        self._resume_at = None
        place, self._next_place = self._next_place, None
        if place is not None:
            self._go(place, now)
        elif self._steps is not None:
            steps = self._steps
            self._step(lambda: steps.send(None), now)
        else:
            self._locate(now)

    def _locate(self, now: float) -> None:
        steps = self._steps = locating(self._directory, self._stream)
        self._step(lambda: next(steps), now)

    def _fail(self, error: TrackdError, now: float) -> None:
        steps = self._steps
        if steps is not None:
            self._step(lambda: steps.throw(error), now)

    def _read_reply(self, parts: list[bytes], now: float) -> None:
        steps = self._steps
        try:
            reply = decode(parts, REPLY_LIMITS)
            if steps is None or not isinstance(reply, Reply) or reply.id != self._asked:
                return
            result = result_of(reply)
        except ProtocolError as error:
            self._fail(TrackdError(error.message, error.code), now)
        except TrackdError as error:
            self._fail(error, now)
        else:
            self._step(lambda: steps.send(result), now)

    def _step(self, proceed: Callable[[], Ask | Pause], now: float) -> None:
        """Do the next step of the search; `proceed` gets it from the generator."""
        self._asked = None
        try:
            step = proceed()
        except StopIteration as found:
            self._steps = None
            self._go(found.value, now)
            return
        if isinstance(step, Pause):
            self._resume_at = now + step.seconds
            return
        self._request_ids += 1
        self._asked = self._request_ids
        self._ask_until = now + (step.limit_s or CONNECT_S)
        self.connection.redirect(step.endpoint)
        self.connection.send(encode(Request(self._asked, step.method, step.params)))

    def _go(self, place: Place, now: float) -> None:
        """Connect to a member, and open the stream there."""
        if self.place is None or self.place.ingest != place.ingest:
            self.clock.clear()
        self.place = place
        self.connection.redirect(place.ingest)
        self._serving = True
        self._heard_at = self._unanswered_since = None
        self._retry_at = now
        for session in self.sessions.values():
            session.directed(place.member)
            session.disconnected()

    # --- what the member says ---

    def _receive(self, message: Message) -> None:
        if isinstance(message, Error) and (session := self.sessions.get(message.stream or "")) is not None:
            now = time.monotonic()
            opening = session.state is SessionState.OPENING and message.seq is None
            if message.code is ErrorCode.MOVED:
                self._moved(message, now)
                return
            if message.code is ErrorCode.DRAINING or (opening and message.code is ErrorCode.INTERNAL):
                super()._receive(message)
                pause_s = PAUSE_S if message.code is ErrorCode.DRAINING else INTERNAL_S
                self._lose(f"{message.code}: {message.message}", now, pause_s=pause_s)
                return
            if message.code is ErrorCode.STREAM_BUSY and opening and session.was_open and not message.fatal:
                # With `takeover` only a stream that is being handed on, or closed, is busy.
                self._lose(message.message, now, pause_s=PAUSE_S)
                return
        super()._receive(message)
        if isinstance(message, Opened):
            if self._hops:
                logger.info(
                    "stream=%s epoch=%d seq=%d: open at member %s",
                    self._stream, message.epoch, message.next_seq, self.place.member if self.place else None,
                )  # fmt: skip
            self._hops = 0
            self._directory.found(self._stream)

    def _moved(self, error: Error, now: float) -> None:
        """Go to the member that an error names; where it names none, or one from before a move, locate the stream."""
        place = stated_place({"member": error.member, "endpoints": error.endpoints, "term": error.term})
        if place is not None and self._directory.accept(self._stream, place):
            self._lose(error.message, now, pause_s=PAUSE_S if self._hops else 0.0, next_place=place)
        else:
            self._lose(error.message, now, pause_s=PAUSE_S)
