"""The settlements and events of named streams, or of all streams of a daemon, on one thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from trackd_client.client import Client
from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import Event, Tracks

logger = logging.getLogger(__name__)

LOOK_FOR_STREAMS_S = 1.0


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
        self, client: Client, streams: Sequence[str] = (), on_event: Callable[[Event], None] | None = None
    ) -> None:
        self._client = client
        self._found: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        open_streams = self._open_streams()  # fails at once if there is no daemon
        self._subscription = client.follow(*(streams or open_streams), on_event=on_event)
        if not streams:
            threading.Thread(target=self._look, args=(set(open_streams),), name="open streams", daemon=True).start()

    @property
    def received_ns(self) -> int:
        """When the message of the last settlement or event was received, by `time.monotonic_ns`."""
        return self._subscription.received_ns

    def next(self, timeout_s: float) -> Tracks | None:
        """Return the next settlement, or None after `timeout_s`."""
        while not self._found.empty():
            name = self._found.get()
            try:
                self._subscription.follow(name, from_seq=0)
            except TrackdError as error:
                logger.warning("stream=%s: cannot be followed: %s", name, error)
        try:
            return self._subscription.next(timeout_s)
        except Timeout:
            return None

    def close(self) -> None:
        """End the subscription."""
        self._stop.set()
        self._subscription.close()

    def __enter__(self) -> LiveStreams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_streams(self) -> list[str]:
        return [row.stream for row in self._client.status().streams if row.unavailable is None]

    def _look(self, known: set[str]) -> None:
        while not self._stop.wait(LOOK_FOR_STREAMS_S):
            try:
                names = self._open_streams()
            except TrackdError as error:  # it may be restarted
                logger.debug("the open streams are not known: %s", error)
                continue
            for name in names:
                if name not in known:
                    known.add(name)
                    self._found.put(name)
