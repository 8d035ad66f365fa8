"""The IO thread: one poller over the three sockets and the engine's outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import zmq

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.outcome import CommandResult, Outcome, Settlement, output_record
from trackd.observe.health import Health
from trackd.outputs.thread import OutputsThread
from trackd.server.access.curve import Security
from trackd.server.access.grants import UNRESTRICTED
from trackd.server.control import Control
from trackd.server.ingest import Ingest
from trackd.server.publisher import Publisher
from trackd.server.revocation import Revocation
from trackd.server.session import Session, Sessions
from trackd.server.sockets import Sockets, confirmed_key
from trackd.server.stream_lifecycle import Streams
from trackd.server.subscriptions import Subscriptions
from trackd.store.journal import Journal
from trackd_client.protocol import Error, ErrorCode, EventName
from trackd_client.transport.multipart import receive_message

logger = logging.getLogger(__name__)

_HEARTBEAT_NS = 1_000_000_000
_MOST_REQUESTS_NS = 5_000_000  # spent on requests in one turn: a `history` request may take long
_BURST = 64  # messages of one socket before the other sockets get their turn


class Server:
    """Receives messages, hands frames to the engine, and publishes the outcomes, until drained."""

    def __init__(
        self,
        sockets: Sockets,
        ingest: Ingest,
        control: Control,
        publisher: Publisher,
        sessions: Sessions,
        streams: Streams,
        inbox: Inbox,
        outbox: Outbox,
        engine: Engine,
        outputs: OutputsThread,
        journal: Journal[Outcome] | None,
        health: Health,
        max_parts: int,
        security: Security | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._sockets = sockets
        self._ingest = ingest
        self._control = control
        self._publisher = publisher
        self._sessions = sessions
        self._streams = streams
        self._inbox = inbox
        self._outbox = outbox
        self._outputs = outputs
        self._journal = journal
        self._health = health
        self._engine = engine
        self._snapshots_stored = False
        self._most_parts = max_parts + 3  # a routing id, a delimiter, a header
        self._clock = clock
        self._security = security
        self._subscriptions = Subscriptions(sockets, security, publisher.count_refusal)
        self._revocation: Revocation | None = None
        if security is not None:
            self._revocation = Revocation(security, sockets, sessions, publisher, self._subscriptions)

    def run(self) -> None:
        """Run the IO thread until the daemon is drained."""
        poller = zmq.Poller()
        outbox_fd = self._outbox.fileno()
        poller.register(outbox_fd, zmq.POLLIN)
        receivers = {
            self._sockets.ingest: self._receive_ingest,
            self._sockets.control: self._receive_control,
            self._sockets.tracks: self._subscriptions.receive,
        }
        for bound in receivers:
            poller.register(bound, zmq.POLLIN)
        next_heartbeat_ns = self._clock() + _HEARTBEAT_NS
        stepped_inline = False
        while not (self._health.draining and self._drained()):
            wait_ms = max(0, (next_heartbeat_ns - self._clock()) // 1_000_000)
            may_sleep = self._outbox.may_sleep()
            if not may_sleep or (stepped_inline and self._inbox.ready_inline):
                wait_ms = 0
            ready = dict(poller.poll(min(wait_ms, 20) if self._health.draining else wait_ms))
            signalled = outbox_fd in ready
            self._outbox.begin_take(signalled)
            self._ingest.draining = self._health.draining
            if signalled or not may_sleep:
                self._publish_outcomes()
                self._ack_caught_up()
            for bound, receive in receivers.items():
                if bound in ready:
                    receive()
            stepped_inline = self._engine.step_inline()
            if stepped_inline:
                self._publish_outcomes()
            if self._inbox.ready:
                self._inbox.wake(leave_short=stepped_inline)
            now = self._clock()
            standstill_ns = now - self._health.last_io_ns - _HEARTBEAT_NS
            if standstill_ns > _HEARTBEAT_NS:  # the process was stopped or blocked, and received no message
                self._sessions.skip_standstill(standstill_ns)
            self._health.last_io_ns = now
            if now >= next_heartbeat_ns:
                next_heartbeat_ns = now + _HEARTBEAT_NS
                self._heartbeat(now)
        self._publish_outcomes()
        for session in self._sessions:
            if self._journal is None:
                self._publisher.event(session, EventName.CLOSED, {"reason": "the daemon was drained"})
            self._outputs.close(session.name)

    def _drained(self) -> bool:
        """Return whether all received frames are published; checked in the order in which they are handed on."""
        if not self._inbox.idle or not (self._journal is None or self._journal.idle) or self._outbox:
            return False
        if self._journal is not None and not self._snapshots_stored:
            self._snapshots_stored = True
            self._streams.store_snapshots()
            return not len(self._sessions)
        return True

    def _receive_ingest(self) -> None:
        security, socket = self._security, self._sockets.ingest
        for number in range(_BURST):
            received = receive_message(socket, self._most_parts, ready=number == 0)
            if received is None:
                return
            parts, frame = received
            grant = UNRESTRICTED if security is None else security.grants.get(confirmed_key(frame))
            self._ingest.handle(bytes(parts[0]), parts[1:], grant)

    def _receive_control(self) -> None:
        security, socket = self._security, self._sockets.control
        until = self._clock() + _MOST_REQUESTS_NS
        for _ in range(_BURST):
            if self._clock() >= until:
                return
            received = receive_message(socket, self._most_parts)
            if received is None:
                return
            parts, frame = received
            split = 2 if len(parts) > 1 and len(parts[1]) == 0 else 1
            envelope = [bytes(part) for part in parts[:split]]
            grant = UNRESTRICTED if security is None else security.grants.get(confirmed_key(frame))
            self._control.handle(envelope, parts[split:], grant)

    def _publish_outcomes(self) -> None:
        """Publish all settlements and finish all commands in the outbox, in order; one ack for all of a stream.

        A stream whose client has credit left and whose queue is not empty is not acked yet: its next settlement follows
        soon, and one ack for each frame would be a third of all messages.
        """
        to_ack: dict[Session, None] = {}
        for outcome, stored_ns in self._outbox.take():
            if isinstance(outcome, CommandResult):
                self._ack(to_ack)  # the reply to a command follows the acks of the frames before it
                outcome.done(outcome.result, outcome.error)
            elif (session := self._publish(outcome, stored_ns)) is not None:
                if session.credit * 2 > session.queue.depth and len(session.queue):
                    to_ack.pop(session, None)
                else:
                    to_ack[session] = None
        self._ack(to_ack)

    def _ack(self, sessions: dict[Session, None]) -> None:
        for session in sessions:
            self._publisher.ack(session)
        sessions.clear()

    def _ack_caught_up(self) -> None:
        """Ack streams whose ack is due, once the outputs of a stream have caught up."""
        if not self._outputs.caught_up():
            return
        for session in self._sessions:
            if session.ack_due and session.settled_seq >= 0:
                self._publisher.ack(session)

    def _publish(self, settlement: Settlement, stored_ns: int | None) -> Session | None:
        session = self._sessions.get(settlement.head.stream)
        if session is None or session.queue is not settlement.queue:
            logger.error(
                "stream=%s seq=%d: settled after the stream was closed", settlement.head.stream, settlement.head.seq
            )
            return None
        tracks = self._publisher.publish(session, settlement, stored_ns)
        session.history.append(tracks)
        if session.settings.stream.outputs:
            record = output_record(tracks, settlement.detections)
            if record is not None:
                self._outputs.write(session.name, record)
        return session

    def _heartbeat(self, now: int) -> None:
        fault = None if self._journal is None else self._journal.fault
        for session in self._sessions:
            self._publisher.event(session, EventName.HEARTBEAT)
            if session.ack_due and session.settled_seq >= 0 and not self._outputs.is_behind(session.name):
                self._publisher.ack(session)
            reason = fault or self._outputs.fault(session.name)
            if reason is not None and session.owner:
                self._publisher.reply(session.owner, Error(ErrorCode.INTERNAL, reason, session.name))
        self._streams.close_idle(now)
        self._inbox.wake()  # for the commands of closed streams
        if self._revocation is not None:
            self._revocation.apply()
