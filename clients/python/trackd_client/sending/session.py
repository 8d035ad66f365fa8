"""The state of one stream on the client's side, without I/O, clocks and locks.

A session decides which frames may be sent now and interprets each message of the daemon. The driver
(`trackd_client.sending.driver`) passes received messages to `receive` and sends what `outgoing` yields.

The session keeps the unacked frames in seq order. `_cursor` is the seq of the first frame that is not sent. To resend
from seq s, the session sets the cursor back to s.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from trackd_client.causes import Causes
from trackd_client.detections import Detections, Image
from trackd_client.errors import FOLLOWS
from trackd_client.protocol import (
    Ack,
    Close,
    Closed,
    EncodedImage,
    Error,
    ErrorCode,
    Frame,
    Message,
    Open,
    Opened,
    ProtocolError,
    SharedImage,
    Tracks,
    encode,
)
from trackd_client.transport.multipart import Parts

logger = logging.getLogger(__name__)

MAX_UNACKED = 1024  # frames
MAX_UNACKED_BYTES = 512 * 1024 * 1024
KEPT_REJECTIONS = 256
# The frame that such an error names settles as rejected. Its ack follows.
_REJECTIONS = frozenset({ErrorCode.INVALID_FRAME, ErrorCode.TOO_LARGE, ErrorCode.BAD_MESSAGE, ErrorCode.INTERNAL})


class SessionState(StrEnum):
    """The state of a stream."""

    OPENING = "opening"  # no `opened` received yet on this connection; frames wait
    OPEN = "open"
    CLOSED = "closed"  # by this client
    LOST = "lost"  # `StreamSession.error` gives the reason


@dataclass(slots=True)
class PendingFrame:
    """A submitted frame and its settlement, kept until the caller has read the settlement."""

    frame: Frame
    parts: Parts
    size: int  # bytes on the wire
    wants_tracks: bool = False
    tracks: Tracks | None = None
    error: Error | None = None  # the daemon rejected this frame
    settled: bool = False

    @property
    def answered(self) -> bool:
        """Whether the frame has its tracks, its error or its ack."""
        return self.tracks is not None or self.error is not None or self.settled

    @property
    def reply_lost(self) -> bool:
        """Whether the frame settled but its reply was lost with a connection. Its tracks are in `history`."""
        return self.settled and self.tracks is None and self.error is None

    def copy_image(self) -> None:
        """Copy the image, because the caller may change its array before the frame is resent."""
        if isinstance(self.frame.image, np.ndarray):
            self.frame = replace(self.frame, image=self.frame.image.copy())
            self.parts = encode(self.frame)


class StreamSession:
    """The client's state of one stream.

    Args:
        opening: the `open` message; after a reconnect it is sent with `takeover`.
        max_unacked: how many frames are kept for a resend; at that number `can_submit` is false.
        max_unacked_bytes: the same in bytes; the first frame may be larger.
    """

    def __init__(
        self, opening: Open, *, max_unacked: int = MAX_UNACKED, max_unacked_bytes: int = MAX_UNACKED_BYTES
    ) -> None:
        self.stream = opening.stream
        self.state = SessionState.OPENING
        self.error: Error | None = None  # the reason of a refusal or loss, or why the daemon does not open it yet
        self.epoch = -1
        self.last_frame_index: int | None = None  # of the last frame that the daemon had accepted at `opened`
        self.next_seq = 0
        self.credit = 0
        self.config: Mapping[str, Any] = {}
        self.rejected: deque[Error] = deque(maxlen=KEPT_REJECTIONS)
        self.n_rejected = 0
        self.logs_rejections = True
        self.max_unacked = max_unacked
        self.max_unacked_bytes = max_unacked_bytes
        self.open_due = True
        self._opening = opening
        self._unacked: dict[int, PendingFrame] = {}  # by seq, in order, without gaps
        self._unacked_bytes = 0
        self._cursor = 0
        self._expected_refusals: set[int] = set()  # seqs sent after a refused frame; each is refused too
        self._probe: int | None = None  # the seq of a frame to resend only to get an ack
        self._paused = False  # a frame was refused with `no_credit`, and no ack was received since
        self._withheld = 0  # credit set aside after that refusal, until all frames are acked
        self._credit_binds = True
        self._message_bytes: int | None = None  # the longest message that the daemon accepts, as it says
        self._closing = False
        self._close_sent = False
        self._causes = Causes()  # of rejected frames
        self._faults = Causes()  # of other errors

    @property
    def rejection_causes(self) -> list[str]:
        """One line for each cause of rejected frames."""
        return self._causes.lines

    @property
    def unacked(self) -> int:
        """The number of submitted frames without an ack."""
        return len(self._unacked)

    @property
    def ended(self) -> bool:
        """Whether the stream is closed or lost."""
        return self.state in (SessionState.CLOSED, SessionState.LOST)

    @property
    def can_submit(self) -> bool:
        """Whether a frame submitted now would be sent at once."""
        if self.state is not SessionState.OPEN or self._closing or self._paused:
            return False
        if len(self._unacked) >= self.max_unacked or self._unacked_bytes >= self.max_unacked_bytes:
            return False
        return not self._credit_binds or self.credit > self.next_seq - self._cursor

    @property
    def retry_due(self) -> bool:
        """Whether the driver must retry something later without waiting for a message."""
        if not (self.open_due or self._paused):  # the usual case
            return False
        return not self.ended and (self.open_due or self._cursor == self._first_unacked())

    def retry(self) -> None:
        """Retry a frame that was refused with `no_credit`, if no ack can still arrive."""
        if self._paused and self._cursor == self._first_unacked():
            self._resume()

    def submit(
        self,
        image: Image | EncodedImage | SharedImage | None,
        detections: Detections,
        frame_index: int,
        t_ns: int,
        *,
        wants_tracks: bool = False,
        traceparent: str | None = None,
    ) -> PendingFrame:
        """Add a frame with the next seq, to be sent by `outgoing`. Its arrays are kept until it is acked.

        Raises:
            ProtocolError: the frame cannot be encoded, or is longer than the daemon accepts; no seq is used.
        """
        frame = Frame(self.stream, self.next_seq, frame_index, t_ns, detections, image, traceparent)
        parts = encode(frame)
        pending = PendingFrame(frame, parts, sum(map(len, parts)), wants_tracks)
        if self._message_bytes is not None and pending.size > self._message_bytes:
            # ZeroMQ would close the connection at such a part, and again at each resend.
            raise ProtocolError(
                ErrorCode.TOO_LARGE,
                f"a frame has at most {self._message_bytes} bytes (limits.message_bytes of the daemon); got "
                f"{pending.size}: send a smaller image, or a JPEG or PNG file",
            )
        self._unacked[self.next_seq] = pending
        self._unacked_bytes += pending.size
        self.next_seq += 1
        return pending

    def configured(self, config: Mapping[str, Any]) -> None:
        """Store the effective config. Under a drop policy the daemon drops frames and ignores credit."""
        self.config = config
        stream = config.get("stream")
        self._credit_binds = not isinstance(stream, Mapping) or stream.get("on_overload", "block") == "block"

    def close(self) -> None:
        """Close the stream once every frame is acked."""
        self._closing = True

    def lose(self, code: ErrorCode, message: str) -> None:
        """End the session with an error of this code and text."""
        self._end(SessionState.LOST, Error(code, message, self.stream, fatal=True))

    def disconnected(self) -> None:
        """Handle a lost connection: open the stream again, then resend the unacked frames."""
        if not self.ended:
            self.state = SessionState.OPENING
            self.open_due = True

    def directed(self, member: str) -> None:
        """Name the member of a fleet that the stream is opened at next."""
        self._opening = replace(self._opening, member=member)

    @property
    def was_open(self) -> bool:
        """Whether the stream was open before; it is then opened with `takeover`."""
        return self.epoch >= 0

    def outgoing(self) -> Iterator[Parts]:
        """Yield the messages to send now, in order. Each counts as sent once it is yielded."""
        if self.open_due and not self.ended:
            self.open_due = False
            yield encode(self._opening)
        if self._probe is not None and self.state is SessionState.OPEN:
            probe, self._probe = self._unacked.get(self._probe), None
            if probe is not None:
                yield probe.parts
        while self.state is SessionState.OPEN and self._cursor < self.next_seq and not self._paused:
            if self._credit_binds and self.credit <= 0:
                return
            self.credit -= 1
            self._cursor += 1
            yield self._unacked[self._cursor - 1].parts
        if self._closing and not self._close_sent and self.state is SessionState.OPEN and not self._unacked:
            self._close_sent = True
            yield encode(Close(self.stream))

    def receive(self, message: Message) -> None:
        """Handle a message of the daemon about this stream."""
        if self.ended:
            return
        if isinstance(message, Ack):
            self._ack(message)
        elif isinstance(message, Tracks):
            self.epoch = max(self.epoch, message.epoch)  # a reset by another client shows here first
            pending = self._unacked.get(message.seq)
            if pending is not None and pending.wants_tracks:
                pending.tracks = message
        elif isinstance(message, Error):
            self._handle_error(message)
        elif isinstance(message, Opened):
            self._opened(message)
        elif isinstance(message, Closed):
            requested = self._closing and not self._unacked
            self._end(
                SessionState.CLOSED if requested else SessionState.LOST,
                None
                if requested
                else Error(
                    ErrorCode.UNKNOWN_STREAM,
                    f"the daemon closed stream {self.stream!r} after seq {message.last_seq}: another "
                    "client closed it, or it was idle for longer than stream.idle_timeout_s",
                    self.stream,
                    fatal=True,
                ),
            )

    def _opened(self, opened: Opened) -> None:
        if self.epoch >= 0 and opened.epoch != self.epoch:
            logger.warning(
                "stream=%s epoch=%d: the stream begins a new epoch (its last one was %d), with track ids from %d",
                self.stream, opened.epoch, self.epoch, opened.first_track_id or 0,
            )  # fmt: skip
        first = self._first_unacked()
        if first <= opened.next_seq <= self.next_seq:
            # An accepted frame may still be lost with the daemon's queue, so only an ack removes it here. Acks may have
            # been lost with the connection. A resend of the last accepted frame requests a new one.
            self._cursor = opened.next_seq
            self._probe = opened.next_seq - 1 if opened.next_seq > first else None
        else:
            # A daemon without this stream's state counts from 0. The unacked frames are new to it.
            if self._unacked or self.epoch >= 0:
                logger.warning(
                    "stream=%s epoch=%d: the daemon expects seq=%d; the client resends %d unacked frames from there",
                    self.stream, opened.epoch, opened.next_seq, len(self._unacked),
                )  # fmt: skip
            self._renumber(opened.next_seq)
            self._cursor, self._probe = opened.next_seq, None
        self._expected_refusals.clear()
        self._paused, self._withheld = False, 0
        self._close_sent = False
        self.epoch, self.credit = opened.epoch, opened.credit
        self.last_frame_index = opened.last_frame_index
        self._message_bytes = opened.message_bytes
        self.configured(opened.config)
        self._opening = replace(self._opening, takeover=True)
        self.open_due = False
        self.error = None
        self.state = SessionState.OPEN

    def _ack(self, ack: Ack) -> None:
        self._settle(ack.seq)
        self.credit += ack.credit
        self._paused = False
        if self._withheld and self._cursor == self._first_unacked():
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        self.credit += self._withheld
        self._withheld = 0

    def _settle(self, seq: int) -> None:
        for settled in range(self._first_unacked(), min(seq + 1, self.next_seq)):
            pending = self._unacked.pop(settled)
            pending.settled = True
            self._unacked_bytes -= pending.size
            self._expected_refusals.discard(settled)
        self._cursor = max(self._cursor, self._first_unacked())

    def _renumber(self, seq: int) -> None:
        """Number the unacked frames from `seq` on, in their order."""
        pending_frames = list(self._unacked.values())
        self._unacked.clear()
        self._number(pending_frames, seq)

    def _number(self, pending_frames: list[PendingFrame], seq: int) -> None:
        """Add frames behind the unacked ones, with the seqs from `seq` on."""
        for number, pending in enumerate(pending_frames, seq):
            pending.frame = replace(pending.frame, seq=number)
            pending.parts = encode(pending.frame)
            self._unacked[number] = pending
        self.next_seq = seq + len(pending_frames)

    def _handle_error(self, error: Error) -> None:
        if error.code is ErrorCode.DRAINING:
            # Another daemon may follow this one. The unacked frames are resent to it.
            self.disconnected()
            self.error = error
        elif error.code is ErrorCode.MOVED:
            at = ", ".join(f"{name} {value}" for name, value in (error.endpoints or {}).items())
            at = f" ({at})" if at else ""
            self._end(SessionState.LOST, replace(error, message=f"{error.message}{at}. {FOLLOWS}"))
        elif error.fatal or error.code in (ErrorCode.STREAM_BUSY, ErrorCode.FORBIDDEN):
            self._end(SessionState.LOST, error)
        elif error.code is ErrorCode.UNKNOWN_STREAM:
            if self._closing and not self._unacked:
                self._end(SessionState.CLOSED, None)
            else:
                logger.warning(
                    "stream=%s: the daemon has no such stream any more; the client opens it again", self.stream
                )
                self.disconnected()
        elif self.state is SessionState.OPENING and error.seq is None:
            if (
                error.code is ErrorCode.INTERNAL
            ):  # the daemon cannot store anything now; it opens the stream once it can
                self.error = error
            else:
                self._end(SessionState.LOST, error)
        elif error.code in (ErrorCode.NO_CREDIT, ErrorCode.SEQ_GAP):
            self._rewind(error)
        else:
            self._reject(error)

    def _rewind(self, error: Error) -> None:
        target = error.expected if error.code is ErrorCode.SEQ_GAP else error.seq
        if target is None:
            return
        if error.seq in self._expected_refusals:
            # The daemon refuses each frame that was sent after a refused one. Such a refusal is expected: it concerns
            # the first copy of the frame, and the frame may have been resent since.
            self._expected_refusals.discard(error.seq)
            return
        first = self._first_unacked()
        if error.code is ErrorCode.SEQ_GAP and not first <= target <= self.next_seq:
            self.lose(
                ErrorCode.SEQ_GAP,
                f"the daemon expects seq {target} of stream {self.stream!r}; the client holds seq {first} to "
                f"{self.next_seq - 1}: does another client send to the same stream?",
            )
            return
        if target < first or target >= self._cursor:
            return
        refused = self._unacked[target]
        if error.code is ErrorCode.SEQ_GAP and refused.error is not None:
            self._drop(target)
            return
        if error.code is ErrorCode.NO_CREDIT:
            # The daemon grants less than the session counted. Use only credit from acks until all frames are acked.
            self._withheld += max(self.credit, 0) + self._cursor - target
            self.credit = 0
            self._paused = True
        else:
            self.credit += self._cursor - target
        self._expected_refusals.update(range(target + 1, self._cursor))
        self._cursor = target

    def _drop(self, seq: int) -> None:
        """Settle a frame that the daemon has refused and not settled: a resend would be refused again.

        The frames behind it take its place.
        """
        self._expected_refusals.update(range(seq + 1, self._cursor))
        self.credit += self._cursor - seq
        pending = self._unacked.pop(seq)
        pending.settled = True
        self._unacked_bytes -= pending.size
        behind = [self._unacked.pop(number) for number in range(seq + 1, self.next_seq)]
        self._number(behind, seq)
        self._cursor = seq

    def _reject(self, error: Error) -> None:
        causes = self._faults if error.seq is None else self._causes
        cause = causes.add(error.seq or 0, f"{error.code}: {error.message}")
        # A camera may go on for hours with frames that are all rejected: the 1st, 10th, 100th … of a cause is logged.
        if str(cause.count).strip("0") == "1" and (self.logs_rejections or error.seq is None):
            so_far = f" (so far {cause.count} times)" if cause.count > 1 else ""
            logger.warning("stream=%s seq=%s: %s: %s%s", self.stream, error.seq, error.code, error.message, so_far)
        self.rejected.append(error)
        self.n_rejected += error.seq is not None
        pending = self._unacked.get(error.seq) if error.seq is not None else None
        if pending is not None and error.code in _REJECTIONS:
            pending.error = error

    def _end(self, state: SessionState, error: Error | None) -> None:
        self.state = state
        self.error = error
        self.open_due = False
        if error is not None and self.epoch >= 0:  # the caller reports a refused open
            logger.warning("stream=%s: lost: %s: %s", self.stream, error.code, error.message)

    def _first_unacked(self) -> int:
        return next(iter(self._unacked), self.next_seq)
