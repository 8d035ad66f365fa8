"""A stream as its user holds it: frames go in, and in a closed loop their tracks come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.errors import StreamLost, Timeout, TrackdError
from trackd_client.protocol import Error, ErrorCode, ProtocolError, SharedImage, Status, Tracks
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.pace import Pace
from trackd_client.sending.session import PendingFrame, SessionState, StreamSession
from trackd_client.sending.submission import AnyImage, checked_image, owned
from trackd_client.transport.shared_memory import ImageRing

HistoryOf = Callable[[str, int, int], Sequence[Tracks]]  # (stream, epoch, seq) -> that settlement, if it is there

_LOOK_UP_S = 0.05


class Stream:
    """One stream of frames, made by `Client.open_stream`.

    Its methods may be called from any thread; frames of one stream from one thread at a time, since their order counts.

    Attributes:
        name: the stream's name.
        rejected: the errors of the frames that the daemon rejected, the last 256; each is logged too.
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
        self._daemon_clock = daemon_clock
        self._ring: ImageRing | None = None
        self._pace = Pace(time.monotonic(), session.next_seq)
        self._last_index = -1 if session.last_frame_index is None else session.last_frame_index

    @property
    def epoch(self) -> int:
        """Rises each time the stream's state starts afresh; track ids are unique within one."""
        return self._session.epoch

    @property
    def next_seq(self) -> int:
        """The seq that the next frame gets."""
        return self._session.next_seq

    @property
    def config(self) -> Mapping[str, Any]:
        """The effective configuration, as the daemon gave it."""
        return self._session.config

    @property
    def unacked(self) -> int:
        """Frames that were sent and are not settled yet."""
        return self._session.unacked

    def send(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Send a frame; its tracks are published for subscribers.

        Blocks while the daemon's queue for this stream is full (under a drop policy it never is); where it is long, for
        up to 50 ms more than that, so that several frames can follow at once. The arrays are copied: they may be
        written to again at once.

        Args:
            image: (h, w) or (h, w, c) of uint8 or uint16, a JPEG or PNG file, an image in shared memory, or None.
            detections: what the detector saw, in its order.
            frame_index: the source's own frame number, which must rise; the last one plus 1 if None.
            t_ns: capture time, Unix ns, by this host's clock; now if None.
            timeout_s: how long to wait for room; the client's if None.

        Returns:
            the frame's seq. A frame that was taken is sent again after a reconnect until it is settled.

        Raises:
            TrackdError: an array that cannot be sent.
            Timeout: no room in time; the frame was not taken.
            StreamLost: the stream was taken over or closed.
        """
        own = image.copy() if isinstance(image, np.ndarray) and not self._shared_memory else image
        return self._submit(own, detections, frame_index, t_ns, timeout_s).frame.seq

    def track(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
    ) -> Tracks:
        """Send a frame and wait for its tracks: one round trip, for closed loops.

        The image is not copied, so leave it alone until this returns. Arguments as of `send`.

        Returns:
            the frame's settlement: `tracked`, or `dropped` by the stream's overload policy.

        Raises:
            TrackdError: the stream was not opened with `reply="tracks"`, or the daemon rejected this frame.
            Timeout: no room, or no answer, in time. In the second case the frame was taken: it settles later.
            StreamLost: the stream was taken over or closed.
        """
        if not self._replies:
            raise TrackdError('track() needs a stream that was opened with reply="tracks"')
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        pending = self._submit(image, detections, frame_index, t_ns, timeout_s, deadline)
        try:
            tracks = self._answer(pending, deadline)
        except Timeout:
            with self._ingest.turn():
                pending.own()
            raise
        if pending.error is not None:
            raise TrackdError(pending.error.message, pending.error.code)
        if tracks is None or tracks.status is Status.REJECTED:
            reason = tracks.reason if tracks is not None else None
            raise TrackdError(f"frame {pending.frame.frame_index} was rejected: {reason}", ErrorCode.INVALID_FRAME)
        return tracks

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled.

        Raises:
            Timeout: some are not, in time.
            StreamLost: the stream was taken over or closed before.
        """
        self._wait(lambda: not self._session.unacked, timeout_s, "settle what was sent")

    def close(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled, then close the stream. Closing twice does nothing.

        Raises:
            Timeout: the daemon did not settle and close it in time; the stream is given up here all the same.
            StreamLost: the stream was taken over or closed before all its frames were settled.
        """
        session = self._session
        try:
            if session.state is SessionState.CLOSED or (session.state is SessionState.LOST and not session.unacked):
                return
            with self._ingest.turn():
                session.close()
                self._ingest.pump()
            self._wait(lambda: session.state is SessionState.CLOSED, timeout_s, "settle what was sent and close")
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
        with suppress(TrackdError):  # the error on its way says more
            self.close(timeout_s=min(1.0, self._timeout_s))

    def _submit(
        self,
        image: AnyImage | None,
        detections: Detections,
        frame_index: int | None,
        t_ns: int | None,
        timeout_s: float | None,
        answer_by: float | None = None,
    ) -> PendingFrame:
        """Take a frame and send it; with `answer_by` (monotonic s), wait until then for what became of it."""
        wants_tracks = answer_by is not None
        index = self._last_index + 1 if frame_index is None else int(frame_index)
        if index <= self._last_index:
            raise TrackdError(f"frame_index must rise; got {index} after {self._last_index}", ErrorCode.INVALID_FRAME)
        image = checked_image(image)
        detections = owned(detections)
        session = self._session
        if t_ns is None:
            t_ns = time.time_ns()
        if self._daemon_clock and (clock := self._ingest.clock.at(t_ns)) is not None:
            t_ns = clock.daemon_ns(t_ns)
        with self._ingest.turn():
            if not session.can_submit:
                # A closed loop has nothing to gain from frames in portions.
                pause_s = 0.0 if wants_tracks else self._pace_s()
                self._wait_here(lambda: session.can_submit, timeout_s, "take another frame", pause_s)
            if self._shared_memory and isinstance(image, np.ndarray):
                image = self._share(image)
            try:
                pending = session.submit(image, detections, index, t_ns, wants_tracks=wants_tracks)
            except ProtocolError as error:
                raise TrackdError(error.message, error.code) from None
            self._last_index = index
            self._ingest.pump(look=False)
            if answer_by is not None:
                self._ingest.wait(lambda: pending.answered or session.ended, answer_by - time.monotonic(), urgent=True)
        return pending

    def _pace_s(self) -> float:
        """How long the daemon needs to make room for more than one frame; 0 where that cannot be said."""
        session = self._session
        if session.state is not SessionState.OPEN:
            return 0.0
        return self._pace.pause_s(time.monotonic(), session.next_seq, session.unacked)

    def _share(self, image: Image) -> SharedImage:
        """The image in a ring whose slots outlast the frames without an ack."""
        if self._ring is None or self._ring.shape != image.shape or self._ring.dtype != image.dtype:
            if self._ring is not None:
                # Frames of the other shape may be under way: the reader opens their segment by name.
                self._wait_here(lambda: not self._session.unacked, None, "settle frames of another shape")
                self._ring.close()
            slots = max(self._session.credit, self._session.unacked) + 2
            self._ring = ImageRing(image.shape, image.dtype, slots)
            self._session.max_unacked = min(self._session.max_unacked, slots - 1)
        return self._ring.write(image)

    def _answer(self, pending: PendingFrame, deadline: float) -> Tracks | None:
        """What became of a frame that was waited for; None where it was rejected."""
        if not pending.answered:
            with self._ingest.turn():
                self._wait_here(lambda: pending.answered, deadline - time.monotonic(), "track a frame")
        if not pending.unseen:
            return pending.tracks
        # It settled while the connection was away: the reply went nowhere, but the daemon remembers.
        while time.monotonic() < deadline:
            for tracks in self._history_of(self.name, self._session.epoch, pending.frame.seq):
                return tracks
            with self._ingest.turn():
                self._ingest.wait(lambda: False, _LOOK_UP_S)
        raise Timeout(f"stream {self.name!r}: seq {pending.frame.seq} settled, but history does not hold it")

    def _wait(self, done: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        with self._ingest.turn():
            self._wait_here(done, timeout_s, what)

    def _wait_here(self, done: Callable[[], bool], timeout_s: float | None, what: str, pause_s: float = 0.0) -> None:
        """Wait with the turn held, without a look for `pause_s`; `what` is what the daemon did not do in time."""
        session = self._session
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        if (pause_s := min(pause_s, limit_s)) > 0:
            self._ingest.pause(pause_s)
        finished = self._ingest.wait(lambda: done() or session.ended, limit_s - pause_s)
        if done():
            return
        if session.state is SessionState.LOST and session.error is not None:
            raise StreamLost(session.error.message, session.error.code)
        if session.ended:
            raise StreamLost(f"stream {self.name!r} is closed")
        if not finished:
            said = f"; it last said {session.error.code}: {session.error.message}" if session.error else ""
            raise Timeout(
                f"the daemon at {self._ingest.endpoint} did not {what} of stream {self.name!r} within {limit_s:g} s "
                f"({session.unacked} frames without an ack, state {session.state}{said}): is it running? "
                "`trackd status` tells"
            )
