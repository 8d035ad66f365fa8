"""Outgoing messages: settlements and events to subscribers, replies to the owners of streams."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import zmq

from trackd.crash_points import ARMED, crash_point
from trackd.engine.outcome import Settlement, tracks_of
from trackd.observe.metrics import Metrics
from trackd.observe.traces import Traces
from trackd.recording.recording import Recording
from trackd.server.session import Session
from trackd.server.slow_subscribers import SlowSubscribers
from trackd.server.unsent import LARGE_BYTES, TRACKS_BYTES, Unsent, UnsentReplies
from trackd.tracking.correction import Applied
from trackd.viewer.hub import Hub
from trackd_client.protocol import (
    Ack,
    Error,
    ErrorCode,
    Event,
    EventName,
    Message,
    ProtocolError,
    Tracks,
    encode,
    topic,
)
from trackd_client.protocol.arrays import Part
from trackd_client.transport.multipart import try_send


class Publisher:
    """Writes to the tracks and ingest sockets; only the IO thread uses it."""

    def __init__(
        self,
        tracks: zmq.Socket[bytes],
        ingest: zmq.Socket[bytes],
        metrics: Metrics,
        slow: SlowSubscribers | None = None,
        hub: Hub | None = None,
        taps: Mapping[str, Recording] = MappingProxyType({}),
        traces: Traces | None = None,
    ) -> None:
        self._tracks = tracks
        self._ingest = ingest
        self._metrics = metrics
        self._slow = slow
        self._hub = hub or Hub()
        self._watched = self._hub.watched
        self._taps = taps  # the streams that are recorded
        self._traces = traces
        self._unsent = Unsent(TRACKS_BYTES)
        self._unsent_replies = UnsentReplies(ingest)

    def publish(self, session: Session, settlement: Settlement, stored_ns: int | None) -> Tracks:
        """Publish one settlement, and reply to the owner if it asked for that; the caller sends the ack."""
        tracks = tracks_of(settlement, stored_ns)
        parts = encode(tracks)
        if ARMED:
            crash_point("before_publish")
        nbytes = sum(map(len, parts))
        if session.reply_tracks:  # first, since a closed loop waits for it
            self._reply_tracks(session.owner, parts, nbytes)
        self._publish_parts(session.topic, parts, nbytes)
        if self._taps and (tap := self._taps.get(session.name)) is not None:
            tap.put(session.topic, parts, nbytes, tracks.epoch, tracks.seq)
        if ARMED:
            crash_point("after_publish")
        if settlement.code is not None:
            error = Error(settlement.code, settlement.reason or "", session.name, settlement.head.seq)
            self.reply(session.owner, error)
        session.settled_seq = settlement.head.seq
        if tracks.identity_events:
            self._identified(session, tracks)
        self._metrics.latency.observe(tracks.timing)
        if self._watched and (slot := self._watched.get(session.name)) is not None:
            slot.put(tracks, settlement)
        if self._traces is not None:
            self._traces.put(settlement, stored_ns)
        return tracks

    def ack(self, session: Session) -> None:
        """Ack all frames that can be acked. If the client's pipe is full, the ack and its credit stay due."""
        granted = session.grant()
        if ARMED:
            crash_point("before_ack")
        kept_seq = session.kept_seq
        session.ack_due = not self.reply(session.owner, Ack(session.name, kept_seq, granted))
        if ARMED:
            crash_point("after_ack")
        if session.ack_due:
            session.credit -= granted
        else:
            session.acked_seq = kept_seq

    def publish_again(self, session: Session, seq: int) -> None:
        """Publish a settlement of an earlier daemon process, marked as replayed."""
        for tracks in session.history.select(session.epoch, seq, seq, 1):
            parts = encode(tracks)
            nbytes = sum(map(len, parts))
            self._publish_parts(session.topic, parts, nbytes)
            if (tap := self._taps.get(session.name)) is not None:
                tap.put(session.topic, parts, nbytes, tracks.epoch, tracks.seq)
            if session.reply_tracks:
                self._reply_tracks(session.owner, parts, nbytes)

    def _publish_parts(self, topic: bytes, parts: list[Part], nbytes: int) -> None:
        """Publish a record. A large one is left out while the queues of the subscribers hold too many bytes."""
        if nbytes < LARGE_BYTES:
            try_send(self._tracks, [topic, *parts])
            return
        if not self._unsent.send(self._tracks, [topic, *parts], nbytes):
            self._metrics.unsent_records.inc()
        if self._unsent.nbytes > self._unsent.most // 2:
            self.look_at_subscribers()

    def _reply_tracks(self, owner: bytes, parts: list[Part], nbytes: int) -> None:
        if nbytes < LARGE_BYTES:
            sent = try_send(self._ingest, [owner, *parts])
        else:
            sent = self._unsent_replies.send(owner, [owner, *parts], nbytes)
        if not sent:
            self._metrics.unsent_replies.inc()

    def look_at_subscribers(self) -> None:
        """Free what is sent; disconnect a subscriber that does not read, where much is unsent. Called each second."""
        self._unsent.look()
        self._unsent_replies.look()
        if self._slow is not None and self._unsent.nbytes > self._unsent.most // 2:
            self._slow.look()

    def event(self, session: Session, event: EventName, detail: Mapping[str, Any] | None = None) -> None:
        """Publish an event to a stream's subscribers."""
        message = Event(session.name, event, session.epoch, session.settled_seq, detail or {})
        parts, about = encode(message), topic("events", session.name)
        nbytes = sum(map(len, parts))
        self._publish_parts(about, parts, nbytes)
        if (tap := self._taps.get(session.name)) is not None:
            tap.put(about, parts, nbytes)
        if self._hub.pages and event is not EventName.HEARTBEAT:
            self._hub.tell(message)

    def _identified(self, session: Session, tracks: Tracks) -> None:
        for found in tracks.identity_events:
            self._metrics.identity_events.labels(event=str(found["event"])).inc()
            self.event(session, EventName.IDENTITY, found)

    def corrected(self, session: Session, applied: Applied) -> None:
        """Publish and count a correction."""
        self._metrics.corrections.labels(action=str(applied.action)).inc()
        self.event(session, EventName.CORRECTED, applied.as_map())

    def reply(self, owner: bytes, message: Message) -> bool:
        """Send to one connection without waiting; returns False if its pipe is full or it is closed. Counted."""
        sent = try_send(self._ingest, [owner, *encode(message)])
        if not sent:
            self._metrics.unsent_replies.inc()
        return sent

    def refuse(self, owner: bytes, error: ProtocolError, *, fatal: bool = False) -> None:
        """Count a message that cannot be used, and send the error to its sender."""
        self.count_refusal(error.code)
        self.reply(
            owner,
            Error(
                error.code,
                error.message,
                error.stream,
                error.seq,
                error.expected,
                fatal,
                error.member,
                error.endpoints,
                error.term,
            ),
        )

    def count_refusal(self, code: ErrorCode) -> None:
        """Count a message that was refused, also if there is no way to reply."""
        self._metrics.refused(code)
