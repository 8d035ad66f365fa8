"""The client of a daemon for asyncio programs, over the same session state as `Client`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

from trackd_client.async_requests import AsyncRequests
from trackd_client.client import CONTROL, DRAIN_TIMEOUT_S, INGEST, TRACKS, Client
from trackd_client.detections import Skeleton
from trackd_client.errors import IS_IT_RUNNING, Timeout, TrackdError
from trackd_client.following.async_iteration import AsyncIteration
from trackd_client.protocol import Event, Open, Tracks
from trackd_client.replies import (
    Corrected,
    DaemonStatus,
    LiveTracks,
    StreamRecording,
    StreamZones,
    read_corrected,
    read_history,
    read_live_tracks,
    read_map,
    read_recording,
    read_status,
    read_zones,
    zones_params,
)
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.async_stream import AsyncStream
from trackd_client.sending.clock import CaptureLatency, ClockOffset
from trackd_client.sending.opening import check_opened, check_opening, new_session_token
from trackd_client.sending.session import SessionState, StreamSession
from trackd_client.transport.connection import Context, shared_context
from trackd_client.transport.curve import curve_keys


class AsyncClient:
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
        self.timeout_s = timeout_s
        self._keys = curve_keys(server_key, client_keys)
        self._context = context if context is not None else shared_context()
        self._ingest: AsyncIngestDriver | None = None
        self._requests = AsyncRequests(self._context, control, self._keys)
        # Its subscriptions are read by threads; it has no connection before the first one.
        self._following = Client(
            ingest, tracks, control, self._context, timeout_s, server_key=server_key, client_keys=client_keys
        )
        self._iterations: list[AsyncIteration[Any]] = []
        self._closed = False

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
        ingest = self._ingest_driver()
        shape = tuple(int(size) for size in frame_shape) if frame_shape is not None else None
        opening = Open(name, dict(config or {}), shape, skeleton, model, reply, takeover, source, new_session_token())
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        check_opening(opening)
        if daemon_clock:
            await self.clock(limit_s)
        if name in ingest.sessions:
            raise TrackdError(f"stream {name!r} is open in this client; close it first")
        session = StreamSession(opening)
        ingest.add(session)
        try:
            ingest.pump()
            answered = await ingest.wait(lambda: session.state is not SessionState.OPENING, limit_s)
        finally:
            if session.state is not SessionState.OPEN:
                ingest.remove(session)
        check_opened(session, answered, self.ingest_endpoint, limit_s, ingest.refusal)
        return AsyncStream(
            ingest,
            session,
            timeout_s=self.timeout_s,
            replies=reply == "tracks",
            shared_memory=shared_memory,
            history_of=self._history_of,
            daemon_clock=daemon_clock,
        )

    async def clock(self, timeout_s: float | None = None) -> ClockOffset:
        """Return the offset of the daemon's clock, measured at the first call and then every two seconds.

        Raises:
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        ingest = self._ingest_driver()
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        if not ingest.clock_wanted or not ingest.clock.samples:
            await ingest.measure_clock(limit_s)
        known = ingest.clock.at(time.time_ns())
        if known is None:
            raise Timeout(
                f"the daemon at {self.ingest_endpoint} did not answer a ping within {limit_s:g} s: "
                f"{ingest.refusal or IS_IT_RUNNING}"
            )
        return known

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
        return await self._requests.ask(method, params, self.timeout_s)

    async def status(self) -> DaemonStatus:
        """Return the daemon's state and a row for each stream."""
        return read_status(await self.request("status"))

    async def live(self, stream: str) -> LiveTracks:
        """Return the tentative, active and lost tracks of a stream, without those that ended."""
        return read_live_tracks(stream, await self.request("tracks.live", stream=stream))

    async def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq of a stream; the seq is −1 before its first frame."""
        reply = read_map(await self.request("tracks.live", stream=stream), "tracks.live")
        return reply["epoch"], reply["seq"]

    async def history(
        self,
        stream: str,
        *,
        epoch: int | None = None,
        from_seq: int | None = None,
        to_seq: int | None = None,
        limit: int | None = None,
    ) -> list[Tracks]:
        """Return settlements of the daemon's history, oldest first; `to_seq` is included. See `Client.history`."""
        wanted = {"epoch": epoch, "from_seq": from_seq, "to_seq": to_seq, "limit": limit}
        rows = await self.request("history", stream=stream, **{k: v for k, v in wanted.items() if v is not None})
        return read_history(rows)

    async def configure(self, stream: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change a stream's configuration between two frames and return the effective one. Identities are kept."""
        reply = await self.request("stream.configure", stream=stream, config=dict(config))
        effective = read_map(reply, "stream.configure")
        if self._ingest is not None and (session := self._ingest.sessions.get(stream)) is not None:
            session.configured(effective)
        return effective

    async def reset(self, stream: str) -> int:
        """Reset a stream's state and return the new epoch."""
        return int(read_map(await self.request("stream.reset", stream=stream), "stream.reset")["epoch"])

    async def correct(self, stream: str, action: str, *, author: str | None = None, **params: Any) -> Corrected:
        """Correct the tracks of a stream from the next frame on. The methods below are this call for each action.

        Args:
            stream: its name.
            action: `rename`, `swap`, `merge`, `end`, `new_id` or `undo`.
            author: who corrects, at most 64 characters; for people who read the events and the outputs.
            params: of the action, as the protocol has them: `track`, `tracks`, `into`, `name`, `number`.

        Raises:
            TrackdError: `bad_correction`: it is not possible, and nothing has changed; the text states what would be.
        """
        if author is not None:
            params["author"] = author
        return read_corrected(await self.request("stream.correct", stream=stream, action=action, **params))

    async def rename_track(self, stream: str, track: int, name: str | None, *, author: str | None = None) -> Corrected:
        """Give a track a name of 1 to 64 characters that no other live track of the stream has; None removes it."""
        return await self.correct(stream, "rename", author=author, track=track, name=name)

    async def swap_tracks(self, stream: str, one: int, other: int, *, author: str | None = None) -> Corrected:
        """Exchange the ids of two animals. Names stay with the ids."""
        return await self.correct(stream, "swap", author=author, tracks=[one, other])

    async def merge_tracks(self, stream: str, track: int, into: int, *, author: str | None = None) -> Corrected:
        """Let the animal of one track go on as another track; at most one of them is in the last frame."""
        return await self.correct(stream, "merge", author=author, track=track, into=into)

    async def end_track(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """End a track. A detection of its animal begins a new one."""
        return await self.correct(stream, "end", author=author, track=track)

    async def new_track_id(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """Let the animal of a track go on with a new id; the old id ends."""
        return await self.correct(stream, "new_id", author=author, track=track)

    async def undo_correction(self, stream: str, number: int | None = None, *, author: str | None = None) -> Corrected:
        """Undo the correction of this number, or the last one that is not undone."""
        wanted = {} if number is None else {"number": number}
        return await self.correct(stream, "undo", author=author, **wanted)

    async def zones(self, stream: str) -> StreamZones:
        """Return the zones and lines that people have drawn on a stream's picture."""
        return read_zones(stream, await self.request("stream.zones", stream=stream))

    async def set_zones(
        self,
        stream: str,
        zones: Mapping[str, Sequence[Sequence[float]]],
        lines: Mapping[str, Sequence[Sequence[float]]] = MappingProxyType({}),
        *,
        author: str | None = None,
        number: int | None = None,
    ) -> StreamZones:
        """Replace all zones and lines of a stream, and return them with the number of this change.

        See `Client.set_zones`.
        """
        params = zones_params(zones, lines, author, number)
        return read_zones(stream, await self.request("stream.set_zones", stream=stream, **params))

    async def save_gallery(self, stream: str, gallery: str) -> list[str]:
        """Save what the named animals of a stream look like, for later sessions; return the names in the gallery.

        See `Client.save_gallery`.
        """
        reply = read_map(await self.request("identities.save", stream=stream, gallery=gallery), "identities.save")
        return [str(name) for name in reply["animals"]]

    async def galleries(self) -> list[str]:
        """Return the names of the daemon's galleries, for `tracker.gallery`."""
        return [str(name) for name in await self.request("identities.list")]

    async def start_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """Let the daemon record the published messages of a stream, from the next one on, in its own folder.

        Raises:
            TrackdError: `bad_recording`: the daemon has no folder for recordings, or the stream is recorded already.
        """
        wanted = {} if author is None else {"author": author}
        return read_recording(await self.request("recording.start", stream=stream, **wanted), active=True)

    async def stop_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """End the recording of a stream; return its counts when all of it is on the daemon's disk."""
        wanted = {} if author is None else {"author": author}
        return read_recording(await self.request("recording.stop", stream=stream, **wanted), active=False)

    async def recordings(self) -> list[StreamRecording]:
        """Return the recordings in the daemon's folder, oldest first, those that are still written last."""
        return [read_recording(row, active=False) for row in await self.request("recording.list")]

    async def models(self) -> list[Any]:
        """Return the loaded models."""
        return list(await self.request("models"))

    async def drain(self) -> Any:
        """Make the daemon stop accepting frames, settle the queued ones, write its snapshots and exit."""
        return await self._requests.ask("drain", {}, max(self.timeout_s, DRAIN_TIMEOUT_S))

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

    async def close(self) -> None:
        """Close all sockets. The daemon keeps open streams until a timeout or a takeover by another client."""
        self._closed = True
        for iteration in self._iterations:
            iteration.close()
        self._iterations.clear()
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

    def _iterating(self, iteration: AsyncIteration[Any]) -> AsyncIteration[Any]:
        if self._closed:
            raise TrackdError("the client is closed")
        self._iterations = [each for each in self._iterations if not each.closed]
        self._iterations.append(iteration)
        return iteration

    async def _history_of(self, stream: str, epoch: int, seq: int) -> list[Tracks]:
        return await self.history(stream, epoch=epoch, from_seq=seq, to_seq=seq)

    def _ingest_driver(self) -> AsyncIngestDriver:
        if self._closed:
            raise TrackdError("the client is closed")
        if self._ingest is None:
            self._ingest = AsyncIngestDriver(self._context, self.ingest_endpoint, self._keys)
        return self._ingest
