"""The IO thread: one poller over the three sockets and the engine's outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import zmq

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.outcome import CommandResult, Outcome, Settlement
from trackd.observe.health import Health
from trackd.outputs.thread import OutputsThread
from trackd.server.access.curve import Security
from trackd.server.access.grants import UNRESTRICTED, Grant
from trackd.server.control import Control
from trackd.server.ingest import Ingest
from trackd.server.publisher import Publisher
from trackd.server.revocation import Revocation
from trackd.server.session import Session, Sessions
from trackd.server.sockets import Sockets, receive
from trackd.server.stream_lifecycle import Streams
from trackd.server.subscriptions import Subscriptions
from trackd.store.journal import Journal
from trackd_client.protocol import Error, ErrorCode, EventName

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
_MOST_REQUESTS_NS = 5_000_000  # of one turn spent on requests: `history` may take long
_BURST = 64  # messages of one socket before the others get their turn


class Server:
    """Receives, hands to the engine, and publishes what comes back, until drained."""

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
        self._keyed = security is not None
        self._subscriptions = Subscriptions(sockets, security, publisher.count_refusal)
        self._revocation: Revocation | None = None
        if security is not None:
            self._revocation = Revocation(security, sockets, sessions, publisher, self._subscriptions)

    def run(self) -> None:
        """The thread's life: until draining is asked for and done."""
        poller = zmq.Poller()
        poller.register(self._outbox.fileno(), zmq.POLLIN)
        receivers = {
            self._sockets.ingest: self._receive_ingest,
            self._sockets.control: self._receive_control,
            self._sockets.tracks: self._subscriptions.take_in,
        }
        for bound in receivers:
            poller.register(bound, zmq.POLLIN)
        next_beat = self._clock() + int(_HEARTBEAT_S * 1e9)
        stepped_inline = False
        while not (self._health.draining and self._settled()):
            wait_ms = max(0, (next_beat - self._clock()) // 1_000_000)
            if not self._outbox.may_sleep() or (stepped_inline and self._inbox.ready):
                wait_ms = 0
            ready = dict(poller.poll(min(wait_ms, 20) if self._health.draining else wait_ms))
            self._outbox.begin_take(self._outbox.fileno() in ready)
            self._ingest.draining = self._health.draining
            self._flush()
            for bound, take_in in receivers.items():
                if bound in ready:
                    take_in()
            stepped_inline = self._engine.step_inline()
            if stepped_inline:
                self._flush()
            else:
                self._inbox.wake()
            now = self._clock()
            still_ns = now - self._health.last_io_ns - int(_HEARTBEAT_S * 1e9)
            if still_ns > int(_HEARTBEAT_S * 1e9):  # stopped, or held up: nobody could be heard
                self._sessions.skip_standstill(still_ns)
            self._health.last_io_ns = now
            if now >= next_beat:
                next_beat = now + int(_HEARTBEAT_S * 1e9)
                self._beat(now)
        self._flush()
        for session in self._sessions:
            if self._journal is None:
                self._publisher.event(session, EventName.CLOSED, {"reason": "the daemon was drained"})
            self._outputs.close(session.name)

    def _settled(self) -> bool:
        """Whether all that was received has been published; asked in the order in which it is handed on."""
        if not self._inbox.idle or not (self._journal is None or self._journal.idle) or self._outbox:
            return False
        if self._journal is not None and not self._snapshots_stored:
            self._snapshots_stored = True
            self._streams.store_snapshots()
            return not len(self._sessions)
        return True

    def _receive_ingest(self) -> None:
        for number in range(_BURST):
            received = receive(self._sockets.ingest, self._most_parts, self._keyed, sure=number == 0)
            if received is None:
                return
            parts = received.parts
            self._ingest.handle(bytes(parts[0]), parts[1:], self._grant(received.key))

    def _receive_control(self) -> None:
        until = self._clock() + _MOST_REQUESTS_NS
        for _ in range(_BURST):
            if self._clock() >= until:
                return
            received = receive(self._sockets.control, self._most_parts, self._keyed)
            if received is None:
                return
            parts = received.parts
            split = 2 if len(parts) > 1 and len(parts[1]) == 0 else 1
            envelope = [bytes(part) for part in parts[:split]]
            self._control.handle(envelope, parts[split:], self._grant(received.key))

    def _grant(self, key: str) -> Grant | None:
        """What a sender may do; None where its key was taken away since it came in."""
        return UNRESTRICTED if self._security is None else self._security.grants.get(key)

    def _flush(self) -> None:
        """Publish what the engine has settled, and finish its commands, in order; one ack for all of a stream.

        A stream whose client may go on, and of which more will settle, is acked then: an ack a frame would be a
        third of all messages.
        """
        settled: dict[Session, None] = {}
        for outcome, stored_ns in self._outbox.take():
            if isinstance(outcome, CommandResult):
                self._ack(settled)  # what a command answers comes behind the acks of what was before it
                outcome.done(outcome.result, outcome.error)
            elif (session := self._publish(outcome, stored_ns)) is not None:
                if session.credit * 2 > session.queue.depth and len(session.queue):
                    settled.pop(session, None)
                else:
                    settled[session] = None
        self._ack(settled)
        for session in self._sessions if self._outputs.caught_up() else ():
            if session.ack_due and session.settled_seq >= 0:
                self._publisher.ack(session)

    def _ack(self, settled: dict[Session, None]) -> None:
        for session in settled:
            self._publisher.ack(session)
        settled.clear()

    def _publish(self, settlement: Settlement, stored_ns: int | None) -> Session | None:
        session = self._sessions.get(settlement.head.stream)
        if session is None or session.queue is not settlement.queue:
            logger.error("stream=%s seq=%d: settled after its close", settlement.head.stream, settlement.head.seq)
            return None
        tracks = self._publisher.publish(session, settlement, stored_ns)
        session.history.append(tracks)
        if session.settings.stream.outputs:
            self._outputs.write(session.name, tracks, settlement.detections)
        return session

    def _beat(self, now: int) -> None:
        fault = None if self._journal is None else self._journal.fault
        for session in self._sessions:
            self._publisher.event(session, EventName.HEARTBEAT)
            if session.ack_due and session.settled_seq >= 0 and not self._outputs.is_behind(session.name):
                self._publisher.ack(session)
            why = fault or self._outputs.fault(session.name)
            if why is not None and session.owner:
                self._publisher.reply(session.owner, Error(ErrorCode.INTERNAL, why, session.name))
        self._streams.close_idle(now)
        self._inbox.wake()  # for what that asked
        if self._revocation is not None:
            self._revocation.look()
