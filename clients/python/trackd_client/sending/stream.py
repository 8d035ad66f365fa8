"""An open stream of a client: the caller sends frames and, in a closed loop, receives their tracks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import Error, ProtocolError, SharedImage, Tracks
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.frame_input import FrameInput
from trackd_client.sending.outcome import check_ended, check_tracked
from trackd_client.sending.pace import Pace
from trackd_client.sending.session import PendingFrame, SessionState, StreamSession
from trackd_client.sending.shared_images import fits, new_ring
from trackd_client.sending.stream_state import StreamState
from trackd_client.sending.submission import AnyImage
from trackd_client.transport.shared_memory import ImageRing

HistoryOf = Callable[[str, int, int], Sequence[Tracks]]  # (stream, epoch, seq) -> that settlement, or none

_HISTORY_RETRY_S = 0.05


class Stream(StreamState):
    """One stream of frames, made by `Client.open_stream`.

    Every method may be called from any thread. Send the frames of one stream from one thread at a time, in order.

    Attributes:
        name: the stream's name.
        rejected: the errors of the last 256 rejected frames. The 1st, 10th, 100th … of each cause is logged too.
    """

    def __init__(
        self,
        ingest: IngestDriver,
        session: StreamSession,
        *,
        timeout_s: float,
        replies: bool,
        shared_memory: bool,
        history_of: HistoryOf,
        daemon_clock: bool = False,
    ) -> None:
        self.name = session.stream
        self.rejected: Sequence[Error] = session.rejected
        self._ingest = ingest
        self._session = session
        self._timeout_s = timeout_s
        self._replies = replies
        self._shared_memory = shared_memory
        self._history_of = history_of
        self._ring: ImageRing | None = None
        self._pace = Pace(time.monotonic(), session.next_seq)
        last_index = -1 if session.last_frame_index is None else session.last_frame_index
        self._input = FrameInput(last_index, ingest.clock if daemon_clock else None)

    def send(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> int:
        """Send a frame. The daemon publishes its tracks to subscribers.

        The call blocks while the daemon's queue for this stream is full. Under a drop policy it never blocks for that
        reason. With a long queue it may block for up to 50 ms more, so that several frames can follow without a wait.
        The arrays are copied, so the caller may change them after the call.

        Args:
            image: (h, w) or (h, w, c) of uint8 or uint16, a JPEG or PNG file, an image in shared memory, or None.
            detections: the detections of the frame; their order is kept.
            frame_index: the source's own frame number, which must rise; the last one plus 1 if None.
            t_ns: capture time, integer Unix ns, by this host's clock; now if None.
            timeout_s: how long to wait for space in the queue; the client's `timeout_s` if None.
            traceparent: the W3C trace context of the caller's span, which the daemon's spans then continue.

        Returns:
            The frame's seq. After a reconnect the client resends the frame, until it is settled.

        Raises:
            TrackdError: a value cannot be sent; the text names it. The frame has no seq, and the stream continues.
            Timeout: the queue was full for too long; the frame was not sent and has no seq.
            StreamLost: another client took the stream over, or it was closed.
        """
        copied = image.copy() if isinstance(image, np.ndarray) and not self._shared_memory else image
        return self._submit(copied, detections, frame_index, t_ns, timeout_s, traceparent).frame.seq

    def track(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> Tracks:
        """Send a frame and wait for its tracks: one round trip, for closed loops.

        The image is not copied: do not change it before the call returns. The arguments are those of `send`.

        Returns:
            The frame's settlement: `tracked`, or `dropped` by the stream's overload policy.

        Raises:
            TrackdError: the stream was not opened with `reply="tracks"`, or the daemon rejected this frame.
            Timeout: the queue was full, or the answer was missing, for too long. If the answer was missing, the frame
                was sent and settles later.
            StreamLost: another client took the stream over, or it was closed.
        """
        if not self._replies:
            raise TrackdError('track() needs a stream that was opened with reply="tracks"')
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        pending = self._submit(image, detections, frame_index, t_ns, timeout_s, traceparent, deadline)
        try:
            tracks = self._answer(pending, timeout_s, deadline)
        except Timeout:
            with self._ingest.turn():
                pending.copy_image()
            raise
        return check_tracked(pending, tracks)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled.

        Raises:
            Timeout: some frames were not settled in time.
            StreamLost: another client took the stream over, or it was closed.
        """
        self._wait(lambda: not self._session.unacked, timeout_s, "settle all frames")

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled, then close the stream. A second call does nothing.

        Raises:
            Timeout: the daemon did not settle the frames and close the stream in time. The client drops the stream.
            StreamLost: the stream was taken over or closed before all its frames were settled.
        """
        session = self._session
        try:
            if session.state is SessionState.CLOSED or (session.state is SessionState.LOST and not session.unacked):
                return
            with self._ingest.turn():
                session.close()
                self._ingest.pump()
            self._wait(lambda: session.state is SessionState.CLOSED, timeout_s, "settle all frames and close")
        finally:
            with self._ingest.turn():
                self._ingest.remove(session)
            if self._ring is not None:
                self._ring.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with suppress(TrackdError):  # keep the error that is being raised
            self.close(timeout_s=min(1.0, self._timeout_s))

    def _submit(
        self,
        image: AnyImage | None,
        detections: Detections,
        frame_index: int | None,
        t_ns: int | None,
        timeout_s: float | None,
        traceparent: str | None,
        answer_by: float | None = None,
    ) -> PendingFrame:
        """Submit and send a frame. With `answer_by` (monotonic s), wait for its settlement until then."""
        wants_tracks = answer_by is not None
        session = self._session
        checked = self._input.check(image, detections, frame_index, t_ns)
        with self._ingest.turn():
            if not session.can_submit:
                # A closed loop gains nothing from frames in portions.
                pause_s = 0.0 if wants_tracks else self._pace_s()
                self._wait_here(lambda: session.can_submit, timeout_s, "accept another frame", pause_s=pause_s)
            image = checked.image
            if self._shared_memory and isinstance(image, np.ndarray):
                image = self._share(image)
            try:
                pending = session.submit(
                    image, checked.detections, checked.frame_index, checked.t_ns, wants_tracks=wants_tracks,
                    traceparent=traceparent,
                )  # fmt: skip
            except ProtocolError as error:
                raise TrackdError(error.message, error.code) from None
            self._input.sent(checked)
            self._ingest.pump(read=False)
            if answer_by is not None:
                self._ingest.wait(lambda: pending.answered or session.ended, answer_by - time.monotonic(), urgent=True)
        return pending

    def _pace_s(self) -> float:
        """Return how long the daemon needs to free space for several frames, or 0 if that is unknown."""
        session = self._session
        if session.state is not SessionState.OPEN:
            return 0.0
        return self._pace.pause_s(time.monotonic(), session.next_seq, session.unacked)

    def _share(self, image: Image) -> SharedImage:
        """Write the image to the ring. The ring has more slots than there can be frames without an ack."""
        if self._ring is None or not fits(self._ring, image):
            if self._ring is not None:
                # The daemon opens a segment by name, so wait until it has read the frames of the old shape.
                self._wait_here(lambda: not self._session.unacked, None, "settle frames of another shape")
                self._ring.close()
            self._ring = new_ring(image, self._session)
        return self._ring.write(image)

    def _answer(self, pending: PendingFrame, timeout_s: float | None, deadline: float) -> Tracks | None:
        """Wait for a frame's settlement and return its tracks, or None if the daemon sent an error instead."""
        if not pending.answered:
            with self._ingest.turn():
                self._wait_here(lambda: pending.answered, timeout_s, "track a frame", deadline=deadline)
        if not pending.reply_lost:
            return pending.tracks
        # The frame settled while the connection was lost, and so was the reply. The daemon's history has the tracks.
        while time.monotonic() < deadline:
            for tracks in self._history_of(self.name, self._session.epoch, pending.frame.seq):
                return tracks
            with self._ingest.turn():
                self._ingest.wait(lambda: False, _HISTORY_RETRY_S)
        raise Timeout(f"stream {self.name!r}: seq {pending.frame.seq} settled, but it is missing from history")

    def _wait(self, done: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        with self._ingest.turn():
            self._wait_here(done, timeout_s, what)

    def _wait_here(
        self,
        done: Callable[[], bool],
        timeout_s: float | None,
        what: str,
        *,
        pause_s: float = 0.0,
        deadline: float | None = None,
    ) -> None:
        """Wait with the turn held.

        Args:
            done: what to wait for.
            timeout_s: how long the caller of the public method waits, as in the error.
            what: completes "the daemon did not" in the error.
            pause_s: sleep so long first.
            deadline: monotonic s, of a wait that began earlier.
        """
        session = self._session
        limit_s = max(0.0, self._timeout_s if timeout_s is None else timeout_s)
        if deadline is None:
            deadline = time.monotonic() + limit_s
        if (pause_s := min(pause_s, limit_s)) > 0:
            self._ingest.pause(pause_s)
        finished = self._ingest.wait(lambda: done() or session.ended, deadline - time.monotonic())
        if done():
            return
        check_ended(session, finished, self._ingest.endpoint, limit_s, what)
