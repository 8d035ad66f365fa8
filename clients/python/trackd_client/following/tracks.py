"""What the daemon publishes about streams: every settlement exactly once, in order, whatever got lost on the way.

A subscriber that is slow, late or cut off misses messages without a word. Their seq shows it, a heartbeat shows it for
the last ones, and `history` gives them back.
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

_LOOK_S = GRACE_S / 2  # between two looks at what is due without a message, while messages come


class TracksSubscription(Subscription, Iterator[Tracks]):
    """The settlements of one or several streams; those of one stream come in order, `Tracks.stream` tells whose.

    Args:
        client: gives `tracks.live` and `history`.
        context: the ZeroMQ context.
        streams: the streams' names.
        from_seq: the first seq to give of each; None: what comes from now on.
        timeout_s: raise `Timeout` where nothing can be given for so long.
        until_closed: end once all of the streams are closed and all of them was given.
        keys: with CURVE.
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
        self._look_at = now
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
        """The next settlement; None once the subscription has ended.

        Raises:
            Timeout: there is none within `timeout_s`.
        """
        if self._ready:
            return self._ready.popleft()
        waited_since = time.monotonic()
        slice_s = SLICE_S if timeout_s is None else min(SLICE_S, timeout_s)
        while not self._ready:
            if self.closed or all(gap_filler.ended for gap_filler in self._gap_fillers.values()):
                return None
            self._step(slice_s)
            if not self._ready and timeout_s is not None and time.monotonic() - waited_since >= timeout_s:
                raise self._nothing_came(timeout_s)
        return self._ready.popleft()

    def _step(self, timeout_s: float) -> None:
        message = self._receive(timeout_s)
        now = time.monotonic()
        if message is not None:
            gap_filler = self._gap_fillers.get(getattr(message, "stream", None) or "")
            if gap_filler is not None:
                gap_filler.take(message, now)
        if message is None or now >= self._look_at:
            self._look_at = now + _LOOK_S
            for gap_filler in self._gap_fillers.values():
                gap_filler.look(now)
