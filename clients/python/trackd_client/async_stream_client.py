"""What an asyncio client of one daemon and one of a fleet share: streams to send frames to, and tracks to read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from trackd_client.async_stream_requests import AsyncStreamRequests
from trackd_client.detections import Skeleton
from trackd_client.errors import TrackdError
from trackd_client.following.async_iteration import AsyncIteration
from trackd_client.protocol import Event, Open, Tracks
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.async_stream import AsyncStream
from trackd_client.sending.measured_clock import measured_async_clock
from trackd_client.sending.opening import check_opened, check_opening, new_session_token
from trackd_client.sending.session import SessionState, StreamSession
from trackd_client.stream_client import StreamClient
from trackd_client.transport.connection import Context, shared_context
from trackd_client.transport.curve import curve_keys


class AsyncStreamClient(AsyncStreamRequests):
    """Base of the asyncio clients.

    Args:
        context: a ZeroMQ context; the process's shared one if None.
        timeout_s: how long a call waits if it has no timeout of its own.
        server_key, client_keys: of CURVE.
        following: reads the subscriptions, on threads; it has no connection before the first one.

    Raises:
        ValueError: a key is invalid, or only one of the two arguments is given.
    """

    _moves = False  # whether a stream may move from one daemon to another

    def __init__(
        self,
        context: Context | None,
        timeout_s: float,
        server_key: str | bytes | None,
        client_keys: tuple[str | bytes, str | bytes] | None,
        following: StreamClient,
    ) -> None:
        self.timeout_s = timeout_s
        self._keys = curve_keys(server_key, client_keys)
        self._context = context if context is not None else shared_context()
        self._following = following
        self._iterations: list[AsyncIteration[Any]] = []
        self._closed = False

    @abstractmethod
    def _driver_of(self, stream: str) -> AsyncIngestDriver:
        """Return the driver for a stream that is about to be opened."""

    async def open_stream(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        frame_shape: Sequence[int] | None = None,
        skeleton: Skeleton | None = None,
        model: str | None = None,
        reply: str = "ack",
        takeover: bool = False,
        source: str | None = None,
        shared_memory: bool = False,
        daemon_clock: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncStream:
        """Open a stream, or resume one that the daemon still has. See `Client.open_stream`.

        Raises:
            TrackdError: the daemon refuses with `stream_busy`, `bad_config`, `unknown_model` or another code.
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        if shared_memory and self._moves:
            raise TrackdError("a stream of a fleet may move to another host: shared_memory is not possible")
        shape = tuple(int(size) for size in frame_shape) if frame_shape is not None else None
        opening = Open(name, dict(config or {}), shape, skeleton, model, reply, takeover, source, new_session_token())
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        check_opening(opening)
        ingest = self._driver_of(name)
        if daemon_clock and not self._moves:
            await measured_async_clock(ingest, limit_s)
        if name in ingest.sessions:
            raise TrackdError(f"stream {name!r} is open in this client; close it first")
        session = StreamSession(opening)
        ingest.add(session)
        try:
            ingest.pump()
            answered = await ingest.wait(lambda: session.state is not SessionState.OPENING, limit_s)
            check_opened(session, answered, ingest.unopened(name, limit_s))
            if daemon_clock and self._moves:
                await measured_async_clock(ingest, limit_s)
        except BaseException:
            ingest.remove(session)
            raise
        return AsyncStream(
            ingest,
            session,
            timeout_s=self.timeout_s,
            replies=reply == "tracks",
            shared_memory=shared_memory,
            history_of=self._history_of,
            daemon_clock=daemon_clock,
        )

    def tracks(
        self,
        stream: str,
        *others: str,
        from_seq: int | None = None,
        timeout_s: float | None = None,
        until_closed: bool = False,
    ) -> AsyncIterator[Tracks]:
        """Return an asynchronous iterator over the settlements of one or several streams. See `Client.tracks`.

        It subscribes when the first settlement is asked for, on a thread of its own.
        """

        def begin() -> Any:
            return self._following.tracks(
                stream, *others, from_seq=from_seq, timeout_s=timeout_s, until_closed=until_closed
            )

        return self._iterating(AsyncIteration[Tracks](begin))

    def events(self, stream: str, *, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """Return an asynchronous iterator over the next events of a stream, heartbeats included."""
        return self._iterating(AsyncIteration[Event](lambda: self._following.events(stream, timeout_s=timeout_s)))

    def _iterating(self, iteration: AsyncIteration[Any]) -> AsyncIteration[Any]:
        if self._closed:
            raise TrackdError("the client is closed")
        self._iterations = [each for each in self._iterations if not each.closed]
        self._iterations.append(iteration)
        return iteration

    async def _history_of(self, stream: str, epoch: int, seq: int) -> list[Tracks]:
        return await self.history(stream, epoch=epoch, from_seq=seq, to_seq=seq)

    def _close_iterations(self) -> None:
        self._closed = True
        for iteration in self._iterations:
            iteration.close()
        self._iterations.clear()
