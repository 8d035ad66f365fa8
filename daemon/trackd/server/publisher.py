"""What goes out: settlements and events to subscribers, replies to the streams' owners."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import zmq

from trackd.crash_points import crash_point
from trackd.engine.outcome import Settlement
from trackd.observe.metrics import Metrics
from trackd.server.session import Session
from trackd.server.sockets import send
from trackd_client.protocol import (
    Ack,
    Error,
    ErrorCode,
    Event,
    EventName,
    Message,
    ProtocolError,
    Status,
    Timing,
    Tracks,
    encode,
    topic,
)


class Publisher:
    """Writes to the tracks and ingest sockets; only the IO thread uses it."""

    def __init__(self, tracks: zmq.Socket[bytes], ingest: zmq.Socket[bytes], metrics: Metrics) -> None:
        self._tracks = tracks
        self._ingest = ingest
        self._metrics = metrics

    def publish(self, session: Session, settlement: Settlement, stored_ns: int | None) -> Tracks:
        """Publish one settlement and tell the owner; the ack is the caller's to send."""
        tracks = tracks_of(settlement, stored_ns)
        parts = encode(tracks)
        crash_point("before_publish")
        if session.reply_tracks:  # first: a closed loop waits for it
            send(self._ingest, [session.owner, *parts])
        send(self._tracks, [topic("tracks", session.name), *parts])
        crash_point("after_publish")
        if settlement.code is not None:
            error = Error(settlement.code, settlement.reason or "", session.name, settlement.head.seq)
            self.reply(session.owner, error)
        session.settled_seq = settlement.head.seq
        self._metrics.latency.observe(tracks.timing)
        return tracks

    def ack(self, session: Session) -> None:
        """Ack all that is settled; where the client's pipe is full it is due once more, and so is its credit."""
        granted = session.grant()
        crash_point("before_ack")
        session.ack_due = not self.reply(session.owner, Ack(session.name, session.settled_seq, granted))
        crash_point("after_ack")
        if session.ack_due:
            session.credit -= granted

    def publish_again(self, session: Session, seq: int) -> None:
        """Publish what a daemon before this one settled, marked as replayed."""
        for tracks in session.history.select(session.epoch, seq, seq, 1):
            parts = encode(tracks)
            send(self._tracks, [topic("tracks", session.name), *parts])
            if session.reply_tracks:
                send(self._ingest, [session.owner, *parts])

    def event(self, session: Session, event: EventName, detail: Mapping[str, Any] | None = None) -> None:
        """Tell a stream's subscribers what happened."""
        message = Event(session.name, event, session.epoch, session.settled_seq, detail or {})
        send(self._tracks, [topic("events", session.name), *encode(message)])

    def reply(self, owner: bytes, message: Message) -> bool:
        """Send to one connection; what a client does not take is counted, and is lost but for acks."""
        sent = send(self._ingest, [owner, *encode(message)])
        if not sent:
            self._metrics.unsent_replies.inc()
        return sent

    def refuse(self, owner: bytes, error: ProtocolError, *, fatal: bool = False) -> None:
        """Answer a message that cannot be used."""
        self.count_refusal(error.code)
        self.reply(owner, Error(error.code, error.message, error.stream, error.seq, error.expected, fatal))

    def count_refusal(self, code: ErrorCode) -> None:
        """Count a message that was refused, also where nobody can be told."""
        self._metrics.refused(code)


def tracks_of(settlement: Settlement, stored_ns: int | None) -> Tracks:
    """The message that bears a settlement, journaled at `stored_ns` if at all."""
    head = settlement.head
    timing = Timing(
        queue=(settlement.taken_ns - settlement.received_ns) // 1000,
        encode=(settlement.encoded_ns - settlement.taken_ns) // 1000,
        associate=(settlement.associated_ns - settlement.encoded_ns) // 1000,
        journal=0 if stored_ns is None else (stored_ns - settlement.associated_ns) // 1000,
        total=(time.monotonic_ns() - settlement.received_ns) // 1000,
    )
    if settlement.assignment is None or settlement.instances is None or settlement.detections is None:
        return Tracks(
            head.stream, settlement.epoch, head.seq, head.frame_index, head.t_ns, settlement.status,
            reason=settlement.reason, timing=timing,
        )  # fmt: skip
    assignment = settlement.assignment
    return Tracks(
        head.stream, settlement.epoch, head.seq, head.frame_index, head.t_ns, Status.TRACKED,
        track_ids=assignment.track_ids,
        track_scores=assignment.track_scores,
        boxes=settlement.instances.extents,
        keypoints=settlement.detections.keypoints,
        scores=settlement.detections.scores,
        new_tracks=assignment.new_tracks,
        lost_tracks=assignment.lost_tracks,
        found_tracks=assignment.found_tracks,
        ended_tracks=assignment.ended_tracks,
        flags=assignment.flags,
        timing=timing,
        parents=assignment.parents,
    )  # fmt: skip
