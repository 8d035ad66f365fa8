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

from trackd_client.detections import Detections, Image
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
    SharedImage,
    Tracks,
    encode,
)
from trackd_client.transport.multipart import Parts

logger = logging.getLogger(__name__)

MAX_UNACKED = 1024  # frames
MAX_UNACKED_BYTES = 512 * 1024 * 1024
KEPT_REJECTIONS = 256
# The frame that such an error names will settle, as rejected: its ack comes too.
_REJECTIONS = frozenset({ErrorCode.INVALID_FRAME, ErrorCode.TOO_LARGE, ErrorCode.BAD_MESSAGE, ErrorCode.INTERNAL})


class SessionState(StrEnum):
    """Where a stream stands."""

    OPENING = "opening"  # no `opened` yet on this connection: frames wait
    OPEN = "open"
    CLOSED = "closed"  # as we asked
    LOST = "lost"  # `StreamSession.error` says why


@dataclass(slots=True)
class PendingFrame:
    """A frame that was taken for sending, until someone has read what became of it."""

    frame: Frame
    parts: Parts
    size: int  # bytes on the wire
    wants_tracks: bool = False
    tracks: Tracks | None = None
    error: Error | None = None  # the daemon rejected this frame
    settled: bool = False

    @property
    def answered(self) -> bool:
        """The daemon has said what became of it, or that something did."""
        return self.tracks is not None or self.error is not None or self.settled

    @property
    def unseen(self) -> bool:
        """It settled while we were away: its tracks are in `history`."""
        return self.settled and self.tracks is None and self.error is None

    def own(self) -> None:
        """Copy the image: its owner goes on while the frame may have to be sent again."""
        if isinstance(self.frame.image, np.ndarray):
            self.frame = replace(self.frame, image=self.frame.image.copy())
            self.parts = encode(self.frame)


