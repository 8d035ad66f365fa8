"""The settlements and events of named streams, or of all streams of a daemon, on one thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from trackd_client.errors import Timeout, TrackdError
from trackd_client.following.tracks import TracksSubscription
from trackd_client.protocol import Event, Tracks
from trackd_client.stream_client import StreamClient

logger = logging.getLogger(__name__)

LOOK_FOR_STREAMS_S = 1.0


class OpenStreams:
    """The names of a daemon's open streams: those at the start, and later ones as they are opened.

    Raises:
        TrackdError: there is no daemon.
    """

    def __init__(self, client: StreamClient) -> None:
        self._client = client
        self._found: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.first = self._names()  # fails at once if there is no daemon
        threading.Thread(target=self._look, args=(set(self.first),), name="open streams", daemon=True).start()

    def take(self) -> list[str]:
        """Return the names that were found since the last call."""
        names: list[str] = []
        while not self._found.empty():
            names.append(self._found.get())
        return names

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _names(self) -> list[str]:
        return [row.stream for row in self._client.streams() if row.unavailable is None]

    def _look(self, known: set[str]) -> None:
        while not self._stop.wait(LOOK_FOR_STREAMS_S):
            try:
                names = self._names()
            except TrackdError as error:  # it may be restarted
                logger.debug("the open streams are not known: %s", error)
                continue
            for name in names:
                if name not in known:
                    known.add(name)
                    self._found.put(name)


def follow_new(subscription: TracksSubscription, streams: OpenStreams | None) -> None:
    """Follow the streams that were opened since the last call, from their first frame."""
    for name in streams.take() if streams is not None else ():
        try:
            subscription.follow(name, from_seq=0)
        except TrackdError as error:
            logger.warning("stream=%s: cannot be followed: %s", name, error)


class LiveStreams:
    """Every settlement once and in order, and the events between them.

    Args:
        client: connected to the daemon.
        streams: the names; empty: all open streams, and from its first frame each one that is opened later.
        on_event: is called with each event, on the thread that calls `next`.

    Raises:
        TrackdError: there is no daemon, or it refuses.
    """

    def __init__(
        self, client: StreamClient, streams: Sequence[str] = (), on_event: Callable[[Event], None] | None = None
    ) -> None:
        self._open: OpenStreams | None = None
        if streams:
            client.streams()  # fails at once if there is no daemon
        else:
            self._open = OpenStreams(client)
            streams = self._open.first
        self._subscription = client.follow(*streams, on_event=on_event)

    @property
    def received_ns(self) -> int:
        """When the message of the last settlement or event was received, by `time.monotonic_ns`."""
        return self._subscription.received_ns

    def next(self, timeout_s: float) -> Tracks | None:
        """Return the next settlement, or None after `timeout_s`."""
        follow_new(self._subscription, self._open)
        try:
            return self._subscription.next(timeout_s)
        except Timeout:
            return None

    def close(self) -> None:
        """End the subscription."""
        if self._open is not None:
            self._open.close()
        self._subscription.close()

    def __enter__(self) -> LiveStreams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
