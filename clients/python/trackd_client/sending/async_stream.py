"""One stream of frames in an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import Error, ProtocolError, SharedImage, Tracks
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.frame_input import FrameInput
from trackd_client.sending.outcome import check_ended, check_tracked
from trackd_client.sending.session import PendingFrame, SessionState, StreamSession
from trackd_client.sending.shared_images import fits, new_ring
from trackd_client.sending.stream_state import StreamState
from trackd_client.sending.submission import AnyImage
from trackd_client.transport.shared_memory import ImageRing

AsyncHistoryOf = Callable[[str, int, int], Awaitable[Sequence[Tracks]]]

_HISTORY_RETRY_S = 0.05


class AsyncStream(StreamState):
    """One stream of frames, made by `AsyncClient.open_stream`; its methods are those of `Stream`, as coroutines.

    Send the frames of one stream from one task at a time, in order. A cancelled call may have sent its frame.

    Attributes:
        name: the stream's name.
        rejected: the errors of the last 256 rejected frames.
    """

    def __init__(
        self,
        ingest: AsyncIngestDriver,
        session: StreamSession,
        *,
        timeout_s: float,
        replies: bool,
        shared_memory: bool,
        history_of: AsyncHistoryOf,
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
        last_index = -1 if session.last_frame_index is None else session.last_frame_index
        self._input = FrameInput(last_index, ingest.clock if daemon_clock else None)

    async def send(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> int:
        """Send a frame; wait only while the daemon's queue for this stream is full. See `Stream.send`.

        Returns:
            The frame's seq.

        Raises:
            TrackdError: a value cannot be sent; the text names it. The frame has no seq, and the stream continues.
            Timeout: the queue was full for too long; the frame was not sent and has no seq.
            StreamLost: another client took the stream over, or it was closed.
        """
        copied = image.copy() if isinstance(image, np.ndarray) and not self._shared_memory else image
        pending = await self._submit(copied, detections, frame_index, t_ns, timeout_s, traceparent)
        return pending.frame.seq

    async def track(
        self,
        image: AnyImage | None,
        detections: Detections,
        *,
        frame_index: int | None = None,
        t_ns: int | None = None,
        timeout_s: float | None = None,
        traceparent: str | None = None,
    ) -> Tracks:
        """Send a frame and wait for its tracks. See `Stream.track`.

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
        pending = await self._submit(image, detections, frame_index, t_ns, timeout_s, traceparent, wants_tracks=True)
        try:
            tracks = await self._answer(pending, timeout_s, deadline)
        except BaseException:  # a cancelled call too: the caller may change the image now
            pending.copy_image()
            raise
        return check_tracked(pending, tracks)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled.

        Raises:
            Timeout: some frames were not settled in time.
            StreamLost: another client took the stream over, or it was closed.
        """
        await self._wait(lambda: not self._session.unacked, timeout_s, "settle all frames")

    async def close(self, timeout_s: float | None = None) -> None:
        """Wait until every frame is settled, then close the stream. A second call does nothing.

        Raises:
            Timeout: the daemon did not settle the frames and close the stream in time. The client drops the stream.
            StreamLost: the stream was taken over or closed before all its frames were settled.
        """
        session = self._session
        try:
            if session.state is SessionState.CLOSED or (session.state is SessionState.LOST and not session.unacked):
                return
            session.close()
            self._ingest.pump()
            await self._wait(lambda: session.state is SessionState.CLOSED, timeout_s, "settle all frames and close")
        finally:
            self._ingest.remove(session)
            if self._ring is not None:
                self._ring.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        with suppress(TrackdError):  # keep the error that is being raised
            await self.close(timeout_s=min(1.0, self._timeout_s))

    async def _submit(
        self,
        image: AnyImage | None,
        detections: Detections,
        frame_index: int | None,
        t_ns: int | None,
        timeout_s: float | None,
        traceparent: str | None,
        *,
        wants_tracks: bool = False,
    ) -> PendingFrame:
        session = self._session
        checked = self._input.check(image, detections, frame_index, t_ns)
        if not session.can_submit:
            await self._wait(lambda: session.can_submit, timeout_s, "accept another frame")
        sent = checked.image
        if self._shared_memory and isinstance(sent, np.ndarray):
            sent = await self._share(sent)
        try:
            pending = session.submit(
                sent, checked.detections, checked.frame_index, checked.t_ns, wants_tracks=wants_tracks,
                traceparent=traceparent,
            )  # fmt: skip
        except ProtocolError as error:
            raise TrackdError(error.message, error.code) from None
        self._input.sent(checked)
        self._ingest.pump(read=False)
        return pending

    async def _share(self, image: Image) -> SharedImage:
        """Write the image to the ring. The ring has more slots than there can be frames without an ack."""
        session = self._session
        if self._ring is None or not fits(self._ring, image):
            if self._ring is not None:
                # The daemon opens a segment by name, so wait until it has read the frames of the old shape.
                await self._wait(lambda: not session.unacked, None, "settle frames of another shape")
                self._ring.close()
            self._ring = new_ring(image, session)
        return self._ring.write(image)

    async def _answer(self, pending: PendingFrame, timeout_s: float | None, deadline: float) -> Tracks | None:
        """Wait for a frame's settlement and return its tracks, or None if the daemon sent an error instead."""
        await self._wait(lambda: pending.answered, timeout_s, "track a frame", deadline=deadline)
        if not pending.reply_lost:
            return pending.tracks
        # The frame settled while the connection was lost, and so was the reply. The daemon's history has the tracks.
        while time.monotonic() < deadline:
            for tracks in await self._history_of(self.name, self._session.epoch, pending.frame.seq):
                return tracks
            await asyncio.sleep(_HISTORY_RETRY_S)
        raise Timeout(f"stream {self.name!r}: seq {pending.frame.seq} settled, but it is missing from history")

    async def _wait(
        self, done: Callable[[], bool], timeout_s: float | None, what: str, *, deadline: float | None = None
    ) -> None:
        session = self._session
        limit_s = max(0.0, self._timeout_s if timeout_s is None else timeout_s)
        left = limit_s if deadline is None else deadline - time.monotonic()
        finished = await self._ingest.wait(lambda: done() or session.ended, left)
        if not done():
            check_ended(session, finished, self._ingest.endpoint, limit_s, what)
