"""The published settlements of streams: each exactly once and in order, also if messages are lost.

A subscriber that is slow, late or disconnected loses messages without an error. A gap in seq shows the loss, or a
heartbeat if the last messages are lost. `history` returns the missing settlements.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from trackd_client.following.gap_filler import GRACE_S, GapFiller, HistorySource
from trackd_client.following.subscription import SLICE_S, Places, Subscription
from trackd_client.protocol import Event, Tracks, topic
from trackd_client.transport.connection import Context
from trackd_client.transport.curve import CurveKeys

_CHECK_S = GRACE_S / 2  # between two calls of `GapFiller.check_due` while messages arrive


class TracksSubscription(Subscription, Iterator[Tracks]):
    """The settlements of one or several streams, those of one stream in order. `Tracks.stream` names the stream.

    Args:
        client: requests `tracks.live` and `history`.
        context: the ZeroMQ context.
        streams: the streams' names.
        from_seq: the first seq of each stream to return; None: begin with the next frame.
        timeout_s: raise `Timeout` after this time without a settlement.
        until_closed: end when all streams are closed and all their settlements were returned.
        keys: the CURVE keys, or None.
        on_event: is called with each event when it is received: after `next` has returned the settlements before it.
        places: follows the streams from daemon to daemon; None: they do not move.
    """

    def __init__(
        self,
        client: HistorySource,
        context: Context,
        streams: tuple[str, ...],
        from_seq: int | None = None,
        timeout_s: float | None = None,
        *,
        until_closed: bool = False,
        keys: CurveKeys | None = None,
        on_event: Callable[[Event], None] | None = None,
        places: Places | None = None,
    ) -> None:
        super().__init__(context, client.tracks_endpoint, (), (), timeout_s, keys, places)
        self._client = client
        self._until_closed = until_closed
        self._on_event = on_event
        self._ready: deque[Tracks] = deque()
        self._check_at = time.monotonic()
        self._gap_fillers: dict[str, GapFiller] = {}
        try:
            self.follow(*streams, from_seq=from_seq)
        except BaseException:
            self.close()
            raise

    def follow(self, *streams: str, from_seq: int | None = None) -> None:
        """Follow further streams, from `from_seq` on. Call this on the thread that iterates.

        Raises:
            TrackdError: the daemon refuses, or does not answer.
        """
        now = time.monotonic()
        new = [stream for stream in dict.fromkeys(streams) if stream not in self._gap_fillers]
        # All topics before the first position is requested, so that no settlement is missed.
        self._subscribe(*(topic(kind, stream) for stream in new for kind in ("tracks", "events")))
        self.streams = (*self.streams, *new)
        for stream in new:
            if self._places is not None:
                self._places.follow(stream)
            self._gap_fillers[stream] = GapFiller(
                self._client, stream, self._ready.append, lambda: self.closed, until_closed=self._until_closed, now=now
            )
        for stream in new:
            self._gap_fillers[stream].begin(from_seq, now)

    def __next__(self) -> Tracks:
        tracks = self.next(self._timeout_s)
        if tracks is None:
            raise StopIteration
        return tracks

    def next(self, timeout_s: float | None = None) -> Tracks | None:
        """Return the next settlement, or None once the subscription has ended.

        Raises:
            Timeout: no settlement arrived within `timeout_s`.
        """
        if self._ready:
            return self._ready.popleft()
        start = time.monotonic()
        slice_s = SLICE_S if timeout_s is None else min(SLICE_S, timeout_s)
        while not self._ready:
            if self.closed or (self.streams and all(filler.ended for filler in self._gap_fillers.values())):
                return None
            self._step(slice_s)
            if not self._ready and timeout_s is not None and time.monotonic() - start >= timeout_s:
                raise self._timeout_error(timeout_s)
        return self._ready.popleft()

    def _step(self, timeout_s: float) -> None:
        message = self._receive(timeout_s)
        now = time.monotonic()
        if message is not None:
            gap_filler = self._gap_fillers.get(getattr(message, "stream", None) or "")
            if gap_filler is not None:
                gap_filler.handle(message, now)
                if self._on_event is not None and isinstance(message, Event):
                    self._on_event(message)
        if message is None or now >= self._check_at:
            self._check_at = now + _CHECK_S
            for gap_filler in self._gap_fillers.values():
                gap_filler.check_due(now)
