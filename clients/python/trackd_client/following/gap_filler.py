"""One stream's settlements, each exactly once and in order, made of what came and of what `history` gives back.

Nothing here waits for a socket: `tracks.py` hands in what was published, and says when nothing was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import ErrorCode, Event, EventName, Message, Tracks

logger = logging.getLogger(__name__)

# A heartbeat may overtake the settlements it counts by a moment, where the daemon publishes from two places.
GRACE_S = 0.25
SILENCE_S = 3.0


class HistorySource(Protocol):
    """What a subscription wants of the client."""

    tracks_endpoint: str

    def live_position(self, stream: str) -> tuple[int, int]:
        """Epoch and last settled seq."""

    def history(
        self, stream: str, *, epoch: int | None = None, from_seq: int | None = None, to_seq: int | None = None
    ) -> list[Tracks]:
        """Settlements that the daemon remembers, oldest first."""


class GapFiller:
    """Where a reader of a stream stands.

    Args:
        client: gives `tracks.live` and `history`.
        stream: the stream's name.
        give: takes each settlement when it is its turn.
        is_over: whether the reader has gone.
        until_closed: `ended` shall tell when the stream is closed and all of it was given.
        now: of a clock that does not go back, in seconds.
    """

    def __init__(
        self,
        client: HistorySource,
        stream: str,
        give: Callable[[Tracks], None],
        is_over: Callable[[], bool],
        *,
        until_closed: bool,
        now: float,
    ) -> None:
        self.stream = stream
        self.ended = False
        self._client = client
        self._hand_on = give
        self._is_over = is_over
        self._until_closed = until_closed
        self._epoch = -1  # -1: none was seen yet
        self._next = 0  # the seq that is to be given next
        self._behind_since: float | None = None  # since when a heartbeat is ahead of us
        self._known_last = -1  # the last seq of the epoch that is known to be settled
        self._heard_at = now

    def begin(self, from_seq: int | None, now: float) -> None:
        """Find out where the stream stands; it was subscribed to before, so that nothing falls in between.

        Raises:
            TrackdError: the daemon refuses, or does not answer.
        """
        try:
            self._epoch, last = self._client.live_position(self.stream)
        except TrackdError as error:
            if error.code is not ErrorCode.UNKNOWN_STREAM:
                raise
            self._next = from_seq or 0  # it is not open yet: all of it is to come
            return
        self._next = last + 1 if from_seq is None else from_seq
        if self._next <= last:
            try:
                self._fill(last)
            except Timeout as error:
                self._put_off(error, now)

    def take(self, message: Message, now: float) -> None:
        """Something was published of the stream."""
        self._heard_at = now
        try:
            if isinstance(message, Tracks):
                self._take(message)
            elif isinstance(message, Event):
                self._handle(message, now)
        except Timeout as error:
            self._put_off(error, now)

    def look(self, now: float) -> None:
        """Do what is due without a message: ask for what a heartbeat told of, or whether the stream is still there.

        Raises:
            TrackdError: this client may not read the stream.
        """
        try:
            if self._until_closed and not self.ended and now - self._heard_at >= SILENCE_S:
                self._heard_at = now
                self._look_for_end()
            if self._behind_since is not None and now - self._behind_since >= GRACE_S:
                self._fill(self._known_last)
        except Timeout as error:
            self._put_off(error, now)

    def _put_off(self, error: Timeout, now: float) -> None:
        """The daemon does not answer, and nothing is lost yet: perhaps it is being started again, and remembers."""
        logger.warning("stream=%s seq=%d: history is asked again: %s", self.stream, self._next, error)
        self._behind_since = now

    def _look_for_end(self) -> None:
        """An open stream is heard of every second: perhaps the word that it is closed was lost."""
        try:
            self._client.live_position(self.stream)
        except TrackdError as error:
            if error.code is ErrorCode.UNKNOWN_STREAM and self._epoch >= 0:
                logger.warning("stream=%s seq=%d: it was closed unheard", self.stream, self._next)
                self.ended = True
            elif error.code is ErrorCode.FORBIDDEN:
                raise

    def _take(self, tracks: Tracks) -> None:
        self._enter(tracks.epoch)
        if tracks.epoch < self._epoch or tracks.seq < self._next:
            return  # given already
        self._known_last = max(self._known_last, tracks.seq)
        if tracks.seq > self._next:
            self._fill(tracks.seq - 1)
        if tracks.seq == self._next:
            self._give(tracks)

    def _handle(self, event: Event, now: float) -> None:
        is_new = event.epoch > self._epoch
        self._enter(event.epoch)
        if event.epoch < self._epoch:
            return
        if is_new and event.event is EventName.RESET:
            self._next = max(self._next, event.last_seq + 1)  # numbers go on
        self._known_last = max(self._known_last, event.last_seq)
        if event.event is EventName.CLOSED:
            self._fill(event.last_seq)
            self.ended = self._until_closed
        elif self._known_last >= self._next and self._behind_since is None:
            self._behind_since = now

    def _enter(self, epoch: int) -> None:
        """Go over to a newer epoch; the rest of the old one comes first, as far as it is known."""
        if epoch <= self._epoch:
            return
        if self._epoch >= 0:
            for tracks in self._remembered(self._epoch, self._next, None):
                self._give(tracks)
            # Numbers go on after a reset, and begin at 0 where the stream was opened anew.
            first = next(iter(self._remembered(epoch, 0, None, pages=1)), None)
            self._next = first.seq if first is not None else 0
        self._epoch = epoch
        self._known_last = -1
        self._behind_since = None

    def _fill(self, last: int) -> None:
        """Give what `history` holds up to `last`, and log what it no longer does.

        Raises:
            Timeout: the daemon did not answer; what is not given yet is due all the same.
        """
        self._known_last = max(self._known_last, last)
        for tracks in self._remembered(self._epoch, self._next, last):
            self._lose(tracks.seq)
            self._give(tracks)
        self._lose(last + 1)
        self._next = max(self._next, last + 1)
        self._behind_since = None

    def _lose(self, seq: int) -> None:
        """Log that what is before `seq` and was not given will not be."""
        if self._next < seq:
            lost = seq - self._next
            logger.warning("stream=%s seq=%d: %d settlements before it are lost", self.stream, seq, lost)

    def _give(self, tracks: Tracks) -> None:
        if tracks.seq >= self._next:
            self._hand_on(tracks)
            self._next = tracks.seq + 1
        if self._known_last < self._next:
            self._behind_since = None

    def _remembered(self, epoch: int, first: int, last: int | None, pages: int | None = None) -> Iterator[Tracks]:
        """Settlements of `history` from `first` to `last`, page by page."""
        while (last is None or first <= last) and pages != 0 and not self._is_over():
            try:
                rows = self._client.history(self.stream, epoch=epoch, from_seq=first, to_seq=last)
            except Timeout:
                raise
            except TrackdError as error:
                logger.warning("stream=%s: history cannot be had: %s", self.stream, error)
                return
            rows = [row for row in rows if row.epoch == epoch and row.seq >= first]
            if not rows:
                return
            yield from rows
            first = rows[-1].seq + 1
            pages = None if pages is None else pages - 1
