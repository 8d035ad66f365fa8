"""What a client of one daemon and a client of a fleet share: streams to send frames to, and tracks to read."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from trackd_client.detections import Skeleton
from trackd_client.errors import TrackdError
from trackd_client.following.gap_filler import HistorySource
from trackd_client.following.raw import RawSubscription
from trackd_client.following.subscription import EventSubscription, Places, Subscription
from trackd_client.following.tracks import TracksSubscription
from trackd_client.protocol import Event, Open
from trackd_client.replies import StreamStatus
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.measured_clock import measured_clock
from trackd_client.sending.opening import check_opened, check_opening, new_session_token
from trackd_client.sending.session import SessionState, StreamSession
from trackd_client.sending.stream import Stream
from trackd_client.stream_requests import StreamRequests
from trackd_client.transport.connection import Context, shared_context
from trackd_client.transport.curve import curve_keys

S = TypeVar("S", bound=Subscription)


class StreamClient(StreamRequests):
    """Base of the clients. Every method may be called from any thread.

    Args:
        context: a ZeroMQ context; the process's shared one if None.
        timeout_s: how long a call waits if it has no timeout of its own.
        server_key, client_keys: of CURVE.

    Raises:
        ValueError: a key is invalid, or only one of the two arguments is given.
    """

    ingest_endpoint: str | None = None  # of all streams; None: they are at several daemons
    _moves = False  # whether a stream may move from one daemon to another

    def __init__(
        self,
        context: Context | None,
        timeout_s: float,
        server_key: str | bytes | None,
        client_keys: tuple[str | bytes, str | bytes] | None,
    ) -> None:
        self.timeout_s = timeout_s
        self._keys = curve_keys(server_key, client_keys)
        self._context = context if context is not None else shared_context()
        self._lock = threading.Lock()  # guards the fields below
        self._subscriptions: list[Subscription] = []
        self._closed = False

    @abstractmethod
    def streams(self) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream.

        Raises:
            TrackdError: nobody could be asked.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all sockets. The daemon keeps open streams until a timeout or a takeover by another client."""

    @abstractmethod
    def _driver_of(self, stream: str) -> IngestDriver:
        """Return the driver for a stream that is about to be opened."""

    @abstractmethod
    def _history_source(self) -> HistorySource:
        """Return what a subscription requests missing settlements from."""

    @abstractmethod
    def _places(self) -> Places | None:
        """Return what connects a subscription to its streams; None: it has one endpoint."""

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
        if shared_memory and self._moves:
            raise TrackdError("a stream of a fleet may move to another host: shared_memory is not possible")
        shape = tuple(int(size) for size in frame_shape) if frame_shape is not None else None
        opening = Open(name, dict(config or {}), shape, skeleton, model, reply, takeover, source, new_session_token())
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        session = StreamSession(opening)
        check_opening(opening)
        ingest = self._driver_of(name)
        if daemon_clock and not self._moves:
            measured_clock(ingest, limit_s)
        with ingest.turn():
            if name in ingest.sessions:
                raise TrackdError(f"stream {name!r} is open in this client; close it first")
            ingest.add(session)
            try:
                ingest.pump()
                answered = ingest.wait(lambda: session.state is not SessionState.OPENING, limit_s)
                check_opened(session, answered, ingest.unopened(name, limit_s))
            except BaseException:
                ingest.remove(session)
                raise
        if daemon_clock and self._moves:
            try:
                measured_clock(ingest, limit_s)
            except BaseException:
                with ingest.turn():
                    ingest.remove(session)
                raise
        return Stream(
            ingest,
            session,
            timeout_s=self.timeout_s,
            replies=reply == "tracks",
            shared_memory=shared_memory,
            history_of=lambda stream, epoch, seq: self.history(stream, epoch=epoch, from_seq=seq, to_seq=seq),
            daemon_clock=daemon_clock,
        )

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
                self._history_source(),
                self._context,
                (stream, *others),
                from_seq,
                timeout_s,
                until_closed=until_closed,
                keys=self._keys,
                places=self._places(),
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
            TracksSubscription(
                self._history_source(),
                self._context,
                streams,
                from_seq,
                keys=self._keys,
                on_event=on_event,
                places=self._places(),
            )
        )

    def follow_raw(self, *streams: str, from_seq: int | None = None) -> RawSubscription:
        """Return the published messages of streams as bytes; its `follow` adds streams.

        Args:
            streams: the streams' names; there may be none yet.
            from_seq: as for `tracks`.
        """
        return self._subscribed(
            RawSubscription(
                self._history_source(), self._context, streams, from_seq, keys=self._keys, places=self._places()
            )
        )

    def events(self, stream: str, *, timeout_s: float | None = None) -> EventSubscription:
        """Return an iterator over the next events of a stream, heartbeats included."""
        return self._subscribed(
            EventSubscription(
                self._context, self._history_source().tracks_endpoint, stream, timeout_s, self._keys, self._places()
            )
        )

    def _subscribed(self, subscription: S) -> S:
        with self._lock:
            if self._closed:
                subscription.close()
                raise TrackdError("the client is closed")
            self._subscriptions = [s for s in self._subscriptions if not s.closed]
            self._subscriptions.append(subscription)
        return subscription

    def _close_subscriptions(self) -> None:
        with self._lock:
            self._closed = True
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.close()
