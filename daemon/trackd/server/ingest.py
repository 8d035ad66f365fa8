"""The messages of the ingest socket: opens, frames, closes and pings, each checked and replied to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import msgpack
import numpy as np
from numpy.typing import NDArray

from trackd.crash_points import ARMED, crash_point
from trackd.engine.inbox import Inbox
from trackd.engine.queue import QueuedFrame, Skip
from trackd.outputs.thread import OutputsThread
from trackd.server.access.grants import UNRESTRICTED, Grant, Right
from trackd.server.budget import Budget
from trackd.server.publisher import Publisher
from trackd.server.session import Session, Sessions
from trackd.server.stream_lifecycle import Streams
from trackd_client.protocol import (
    Ack,
    Close,
    ErrorCode,
    Frame,
    FrameHead,
    Limits,
    Message,
    Open,
    Ping,
    Pong,
    ProtocolError,
    SharedImage,
    Status,
    decode,
)
from trackd_client.protocol.arrays import Part
from trackd_client.protocol.capture_time import SURELY_NS, capture_time_fault
from trackd_client.transport.shared_memory import SharedImageReader

logger = logging.getLogger(__name__)

_KINDS = ("open", "frame", "close", "ping")
FRAMES_ONLY = ("frame",)
_FRAME_KIND = msgpack.packb("kind") + msgpack.packb("frame")  # in the header of every frame
_FRAME_HEADER_BYTES = 4096  # of a frame's header; it is shorter
REVOKED = "this key is not authorized any more; security.authorized_clients_dir lists the keys that are"
_MOST_UNWRITTEN = 16_384  # frames of a stream that the journal keeps for its outputs, the dropped ones included
_MOST_SKIPS = 1024  # settlements that may wait to be published, in addition to four times the queue's depth


class _LeavingError(Exception):
    """A message for a stream that another member of the fleet gets."""


class Ingest:
    """Handles one message at a time. A message that is not valid gets an error and changes nothing else."""

    def __init__(
        self,
        sessions: Sessions,
        streams: Streams,
        inbox: Inbox,
        publisher: Publisher,
        limits: Limits,
        outputs: OutputsThread,
        clock: Callable[[], int] = time.monotonic_ns,
        budget: Budget | None = None,
        empty_image: Callable[..., NDArray[Any]] = np.empty,
    ) -> None:
        self._budget = budget or Budget(clock)
        self._sessions = sessions
        self._streams = streams
        self._inbox = inbox
        self._publisher = publisher
        self._limits = limits
        self._outputs = outputs
        self._clock = clock
        self._shared_images = SharedImageReader(empty=empty_image)
        self.draining = False

    def may_be_frame(self, owner: bytes, parts: Sequence[Part]) -> bool:
        """Return whether a message looks like a frame of an open stream. Costs less than decoding the message."""
        return (
            len(parts) > 1
            and len(parts[0]) <= _FRAME_HEADER_BYTES
            and self._sessions.owns_any(owner)
            and _FRAME_KIND in bytes(parts[0])
        )

    def handle(
        self,
        owner: bytes,
        parts: Sequence[Part],
        grant: Grant | None = UNRESTRICTED,
        kinds: Collection[str] = _KINDS,
    ) -> None:
        """Handle one message of a connection. The time of a message that is no frame is taken from its budget.

        Args:
            owner: the connection's routing id.
            parts: the message.
            grant: what the connection's key allows; None if the key was revoked.
            kinds: the kinds of messages that are accepted now.
        """
        if grant is None:
            self._publisher.refuse(owner, ProtocolError(ErrorCode.FORBIDDEN, REVOKED), fatal=True)
            return
        now = self._clock()
        self._sessions.note_message(owner, now)
        is_frame = False
        try:
            message = decode(parts, self._limits, kinds)
            is_frame = type(message) is Frame
            self._dispatch(owner, message, parts, now, grant)
        except _LeavingError:
            pass  # its client is told where to go, and sends the frame again there
        except ProtocolError as error:
            if error.head is None:
                self._publisher.refuse(owner, error)
                return
            is_frame = True
            # The frame's head is valid, so it gets its place in the stream and is settled as rejected.
            try:
                self._admit(owner, error.head, None, error, 0, now, grant)
            except _LeavingError:
                pass
            except ProtocolError as refusal:
                self._publisher.refuse(owner, refusal)
        except Exception as error:
            # A fault of the daemon in one message must not end it for the other clients.
            logger.exception("a message could not be handled")
            self._publisher.refuse(owner, ProtocolError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))
        finally:
            if not is_frame:
                self._budget.spend(grant.key or owner, self._clock() - now)

    def _dispatch(self, owner: bytes, message: Message, parts: Sequence[Part], now: int, grant: Grant) -> None:
        match message:
            case Frame():
                self._admit(owner, message, message, None, _nbytes(message, parts), now, grant)
            case Open():
                grant.require(Right.PUBLISH, message.stream)
                if self.draining and self._streams.fleet is None:
                    _refuse_draining(message.stream)
                self._streams.open(owner, message, now, grant.key)
            case Close():
                session = self._owned(owner, message.stream, None, grant)
                self._streams.close(session, "closed by its owner")
            case Ping():
                self._publisher.reply(owner, Pong(message.t_ns, time.time_ns()))

    def _owned(self, owner: bytes, name: str, seq: int | None, grant: Grant) -> Session:
        if grant is not UNRESTRICTED:
            grant.require(Right.PUBLISH, name, seq)
        session = self._sessions.get(name)
        if session is None or session.closing:
            if session is not None and session.leaving:
                raise _LeavingError
            self._streams.unavailable.check(name, seq)
            raise ProtocolError(
                ErrorCode.UNKNOWN_STREAM, f"stream {name!r} is not open; send open first", stream=name, seq=seq
            )
        if session.owner != owner or session.owner_key != grant.key:
            raise ProtocolError(
                ErrorCode.STREAM_BUSY,
                f"stream {name!r} belongs to another connection; open it with takeover to have it",
                stream=name,
                seq=seq,
            )
        return session

    def _admit(
        self,
        owner: bytes,
        head: FrameHead | Frame,
        frame: Frame | None,
        fault: ProtocolError | None,
        nbytes: int,
        now: int,
        grant: Grant,
    ) -> None:
        """Put a frame into its stream's queue, or refuse it without any change."""
        session = self._owned(owner, head.stream, head.seq, grant)
        if head.seq < session.next_seq:
            if head.seq <= session.recovered_seq:
                # Stored before a crash, and perhaps not published then. Subscribers recognise a repetition by its seq.
                self._publisher.publish_again(session, head.seq)
            if head.seq <= session.kept_seq:
                self._publisher.reply(owner, Ack(session.name, session.kept_seq, 0))
            return
        if self.draining:
            _refuse_draining(head.stream, head.seq)
        if head.seq > session.next_seq:
            raise ProtocolError(
                ErrorCode.SEQ_GAP,
                f"seq must be {session.next_seq}; got {head.seq}",
                stream=head.stream,
                seq=head.seq,
                expected=session.next_seq,
            )
        self._check_credit(session, head, nbytes)
        if ARMED:
            crash_point("before_receive")
        item = self._item(session, head, frame, fault, nbytes, now)
        if session.settings.stream.on_overload != "block":
            item = self._apply_policy(session, item)
        session.next_seq += 1
        session.credit -= 1
        self._inbox.put(session.queue, item)
        if ARMED:
            crash_point("after_receive")

    def _item(
        self,
        session: Session,
        head: FrameHead | Frame,
        frame: Frame | None,
        fault: ProtocolError | None,
        nbytes: int,
        now: int,
    ) -> QueuedFrame | Skip:
        """Return the frame for the queue, or a rejection if it is not valid in its stream."""
        if frame is not None:
            try:
                _check_fits(session, frame)
                if isinstance(frame.image, SharedImage):  # copied, since its producer overwrites it
                    frame = replace(frame, image=self._shared_images.read(frame.image))
                session.last_frame_index, session.last_t_ns = frame.frame_index, frame.t_ns
                return QueuedFrame(frame, now, nbytes)
            except ProtocolError as error:
                fault = error
            except Exception as error:
                logger.exception("stream=%s seq=%d: a fault of the daemon", head.stream, head.seq)
                fault = ProtocolError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
        assert fault is not None
        return Skip(_head(head), Status.REJECTED, fault.message, now, fault.code)

    def _check_credit(self, session: Session, head: FrameHead | Frame, nbytes: int) -> None:
        """Refuse a frame that must wait. With a drop policy no frame must wait, unless too many settlements do."""
        queue, stream = session.queue, session.settings.stream
        if session.opening:
            _no_credit(head, "it is not opened yet")
        if stream.on_overload != "block":
            if queue.skips > _MOST_SKIPS + 4 * queue.depth:
                _no_credit(head, "the engine has not kept up with dropping frames")
            if stream.outputs and self._outputs.unwritten_span(session.name, session.next_seq) > _MOST_UNWRITTEN:
                session.ack_due = True
                _no_credit(head, "its outputs cannot be written, and the journal keeps no more frames for them")
            return
        if stream.outputs and self._outputs.is_behind(session.name):
            session.ack_due = True  # the ack is sent once the outputs have caught up
            _no_credit(head, "its outputs are still being written")
        if session.credit <= 0:
            _no_credit(head, f"its {stream.queue_depth} frames are not settled yet")
        # A stream without unsettled frames may always send one: otherwise no ack would end the wait.
        if session.outstanding and not self._inbox.has_room(queue, nbytes):
            _no_credit(head, f"the queues of all streams hold at most {self._inbox.max_bytes} bytes")

    def _apply_policy(self, session: Session, item: QueuedFrame | Skip) -> QueuedFrame | Skip:
        """Apply the stream's drop policy: return the frame, or its drop; `drop_oldest` may drop another instead."""
        if isinstance(item, Skip):
            return item
        queue = session.queue
        if session.settings.stream.on_overload == "drop_oldest":
            while not self._inbox.has_room(queue, item.nbytes) and self._inbox.shed_oldest(queue, "overload"):
                pass
        if self._inbox.has_room(queue, item.nbytes) and not self._outputs.is_behind(session.name):
            return item
        return Skip(item.frame.head, Status.DROPPED, "overload", item.received_ns)