class StreamSession:
    """The client's half of one stream.

    Args:
        opening: how the stream is opened; coming back after a reconnect adds `takeover`.
        max_unacked: how many frames are kept for sending again; at that number `can_submit` turns false.
        max_unacked_bytes: the same in bytes; one frame is always let through.
    """

    def __init__(
        self, opening: Open, *, max_unacked: int = MAX_UNACKED, max_unacked_bytes: int = MAX_UNACKED_BYTES
    ) -> None:
        self.stream = opening.stream
        self.state = SessionState.OPENING
        self.error: Error | None = None  # why the stream was refused or lost; while opening, why it takes so long
        self.epoch = -1
        self.last_frame_index: int | None = None  # of the last frame that the daemon had taken at `opened`
        self.next_seq = 0
        self.credit = 0
        self.config: Mapping[str, Any] = {}
        self.rejected: deque[Error] = deque(maxlen=KEPT_REJECTIONS)
        self.max_unacked = max_unacked
        self.max_unacked_bytes = max_unacked_bytes
        self.open_due = True
        self._opening = opening
        self._held: dict[int, PendingFrame] = {}  # by seq, rising, without holes
        self._held_bytes = 0
        self._cursor = 0
        self._refusals_due: set[int] = set()  # sent behind a refused frame: their own refusals are still to come
        self._probe: int | None = None  # a frame to be sent again only so that it is acked
        self._paused = False  # refused for want of credit; no ack came since
        self._withheld = 0  # credit that such a refusal put in doubt
        self._credit_binds = True
        self._closing = False
        self._close_sent = False

    @property
    def unacked(self) -> int:
        """Frames that are taken and not acked."""
        return len(self._held)

    @property
    def ended(self) -> bool:
        """Nothing more can be sent."""
        return self.state in (SessionState.CLOSED, SessionState.LOST)

    @property
    def can_submit(self) -> bool:
        """A frame submitted now would be sent at once."""
        if self.state is not SessionState.OPEN or self._closing or self._paused:
            return False
        if len(self._held) >= self.max_unacked or self._held_bytes >= self.max_unacked_bytes:
            return False
        return not self._credit_binds or self.credit > self.next_seq - self._cursor

    @property
    def retry_due(self) -> bool:
        """Something is to be tried again after a while, though no message will say so."""
        if not (self.open_due or self._paused):  # as ever
            return False
        return not self.ended and (self.open_due or self._cursor == self._first_held())

    def retry(self) -> None:
        """The while is over."""
        if self._paused and self._cursor == self._first_held():
            self._resume()

    def submit(
        self,
        image: Image | EncodedImage | SharedImage | None,
        detections: Detections,
        frame_index: int,
        t_ns: int,
        *,
        wants_tracks: bool = False,
    ) -> PendingFrame:
        """Take a frame, with the next seq; `outgoing` then holds it. The arrays are kept until it is acked.

        Raises:
            ProtocolError: an array does not go on the wire; no seq is used up.
        """
        frame = Frame(self.stream, self.next_seq, frame_index, t_ns, detections, image)
        parts = encode(frame)
        pending = PendingFrame(frame, parts, sum(map(len, parts)), wants_tracks)
        self._held[self.next_seq] = pending
        self._held_bytes += pending.size
        self.next_seq += 1
        return pending

    def configured(self, config: Mapping[str, Any]) -> None:
        """Take in the effective config. Under a drop policy the queue sheds frames, and credit refuses none."""
        self.config = config
        stream = config.get("stream")
        self._credit_binds = not isinstance(stream, Mapping) or stream.get("on_overload", "block") == "block"

    def close(self) -> None:
        """Close the stream as soon as every frame is acked."""
        self._closing = True

    def lose(self, code: ErrorCode, message: str) -> None:
        """Give the stream up."""
        self._end(SessionState.LOST, Error(code, message, self.stream, fatal=True))

    def disconnected(self) -> None:
        """The connection is gone: what was sent and not acked goes again, once the stream is open anew."""
        if not self.ended:
            self.state = SessionState.OPENING
            self.open_due = True

    def outgoing(self) -> Iterator[Parts]:
        """What shall be sent now, in order; each is counted as sent when it is taken."""
        if self.open_due and not self.ended:
            self.open_due = False
            yield encode(self._opening)
        if self._probe is not None and self.state is SessionState.OPEN:
            probe, self._probe = self._held.get(self._probe), None
            if probe is not None:
                yield probe.parts
        while self.state is SessionState.OPEN and self._cursor < self.next_seq and not self._paused:
            if self._credit_binds and self.credit <= 0:
                return
            self.credit -= 1
            self._cursor += 1
            yield self._held[self._cursor - 1].parts
        if self._closing and not self._close_sent and self.state is SessionState.OPEN and not self._held:
            self._close_sent = True
            yield encode(Close(self.stream))

    def receive(self, message: Message) -> None:
        """Take in what the daemon says about this stream."""
        if self.ended:
            return
        if isinstance(message, Ack):
            self._ack(message)
        elif isinstance(message, Tracks):
            self.epoch = max(self.epoch, message.epoch)  # a reset from elsewhere shows here first
            pending = self._held.get(message.seq)
            if pending is not None and pending.wants_tracks:
                pending.tracks = message
        elif isinstance(message, Error):
            self._refused(message)
        elif isinstance(message, Opened):
            self._opened(message)
        elif isinstance(message, Closed):
            asked = self._closing and not self._held
            self._end(
                SessionState.CLOSED if asked else SessionState.LOST,
                None
                if asked
                else Error(
                    ErrorCode.UNKNOWN_STREAM,
                    f"the daemon closed stream {self.stream!r} after seq {message.last_seq}: it was closed from "
                    "elsewhere, or had been idle for longer than stream.idle_timeout_s",
                    self.stream,
                    fatal=True,
                ),
            )

    def _opened(self, opened: Opened) -> None:
        if self.epoch >= 0 and opened.epoch != self.epoch:
            logger.warning(
                "stream=%s epoch=%d: the stream starts afresh (its epoch was %d), with track ids from 0",
                self.stream, opened.epoch, self.epoch,
            )  # fmt: skip
        first = self._first_held()
        if first <= opened.next_seq <= self.next_seq:
            # What the daemon has accepted may still wait in its queue, and die with it: only an ack lets go of it.
            # Its acks may have gone astray with the last connection; the last such frame, sent again, brings one.
            self._cursor = opened.next_seq
            self._probe = opened.next_seq - 1 if opened.next_seq > first else None
        else:
            # A daemon that starts afresh counts from 0; what was not settled before is new to it.
            if self._held or self.epoch >= 0:
                logger.warning(
                    "stream=%s epoch=%d: the daemon expects seq=%d; %d unacked frames are sent again from there",
                    self.stream, opened.epoch, opened.next_seq, len(self._held),
                )  # fmt: skip
            self._renumber(opened.next_seq)
            self._cursor, self._probe = opened.next_seq, None
        self._refusals_due.clear()
        self._paused, self._withheld = False, 0
        self._close_sent = False
        self.epoch, self.credit = opened.epoch, opened.credit
        self.last_frame_index = opened.last_frame_index
        self.configured(opened.config)
        self._opening = replace(self._opening, takeover=True)
        self.open_due = False
        self.error = None
        self.state = SessionState.OPEN

    def _ack(self, ack: Ack) -> None:
        self._settle(ack.seq)
        self.credit += ack.credit
        self._paused = False
        if self._withheld and self._cursor == self._first_held():
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        self.credit += self._withheld
        self._withheld = 0

    def _settle(self, seq: int) -> None:
        for settled in range(self._first_held(), min(seq + 1, self.next_seq)):
            pending = self._held.pop(settled)
            pending.settled = True
            self._held_bytes -= pending.size
            self._refusals_due.discard(settled)
        self._cursor = max(self._cursor, self._first_held())

    def _renumber(self, seq: int) -> None:
        """The held frames, in their order, as the frames from `seq` on."""
        pending_frames = list(self._held.values())
        self._held.clear()
        for number, pending in enumerate(pending_frames, seq):
            pending.frame = replace(pending.frame, seq=number)
            pending.parts = encode(pending.frame)
            self._held[number] = pending
        self.next_seq = seq + len(pending_frames)

    def _refused(self, error: Error) -> None:
        if error.code is ErrorCode.DRAINING:
            # The daemon goes, and perhaps another comes: whatever it does not ack goes to that one.
            self.disconnected()
            self.error = error
        elif error.fatal or error.code in (ErrorCode.STREAM_BUSY, ErrorCode.FORBIDDEN):
            self._end(SessionState.LOST, error)
        elif error.code is ErrorCode.UNKNOWN_STREAM:
            if self._closing and not self._held:
                self._end(SessionState.CLOSED, None)
            else:
                logger.warning("stream=%s: the daemon does not know it any more; opening it again", self.stream)
                self.disconnected()
        elif self.state is SessionState.OPENING and error.seq is None:
            if error.code is ErrorCode.INTERNAL:  # nothing can be stored for now; it opens once something can
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
        if error.seq in self._refusals_due:
            # What was sent behind a refused frame is refused one by one, in order: that says nothing new, though
            # the same frames may have been sent again by now.
            self._refusals_due.discard(error.seq)
            return
        first = self._first_held()
        if error.code is ErrorCode.SEQ_GAP and not first <= target <= self.next_seq:
            self.lose(
                ErrorCode.SEQ_GAP,
                f"the daemon expects seq {target} of stream {self.stream!r}; held here are {first} to "
                f"{self.next_seq - 1}: another client sends into the same stream?",
            )
            return
        if target < first or target >= self._cursor:
            return
        if error.code is ErrorCode.NO_CREDIT:
            # What was counted here is more than there is, for now: go by the acks until all is acked.
            self._withheld += max(self.credit, 0) + self._cursor - target
            self.credit = 0
            self._paused = True
        else:
            self.credit += self._cursor - target
        self._refusals_due.update(range(target + 1, self._cursor))
        self._cursor = target

    def _reject(self, error: Error) -> None:
        logger.warning("stream=%s seq=%s: %s: %s", self.stream, error.seq, error.code, error.message)
        self.rejected.append(error)
        pending = self._held.get(error.seq) if error.seq is not None else None
        if pending is not None and error.code in _REJECTIONS:
            pending.error = error

    def _end(self, state: SessionState, error: Error | None) -> None:
        self.state = state
        self.error = error
        self.open_due = False
        if error is not None and self.epoch >= 0:  # an open that is refused is the caller's to tell
            logger.warning("stream=%s: lost: %s: %s", self.stream, error.code, error.message)

    def _first_held(self) -> int:
        return next(iter(self._held), self.next_seq)
