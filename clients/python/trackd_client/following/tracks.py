"""The published settlements of streams: each exactly once and in order, also if messages are lost.

A subscriber that is slow, late or disconnected loses messages without an error. A gap in seq shows the loss, or a
heartbeat if the last messages are lost. `history` returns the missing settlements.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from trackd_client.following.gap_filler import GRACE_S, GapFiller, HistorySource
from trackd_client.following.subscription import SLICE_S, Subscription
from trackd_client.protocol import Tracks, topic
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
    ) -> None:
        topics = tuple(topic(kind, stream) for stream in streams for kind in ("tracks", "events"))
        super().__init__(context, client.tracks_endpoint, streams, topics, timeout_s, keys)
        self._ready: deque[Tracks] = deque()
        now = time.monotonic()
        self._check_at = now
        self._gap_fillers = {
            stream: GapFiller(
                client, stream, self._ready.append, lambda: self.closed, until_closed=until_closed, now=now
            )
            for stream in streams
        }
        try:
            for gap_filler in self._gap_fillers.values():
                gap_filler.begin(from_seq, now)
        except BaseException:
            self.close()
            raise

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
            if self.closed or all(gap_filler.ended for gap_filler in self._gap_fillers.values()):
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
        if message is None or now >= self._check_at:
            self._check_at = now + _CHECK_S
            for gap_filler in self._gap_fillers.values():
                gap_filler.check_due(now)