def _check_fits(session: Session, frame: Frame) -> None:
    """Check a frame against its stream."""
    if session.last_frame_index is not None and frame.frame_index <= session.last_frame_index:
        _invalid(f"frame_index must rise; got {frame.frame_index} after {session.last_frame_index}")
    if frame.t_ns < SURELY_NS and (fault := capture_time_fault(frame.t_ns, session.last_t_ns)) is not None:
        _invalid(fault)
    keypoints = frame.detections.keypoints
    if session.skeleton is not None and keypoints is not None:
        nodes = len(session.skeleton.nodes)
        if keypoints.shape[1] != nodes:
            _invalid(f"detections.keypoints must be [n, {nodes}, 2] for this skeleton; got {list(keypoints.shape)}")


def _head(head: FrameHead | Frame) -> FrameHead:
    return head.head if isinstance(head, Frame) else head


def _nbytes(frame: Frame, parts: Sequence[Part]) -> int:
    """Return what a frame allocates while it waits; a shared image is copied."""
    return sum(map(len, parts)) + (frame.image.nbytes if isinstance(frame.image, SharedImage) else 0)


def _invalid(message: str) -> NoReturn:
    raise ProtocolError(ErrorCode.INVALID_FRAME, message)


def _no_credit(head: FrameHead | Frame, reason: str) -> NoReturn:
    raise ProtocolError(
        ErrorCode.NO_CREDIT,
        f"stream {head.stream!r} has no credit: {reason}; wait for an ack",
        stream=head.stream,
        seq=head.seq,
    )


def _refuse_draining(stream: str, seq: int | None = None) -> NoReturn:
    raise ProtocolError(ErrorCode.DRAINING, "the daemon is draining and takes nothing new", stream=stream, seq=seq)
