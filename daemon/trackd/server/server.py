"""The IO thread: one poller over the three sockets and the engine's outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import zmq

from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.settlement import CommandResult, Outcome, Settlement
from trackd.observe.health import Health
from trackd.outputs.thread import OutputsThread
from trackd.server.control import Control
from trackd.server.ingest import Ingest
from trackd.server.publisher import Publisher
from trackd.server.session import Sessions
from trackd.server.sockets import Sockets, receive
from trackd.server.streams import Streams
from trackd.store.journal import Journal
from trackd_client.protocol import Error, ErrorCode, EventName

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
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
        outputs: OutputsThread,
        journal: Journal[Outcome] | None,
        health: Health,
        max_parts: int,
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
        self._snapshots_stored = False
        self._most_parts = max_parts + 3  # a routing id, a delimiter, a header
        self._clock = clock

    def run(self) -> None:
        """The thread's life: until draining is asked for and done."""
        poller = zmq.Poller()
        poller.register(self._outbox.fileno(), zmq.POLLIN)
        receivers = {
            self._sockets.ingest: self._receive_ingest,
            self._sockets.control: self._receive_control,
            self._sockets.tracks: self._receive_subscriptions,
        }
        for bound in receivers:
            poller.register(bound, zmq.POLLIN)
        next_beat = self._clock() + int(_HEARTBEAT_S * 1e9)
        while not (self._health.draining and self._settled()):
            wait_ms = max(0, (next_beat - self._clock()) // 1_000_000)
            ready = dict(poller.poll(min(wait_ms, 20) if self._health.draining else wait_ms))
            self._ingest.draining = self._health.draining
            self._flush()
            for bound, take_in in receivers.items():
                if bound in ready:
                    take_in()
            now = self._health.last_io_ns = self._clock()
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
        for _ in range(_BURST):
            parts = receive(self._sockets.ingest, self._most_parts)
            if parts is None:
                return
            self._ingest.handle(bytes(parts[0]), parts[1:])

    def _receive_control(self) -> None:
        for _ in range(_BURST):
            parts = receive(self._sockets.control, self._most_parts)
            if parts is None:
                return
            split = 2 if len(parts) > 1 and len(parts[1]) == 0 else 1
            self._control.handle([bytes(part) for part in parts[:split]], parts[split:])

    def _receive_subscriptions(self) -> None:
        # XPUB hands subscriptions up as messages; unread they would pile up.
        for _ in range(_BURST):
            if receive(self._sockets.tracks, 1) is None:
                return

    def _flush(self) -> None:
        """Publish what the engine has settled, and finish its commands, in order."""
        for outcome in self._outbox.take():
            if isinstance(outcome, CommandResult):
                outcome.done(outcome.result, outcome.error)
            else:
                self._publish(outcome)

    def _publish(self, settlement: Settlement) -> None:
        session = self._sessions.get(settlement.head.stream)
        if session is None or session.queue is not settlement.queue:
            logger.error("stream=%s seq=%d: settled after its close", settlement.head.stream, settlement.head.seq)
            return
        tracks = self._publisher.settle(session, settlement)
        session.history.append(tracks)
        if session.settings.stream.outputs:
            self._outputs.write(session.name, tracks, settlement.detections)

    def _beat(self, now: int) -> None:
        fault = None if self._journal is None else self._journal.fault
        for session in self._sessions:
            self._publisher.event(session, EventName.HEARTBEAT)
            if fault is not None and session.owner:
                self._publisher.reply(session.owner, Error(ErrorCode.INTERNAL, fault, session.name))
        self._streams.close_idle(now)
