"""The client of a daemon for asyncio programs, over the same session state as `Client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from trackd_client.async_requests import AsyncRequests
from trackd_client.async_stream_client import AsyncStreamClient
from trackd_client.client import CONTROL, DRAIN_TIMEOUT_S, INGEST, TRACKS, Client
from trackd_client.errors import FOLLOWS, TrackdError
from trackd_client.protocol import ErrorCode, Tracks
from trackd_client.replies import DaemonStatus, StreamRecording, StreamStatus, read_recording, read_status
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.clock import CaptureLatency, ClockOffset
from trackd_client.sending.measured_clock import measured_async_clock
from trackd_client.transport.connection import Context


class AsyncClient(AsyncStreamClient):
    """A connection to one daemon, in one event loop. Arguments and methods are those of `Client`, as coroutines.

    Frames and requests use no thread besides that of the event loop; each iterator of `tracks` and `events` has one.

    Raises:
        ValueError: a key is invalid, or only one of the two arguments is given.
    """

    def __init__(
        self,
        ingest: str = INGEST,
        tracks: str = TRACKS,
        control: str = CONTROL,
        context: Context | None = None,
        timeout_s: float = 10.0,
        *,
        server_key: str | bytes | None = None,
        client_keys: tuple[str | bytes, str | bytes] | None = None,
    ) -> None:
        self.ingest_endpoint, self.tracks_endpoint, self.control_endpoint = ingest, tracks, control
        # Its subscriptions are read by threads; it has no connection before the first one.
        following = Client(ingest, tracks, control, context, timeout_s, server_key=server_key, client_keys=client_keys)
        super().__init__(context, timeout_s, server_key, client_keys, following)
        self._ingest: AsyncIngestDriver | None = None
        self._requests = AsyncRequests(self._context, control, self._keys)

    async def clock(self, timeout_s: float | None = None) -> ClockOffset:
        """Return the offset of the daemon's clock, measured at the first call and then every two seconds.

        Raises:
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return await measured_async_clock(self._ingest_driver(), limit_s)

    @property
    def clock_offset_ns(self) -> int | None:
        """The daemon's clock minus this host's, or None before the first measurement; `clock` waits for it."""
        known = self._ingest.clock.at(time.time_ns()) if self._ingest is not None else None
        return known.offset_ns if known is not None else None

    @property
    def clock_uncertainty_ns(self) -> int | None:
        """The largest error of `clock_offset_ns`: half of a ping's round trip, plus the drift since then."""
        known = self._ingest.clock.at(time.time_ns()) if self._ingest is not None else None
        return known.uncertainty_ns if known is not None else None

    async def capture_latency(self, tracks: Tracks) -> CaptureLatency:
        """Return the time from a frame's capture to this call. See `Client.capture_latency`.

        Raises:
            Timeout: the daemon's clock is not known, and the daemon does not answer.
        """
        now_ns = time.time_ns()
        clock = await self.clock()
        return CaptureLatency(clock.daemon_ns(now_ns) - tracks.t_ns, clock.uncertainty_ns)

    async def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol. The methods below cover most of them.

        Raises:
            TrackdError: the daemon refuses, or the connection was lost before the answer.
            Timeout: the daemon did not answer.
        """
        try:
            return await self._requests.ask(method, params, self.timeout_s)
        except TrackdError as error:
            if error.code is ErrorCode.MOVED:
                raise TrackdError(f"{error.message}. {FOLLOWS}", error.code) from None
            raise

    async def status(self) -> DaemonStatus:
        """Return the daemon's state and a row for each stream."""
        return read_status(await self.request("status"))

    async def streams(self) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream."""
        return (await self.status()).streams

    async def recordings(self) -> list[StreamRecording]:
        """Return the recordings in the daemon's folder, oldest first, those that are still written last."""
        return [read_recording(row, active=False) for row in await self.request("recording.list")]

    async def models(self) -> list[Any]:
        """Return the loaded models."""
        return list(await self.request("models"))

    async def drain(self) -> Any:
        """Make the daemon stop accepting frames, settle the queued ones, write its snapshots and exit."""
        return await self._requests.ask("drain", {}, max(self.timeout_s, DRAIN_TIMEOUT_S))

    async def close(self) -> None:
        """Close all sockets. The daemon keeps open streams until a timeout or a takeover by another client."""
        self._close_iterations()
        if self._ingest is not None:
            await self._ingest.close()
        await self._requests.close()
        await asyncio.to_thread(self._following.close)  # a subscription's thread may hold its socket for 0.1 s

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        if self._ingest is not None and (session := self._ingest.sessions.get(stream)) is not None:
            session.configured(effective)

    def _driver_of(self, stream: str) -> AsyncIngestDriver:
        return self._ingest_driver()

    def _ingest_driver(self) -> AsyncIngestDriver:
        if self._closed:
            raise TrackdError("the client is closed")
        if self._ingest is None:
            self._ingest = AsyncIngestDriver(self._context, self.ingest_endpoint, self._keys)
        return self._ingest
