"""The client of a daemon: streams to send frames to, tracks to read, and control requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from trackd_client.detections import Skeleton
from trackd_client.errors import IS_IT_RUNNING, Timeout, TrackdError
from trackd_client.following.raw import RawSubscription
from trackd_client.following.subscription import EventSubscription, Subscription
from trackd_client.following.tracks import TracksSubscription
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
from trackd_client.requests import Requests
from trackd_client.sending.clock import CaptureLatency, ClockOffset
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.opening import check_opened, check_opening, new_session_token
from trackd_client.sending.session import SessionState, StreamSession
from trackd_client.sending.stream import Stream
from trackd_client.transport.connection import Context, shared_context
from trackd_client.transport.curve import curve_keys

INGEST = "tcp://127.0.0.1:5570"
TRACKS = "tcp://127.0.0.1:5571"
CONTROL = "tcp://127.0.0.1:5572"
S = TypeVar("S", bound=Subscription)
DRAIN_TIMEOUT_S = 60.0


class Client:
    """A connection to one daemon.

    Args:
        ingest: the endpoint for frames.
        tracks: the endpoint on which tracks and events are published.
        control: the endpoint for requests.
        context: a ZeroMQ context; the process's shared one if None.
        timeout_s: how long a call waits if it has no timeout of its own.
        server_key: the daemon's public CURVE key (`trackd_client.load_server_key`); None: no CURVE.
        client_keys: this client's public and secret key (`trackd_client.load_client_keys`).

    Raises:
        ValueError: a key is invalid, or only one of the two arguments is given.

    A socket connects at its first use. Every method may be called from any thread.
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
        self._lock = threading.Lock()  # guards the fields below
        self._ingest: IngestDriver | None = None
        self._requests = Requests(self._context, control, self._keys)
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def open_stream(
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
    ) -> Stream:
        """Open a stream, or resume one that the daemon still has.

        Args:
            name: 1 to 128 of letters, digits, '.', '_' and '-'.
            config: overrides of the daemon's `tracker` and `stream` keys, and of the `dataset` keys for live frames.
            frame_shape: (h, w) or (h, w, c) of the frames, needed if the frames have no images.
            skeleton: the nodes of the keypoints.
            model: a loaded checkpoint's name.
            reply: "tracks" for `Stream.track`; "ack" if only subscribers read the tracks.
            takeover: take the stream from the client that owns it.
            source: the video's path or URL, for outputs that name it.
            shared_memory: pass images in shared memory; the daemon must run on this host.
            daemon_clock: convert capture times to the daemon's clock, for a camera on another host than the daemon.
            timeout_s: how long to wait for the daemon; the client's `timeout_s` if None.

        Raises:
            TrackdError: the daemon refuses with `stream_busy`, `bad_config`, `unknown_model` or another code.
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        ingest = self._ingest_driver()
        shape = tuple(int(size) for size in frame_shape) if frame_shape is not None else None
        opening = Open(name, dict(config or {}), shape, skeleton, model, reply, takeover, source, new_session_token())
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        session = StreamSession(opening)
        if daemon_clock:
            self.clock(limit_s)
        check_opening(opening)
        with ingest.turn():
            if name in ingest.sessions:
                raise TrackdError(f"stream {name!r} is open in this client; close it first")
            ingest.add(session)
            try:
                ingest.pump()
                answered = ingest.wait(lambda: session.state is not SessionState.OPENING, limit_s)
            finally:
                if session.state is not SessionState.OPEN:
                    ingest.remove(session)
        check_opened(session, answered, self.ingest_endpoint, limit_s, ingest.refusal)
        return Stream(
            ingest,
            session,
            timeout_s=self.timeout_s,
            replies=reply == "tracks",
            shared_memory=shared_memory,
            history_of=lambda stream, epoch, seq: self.history(stream, epoch=epoch, from_seq=seq, to_seq=seq),
            daemon_clock=daemon_clock,
        )

    def clock(self, timeout_s: float | None = None) -> ClockOffset:
        """Return the offset of the daemon's clock, measured at the first call and then every two seconds.

        Raises:
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        ingest = self._ingest_driver()
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        with ingest.turn():
            if not ingest.clock_wanted or not ingest.clock.samples:
                ingest.measure_clock(limit_s)
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

    def capture_latency(self, tracks: Tracks) -> CaptureLatency:
        """Return the time from a frame's capture to this call. Call it when the settlement arrives.

        `tracks.t_ns` must be a time of the daemon's clock: the camera is on the daemon's host, or its stream was opened
        with `daemon_clock`. In the second case, add the uncertainty of the camera's own client.

        Raises:
            Timeout: the daemon's clock is not known, and the daemon does not answer.
        """
        now_ns = time.time_ns()
        clock = self.clock()
        return CaptureLatency(clock.daemon_ns(now_ns) - tracks.t_ns, clock.uncertainty_ns)

    def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol. The methods below cover most of them.

        Raises:
            TrackdError: the daemon refuses, or the connection was lost before the answer.
            Timeout: the daemon did not answer.
        """
        return self._requests.ask(method, params, self.timeout_s)

    def status(self) -> DaemonStatus:
        """Return the daemon's state and a row for each stream."""
        return read_status(self.request("status"))

    def live(self, stream: str) -> LiveTracks:
        """Return the tentative, active and lost tracks of a stream, without those that ended."""
        return read_live_tracks(stream, self.request("tracks.live", stream=stream))

    def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq of a stream; the seq is −1 before its first frame."""
        reply = read_map(self.request("tracks.live", stream=stream), "tracks.live")
        return reply["epoch"], reply["seq"]

    def history(
        self,
        stream: str,
        *,
        epoch: int | None = None,
        from_seq: int | None = None,
        to_seq: int | None = None,
        limit: int | None = None,
    ) -> list[Tracks]:
        """Return settlements of the daemon's history, oldest first; `to_seq` is included.

        One reply holds a limited number of settlements. Call again from the last seq plus 1 for more.
        """
        wanted = {"epoch": epoch, "from_seq": from_seq, "to_seq": to_seq, "limit": limit}
        rows = self.request("history", stream=stream, **{k: v for k, v in wanted.items() if v is not None})
        return read_history(rows)

    def configure(self, stream: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change a stream's configuration between two frames and return the effective one. Identities are kept."""
        effective = read_map(self.request("stream.configure", stream=stream, config=dict(config)), "stream.configure")
        if self._ingest is not None:
            with self._ingest.turn():
                if (session := self._ingest.sessions.get(stream)) is not None:
                    session.configured(effective)
        return effective

    def reset(self, stream: str) -> int:
        """Reset a stream's state and return the new epoch."""
        return int(read_map(self.request("stream.reset", stream=stream), "stream.reset")["epoch"])

    def correct(self, stream: str, action: str, *, author: str | None = None, **params: Any) -> Corrected:
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
        return read_corrected(self.request("stream.correct", stream=stream, action=action, **params))

    def rename_track(self, stream: str, track: int, name: str | None, *, author: str | None = None) -> Corrected:
        """Give a track a name of 1 to 64 characters that no other live track of the stream has; None removes it."""
        return self.correct(stream, "rename", author=author, track=track, name=name)

    def swap_tracks(self, stream: str, one: int, other: int, *, author: str | None = None) -> Corrected:
        """Exchange the ids of two animals. Names stay with the ids."""
        return self.correct(stream, "swap", author=author, tracks=[one, other])

    def merge_tracks(self, stream: str, track: int, into: int, *, author: str | None = None) -> Corrected:
        """Let the animal of one track go on as another track; at most one of them is in the last frame."""
        return self.correct(stream, "merge", author=author, track=track, into=into)

    def end_track(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """End a track. A detection of its animal begins a new one."""
        return self.correct(stream, "end", author=author, track=track)

    def new_track_id(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """Let the animal of a track go on with a new id; the old id ends."""
        return self.correct(stream, "new_id", author=author, track=track)

    def undo_correction(self, stream: str, number: int | None = None, *, author: str | None = None) -> Corrected:
        """Undo the correction of this number, or the last one that is not undone."""
        wanted = {} if number is None else {"number": number}
        return self.correct(stream, "undo", author=author, **wanted)

    def zones(self, stream: str) -> StreamZones:
        """Return the zones and lines that people have drawn on a stream's picture."""
        return read_zones(stream, self.request("stream.zones", stream=stream))

    def set_zones(
        self,
        stream: str,
        zones: Mapping[str, Sequence[Sequence[float]]],
        lines: Mapping[str, Sequence[Sequence[float]]] = MappingProxyType({}),
        *,
        author: str | None = None,
        number: int | None = None,
    ) -> StreamZones:
        """Replace all zones and lines of a stream, and return them with the number of this change.

        Args:
            stream: its name.
            zones: by name 3 to 256 points x y, in pixels of the stream's frames.
            lines: by name two points.
            author: who changes them, at most 64 characters.
            number: of the change that these were made from: the daemon then refuses if there was another one since.

        Raises:
            TrackdError: `bad_message` or `too_large`: one line about what is not valid; `zones_changed`.
        """
        params = zones_params(zones, lines, author, number)
        return read_zones(stream, self.request("stream.set_zones", stream=stream, **params))

    def save_gallery(self, stream: str, gallery: str) -> list[str]:
        """Save what the named animals of a stream look like, for later sessions; return the names in the gallery.

        Args:
            stream: with `tracker.learn_identities: true`, or a `tracker.gallery`.
            gallery: its name: 1 to 64 letters, digits or `. _ -`. One of this name is replaced.

        Raises:
            TrackdError: `bad_config`: nothing is learnt, or no named animal was seen long enough.
        """
        reply = read_map(self.request("identities.save", stream=stream, gallery=gallery), "identities.save")
        return [str(name) for name in reply["animals"]]

    def galleries(self) -> list[str]:
        """Return the names of the daemon's galleries, for `tracker.gallery`."""
        return [str(name) for name in self.request("identities.list")]

    def start_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """Let the daemon record the published messages of a stream, from the next one on, in its own folder.

        Raises:
            TrackdError: `bad_recording`: the daemon has no folder for recordings, or the stream is recorded already.
        """
        wanted = {} if author is None else {"author": author}
        return read_recording(self.request("recording.start", stream=stream, **wanted), active=True)

    def stop_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """End the recording of a stream; return its counts when all of it is on the daemon's disk."""
        wanted = {} if author is None else {"author": author}
        return read_recording(self.request("recording.stop", stream=stream, **wanted), active=False)

    def recordings(self) -> list[StreamRecording]:
        """Return the recordings in the daemon's folder, oldest first, those that are still written last."""
        return [read_recording(row, active=False) for row in self.request("recording.list")]

    def models(self) -> list[Any]:
        """Return the loaded models."""
        return list(self.request("models"))

    def drain(self) -> Any:
        """Make the daemon stop accepting frames, settle the queued ones, write its snapshots and exit."""
        return self._requests.ask("drain", {}, max(self.timeout_s, DRAIN_TIMEOUT_S))

    def tracks(
        self,
        stream: str,
        *others: str,
        from_seq: int | None = None,
        timeout_s: float | None = None,
        until_closed: bool = False,
    ) -> TracksSubscription:
        """Return an iterator over the settlements of one or several streams.

        Each settlement is returned exactly once, those of one stream in seq order. The call subscribes, so the iterator
        includes everything that is sent after it. To follow several streams, use one iterator: another thread costs
        more than reading its messages.

        Args:
            stream: the stream's name; it need not be open yet.
            others: more streams; `Tracks.stream` names the stream of a settlement.
            from_seq: begin with this seq, or with the oldest one in `history`; None: with the next frame.
            timeout_s: raise `Timeout` after this time without a settlement; None: wait without a limit.
            until_closed: end when all streams are closed and all their settlements were returned.
        """
        return self._subscribed(
            TracksSubscription(
                self, self._context, (stream, *others), from_seq, timeout_s, until_closed=until_closed, keys=self._keys
            )
        )

    def follow(
        self, *streams: str, from_seq: int | None = None, on_event: Callable[[Event], None] | None = None
    ) -> TracksSubscription:
        """Return an iterator as `tracks` does, which passes events on and can follow further streams.

        Args:
            streams: the streams' names; there may be none yet. The iterator's own `follow` adds streams.
            from_seq: as for `tracks`.
            on_event: is called with each event, heartbeats included, in order with the settlements of its stream.
        """
        return self._subscribed(
            TracksSubscription(self, self._context, streams, from_seq, keys=self._keys, on_event=on_event)
        )

    def follow_raw(self, *streams: str, from_seq: int | None = None) -> RawSubscription:
        """Return the published messages of streams as bytes; its `follow` adds streams.

        Args:
            streams: the streams' names; there may be none yet.
            from_seq: as for `tracks`.
        """
        return self._subscribed(RawSubscription(self, self._context, streams, from_seq, keys=self._keys))

    def events(self, stream: str, *, timeout_s: float | None = None) -> EventSubscription:
        """Return an iterator over the next events of a stream, heartbeats included."""
        return self._subscribed(EventSubscription(self._context, self.tracks_endpoint, stream, timeout_s, self._keys))

    def close(self) -> None:
        """Close all sockets. The daemon keeps open streams until a timeout or a takeover by another client."""
        with self._lock:
            self._closed = True
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.close()
        if self._ingest is not None:
            self._ingest.close()
        self._requests.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _subscribed(self, subscription: S) -> S:
        with self._lock:
            if self._closed:
                subscription.close()
                raise TrackdError("the client is closed")
            self._subscriptions = [s for s in self._subscriptions if not s.closed]
            self._subscriptions.append(subscription)
        return subscription

    def _ingest_driver(self) -> IngestDriver:
        with self._lock:
            if self._closed:
                raise TrackdError("the client is closed")
            if self._ingest is None:
                self._ingest = IngestDriver(self._context, self.ingest_endpoint, self._keys)
            return self._ingest
