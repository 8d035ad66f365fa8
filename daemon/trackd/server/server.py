"""The IO thread: one poller over the three sockets and the engine's outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import zmq

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.outcome import CommandResult, Settlement, output_record
from trackd.observe.health import Health
from trackd.outputs.thread import OutputsThread
from trackd.server.access.curve import Security
from trackd.server.access.grants import UNRESTRICTED, Grant
from trackd.server.budget import Budget
from trackd.server.control import Control
from trackd.server.ingest import FRAMES_ONLY, Ingest
from trackd.server.pages import Pages
from trackd.server.publisher import Publisher
from trackd.server.revocation import Revocation
from trackd.server.session import Session, Sessions
from trackd.server.sockets import Sockets, confirmed_key
from trackd.server.stream_lifecycle import Streams
from trackd.server.subscriptions import Subscriptions
from trackd.store.journal import OutcomeLog
from trackd.viewer.hub import Hub
from trackd_client.protocol import Error, ErrorCode, EventName, ProtocolError
from trackd_client.protocol.arrays import Part
from trackd_client.transport.multipart import receive_message

logger = logging.getLogger(__name__)

_HEARTBEAT_NS = 1_000_000_000
_STANDSTILL_NS = 1_500_000_000  # a poll takes a heartbeat's time at most
_MOST_MESSAGES_NS = 5_000_000  # spent on the messages of one socket in one turn
_WAITING_MS = 10  # between two looks at the messages that wait for their client's budget
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
        journal: OutcomeLog | None,
        health: Health,
        max_parts: int,
        security: Security | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        budget: Budget | None = None,
        pages: Pages | None = None,
    ) -> None:
        self._budget = budget or Budget(clock)
        self._pages = pages or Pages(Hub(), control, sessions, streams.unavailable, self._budget, clock)
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
        pages_due = self._pages.hub.due
        stepped_inline = False
        while not (self._health.failure or (self._health.draining and self._drained())):
            wait_ms = max(0, (next_heartbeat_ns - self._clock()) // 1_000_000)
            may_sleep = self._outbox.may_sleep()
            if not may_sleep or pages_due or (stepped_inline and self._inbox.ready_inline):
                wait_ms = 0
            elif self._budget.may_refuse:
                wait_ms = 0 if self._control.is_answering else min(wait_ms, _WAITING_MS)
            ready = dict(poller.poll(min(wait_ms, 20) if self._health.draining else wait_ms))
            signalled = outbox_fd in ready
            self._outbox.begin_take(signalled)
            self._ingest.draining = self._health.draining
            if signalled or not may_sleep:
                self._publish_outcomes()
                self._take_outputs_progress()
            for bound, receive in receivers.items():
                if bound in ready:
                    receive()
            if self._budget.may_refuse:
                self._control.continue_replies()
                self._budget.run_waiting()
            if pages_due:
                self._pages.run()
            stepped_inline = self._engine.step_inline()
            if stepped_inline:
                self._publish_outcomes()
            if self._inbox.ready:
                self._inbox.wake(leave_short=stepped_inline)
            now = self._clock()
            last_io_ns = self._health.last_io_ns
            if now - last_io_ns > _STANDSTILL_NS:  # the process was stopped or blocked, and received no message
                self._sessions.skip_standstill(last_io_ns, now)
            self._health.last_io_ns = now
            if now >= next_heartbeat_ns:
                next_heartbeat_ns = now + _HEARTBEAT_NS
                self._heartbeat(now)
        self._publish_outcomes()
        self._take_outputs_progress()
        if self._journal is None and self._health.failure is None:  # else the next daemon continues the streams
            for session in self._sessions:
                self._publisher.event(session, EventName.CLOSED, {"reason": "the daemon was drained", "drained": True})
                self._outputs.close(session.name)

    def _drained(self) -> bool:
        """Return whether all received frames are published; checked in the order in which they are handed on."""
        fleet = self._streams.fleet
        if fleet is not None:
            fleet.drain()
        if not self._inbox.idle or not (self._journal is None or self._journal.idle) or self._outbox:
            return False
        if fleet is not None:
            return fleet.idle and not len(self._sessions)
        if self._journal is not None and not self._snapshots_stored:
            self._snapshots_stored = True
            self._streams.store_snapshots()
            return not len(self._sessions)
        return not any(self._waits_for_outputs(session) for session in self._sessions)

    def _waits_for_outputs(self, session: Session) -> bool:
        """Return whether a stream's close or its last ack still waits for its outputs, and they can be written."""
        if session.closing:
            return True
        written = self._outputs.written_seq(session.name, session.settled_seq)
        return (
            session.written_seq is not None and written < session.settled_seq and not self._outputs.fault(session.name)
        )

    def _receive_ingest(self) -> None:
        secured, socket, ingest = self._security is not None, self._sockets.ingest, self._ingest
        until = self._clock() + _MOST_MESSAGES_NS
        for number in range(_BURST):
            # The second look finds out whether more has come. While more follows, to look first takes longer.
            received = receive_message(socket, self._most_parts, ready=number != 1)
            if received is None:
                return
            parts, frame = received
            key = confirmed_key(frame) if secured else ""
            owner, parts = bytes(parts[0]), parts[1:]
            now = self._clock()
            if not self._budget.may_refuse or not self._budget.is_over(key or owner, now):
                ingest.handle(owner, parts, self._grant(key) if secured else UNRESTRICTED)
            elif ingest.may_be_frame(owner, parts):
                ingest.handle(owner, parts, self._grant(key) if secured else UNRESTRICTED, FRAMES_ONLY)
            else:
                self._sessions.note_message(owner, now)
                handle = partial(self._handle_ingest, owner, parts, key)
                if not self._budget.wait(key or owner, sum(map(len, parts)), handle):
                    self._publisher.refuse(owner, _over_budget())
            if now >= until:
                return

    def _handle_ingest(self, owner: bytes, parts: list[Part], key: str) -> None:
        self._ingest.handle(owner, parts, self._grant(key))

    def _grant(self, key: str) -> Grant | None:
        """Return what a client may do now: a message may have waited since it was received."""
        return UNRESTRICTED if self._security is None else self._security.grants.get(key)

    def _receive_control(self) -> None:
        secured, socket = self._security is not None, self._sockets.control
        until = self._clock() + _MOST_MESSAGES_NS
        for _ in range(_BURST):
            now = self._clock()
            if now >= until:
                return
            received = receive_message(socket, self._most_parts)
            if received is None:
                return
            parts, frame = received
            split = 2 if len(parts) > 1 and len(parts[1]) == 0 else 1
            envelope = [bytes(part) for part in parts[:split]]
            key, parts = confirmed_key(frame) if secured else "", parts[split:]
            if not self._budget.may_refuse or not self._budget.is_over(key or envelope[0], now):
                self._handle_request(envelope, parts, key)
                continue
            handle = partial(self._handle_request, envelope, parts, key)
            if not self._budget.wait(key or envelope[0], sum(map(len, parts)), handle):
                self._control.refuse(envelope, _over_budget())

    def _handle_request(self, envelope: list[bytes], parts: list[Part], key: str) -> None:
        self._control.handle(envelope, parts, self._grant(key))

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
            if session.written_seq is None:
                self._publisher.ack(session)
            else:
                self._ack_written(session)
        sessions.clear()

    def _ack_written(self, session: Session) -> None:
        """Ack the frames of a stream that are in its outputs; the ack of the others stays due."""
        session.written_seq = self._outputs.written_seq(session.name, session.settled_seq)
        if session.kept_seq > session.acked_seq:
            self._publisher.ack(session)
        session.ack_due = session.ack_due or session.acked_seq < session.settled_seq

    def _take_outputs_progress(self) -> None:
        """Ack streams whose ack is due, once their outputs are written, and continue closing streams."""
        names, done = self._outputs.take_progress()
        for name in names:
            session = self._sessions.get(name)
            if session is not None and session.ack_due and session.settled_seq >= 0:
                self._ack({session: None})
        for call in done:
            call()

    def _publish(self, settlement: Settlement, stored_ns: int | None) -> Session | None:
        session = self._sessions.get(settlement.head.stream)
        if session is None or session.queue is not settlement.queue:
            logger.error(
                "stream=%s seq=%d: settled after the stream was closed", settlement.head.stream, settlement.head.seq
            )
            return None
        tracks = self._publisher.publish(session, settlement, stored_ns)
        session.history.append(tracks)
        if settlement.looks is not None:
            self._streams.keep_looks(settlement.looks)
        if session.settings.stream.outputs:
            record = output_record(tracks, settlement.detections)
            if record is None:
                self._outputs.skip(session.name, tracks.seq)
            else:
                self._outputs.write(session.name, tracks.seq, record, settlement.nbytes)
        return session

    def _heartbeat(self, now: int) -> None:
        fault, fleet = None if self._journal is None else self._journal.fault, self._streams.fleet
        has_contact = fleet is None or fleet.membership.has_lease
        for session in self._sessions:
            if has_contact:
                self._publisher.event(session, EventName.HEARTBEAT)
            if session.ack_due and session.settled_seq >= 0 and not self._outputs.is_behind(session.name):
                self._ack({session: None})
            reason = fault or self._outputs.fault(session.name)
            if fleet is not None and not has_contact:
                fleet.lose_contact(session)
            elif reason is not None and session.owner:
                self._publisher.reply(session.owner, Error(ErrorCode.INTERNAL, reason, session.name))
        self._publisher.look_at_subscribers()
        self._control.look_at_replies()
        self._pages.list_streams()
        self._streams.close_idle(now)
        self._inbox.wake()  # for the commands of closed streams
        if self._revocation is not None:
            self._revocation.apply()


def _over_budget() -> ProtocolError:
    return ProtocolError(
        ErrorCode.OVER_BUDGET, "this client has used its budget of the daemon's time, and its messages wait; send fewer"
    )
