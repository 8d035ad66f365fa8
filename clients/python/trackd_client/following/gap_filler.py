"""The settlements of one stream, each exactly once and in order, from published messages and from `history`.

A gap filler does not use a SUB socket or read a clock. `tracks.py` passes published messages and the time to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import ErrorCode, Event, EventName, Message, Tracks

logger = logging.getLogger(__name__)

# A heartbeat may arrive shortly before the settlements that it counts, so wait before a request to `history`.
GRACE_S = 0.25
WARN_S = 2.0  # between two warnings of requests that are repeated
SILENCE_S = 3.0  # without a message; then ask whether the stream is still open


class HistorySource(Protocol):
    """The requests of a subscription to the client."""

    @property
    def tracks_endpoint(self) -> str | None:
        """Where the streams are published; None if that changes."""

    def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq."""

    def history(
        self, stream: str, *, epoch: int | None = None, from_seq: int | None = None, to_seq: int | None = None
    ) -> list[Tracks]:
        """Return settlements of the daemon's history, oldest first."""


class GapFiller:
    """The position of one reader in a stream.

    Args:
        client: requests `tracks.live` and `history`.
        stream: the stream's name.
        deliver: is called with each settlement, in order.
        is_closed: return whether the subscription is closed.
        until_closed: set `ended` when the stream was closed and all its settlements were delivered.
        now: the time of a monotonic clock, seconds.
    """

    def __init__(
        self,
        client: HistorySource,
        stream: str,
        deliver: Callable[[Tracks], None],
        is_closed: Callable[[], bool],
        *,
        until_closed: bool,
        now: float,
    ) -> None:
        self.stream = stream
        self.ended = False
        self._client = client
        self._on_tracks = deliver
        self._is_closed = is_closed
        self._until_closed = until_closed
        self._epoch = -1  # -1: unknown
        self._next = 0  # the seq to deliver next
        self._behind_since: float | None = None  # since when a heartbeat is ahead of `_next`
        self._known_last = -1  # the highest settled seq of the epoch, as far as known
        self._message_at = now
        self._warned_at = now - WARN_S

    def begin(self, from_seq: int | None, now: float) -> None:
        """Request the stream's position. Call this after subscribing, so that no settlement is missed.

        Raises:
            TrackdError: the daemon refuses, or does not answer.
        """
        try:
            self._epoch, last = self._client.live_position(self.stream)
        except TrackdError as error:
            if error.code not in (ErrorCode.UNKNOWN_STREAM, ErrorCode.STREAM_BUSY):
                raise
            self._next = from_seq or 0  # not open yet: deliver the stream from its first frame
            if from_seq is None:
                return
            if error.code is ErrorCode.STREAM_BUSY:  # it is being closed, and its `closed` event follows
                self._deliver_rest()
            elif self._was_closed():
                self._deliver_rest()
                self.ended = self._until_closed
            return
        self._next = last + 1 if from_seq is None else from_seq
        if self._next <= last:
            try:
                self._fill(last)
            except Timeout as error:
                self._retry_later(error, now)

    def handle(self, message: Message, now: float) -> None:
        """Handle a published message of the stream."""
        self._message_at = now
        try:
            if isinstance(message, Tracks):
                self._handle_tracks(message)
            elif isinstance(message, Event):
                self._handle_event(message, now)
        except Timeout as error:
            self._retry_later(error, now)

    def check_due(self, now: float) -> None:
        """Request missing settlements after a heartbeat, and check an inactive stream, if one of them is due.

        Raises:
            TrackdError: this client may not read the stream.
        """
        try:
            if self._until_closed and not self.ended and now - self._message_at >= SILENCE_S:
                self._message_at = now
                self._check_open()
            if self._behind_since is not None and now - self._behind_since >= GRACE_S:
                self._fill(self._known_last)
        except Timeout as error:
            self._retry_later(error, now)

    def _retry_later(self, error: Timeout, now: float) -> None:
        """Handle a daemon that does not answer: it may be restarting with its history, so repeat the request later."""
        if now - self._warned_at >= WARN_S:
            self._warned_at = now
            logger.warning("stream=%s seq=%d: the request to history is repeated: %s", self.stream, self._next, error)
        self._behind_since = now

    def _check_open(self) -> None:
        """Check whether the stream was closed: the `closed` event may be lost. An open stream sends heartbeats."""
        try:
            self._client.live_position(self.stream)
        except TrackdError as error:
            if error.code is ErrorCode.FORBIDDEN:
                raise
            if error.code is not ErrorCode.UNKNOWN_STREAM or self._epoch < 0:
                return
            if self._was_closed():
                self._deliver_rest()
                logger.warning(
                    "stream=%s seq=%d: the stream was closed, and its closed event was lost", self.stream, self._next
                )
                self.ended = True
            else:
                logger.info("stream=%s seq=%d: the daemon was started again; waiting", self.stream, self._next)

    def _was_closed(self) -> bool:
        """Return whether a stream that was not open a moment ago was closed.

        Only the daemon that closed a stream has its history. A daemon that does not know the stream was started since
        then, and the stream's client may open it again. It may do so between two requests: so the position is
        requested once more, after the history.
        """
        return self._is_known(self._client.history) and not self._is_known(self._client.live_position)

    def _is_known(self, request: Callable[[str], object]) -> bool:
        try:
            request(self.stream)
        except TrackdError as error:
            if error.code is not ErrorCode.UNKNOWN_STREAM:
                raise
            return False
        return True

    def _deliver_rest(self) -> None:
        """Deliver what `history` has of a stream that is not open, of every epoch since it was opened.

        Raises:
            Timeout: the daemon did not answer.
        """
        while not self._is_closed():
            rows = [row for row in self._client.history(self.stream, from_seq=self._next) if row.seq >= self._next]
            if not rows:
                return
            for tracks in rows:  # seq continues over the epochs
                self._epoch = max(self._epoch, tracks.epoch)
                self._log_loss(tracks.seq)
                self._deliver(tracks)

    def _handle_tracks(self, tracks: Tracks) -> None:
        self._enter(tracks.epoch)
        if tracks.epoch < self._epoch or tracks.seq < self._next:
            return  # delivered already
        self._known_last = max(self._known_last, tracks.seq)
        if tracks.seq > self._next:
            self._fill(tracks.seq - 1)
        if tracks.seq == self._next:
            self._deliver(tracks)

    def _handle_event(self, event: Event, now: float) -> None:
        is_new = event.epoch > self._epoch
        self._enter(event.epoch)
        if event.epoch < self._epoch:
            return
        if is_new and event.event is EventName.RESET:
            self._next = max(self._next, event.last_seq + 1)  # a reset does not change seq
        self._known_last = max(self._known_last, event.last_seq)
        if event.event is EventName.CLOSED:
            self._fill(event.last_seq)
            # A daemon that ends has not closed its streams: their clients open them at the next one.
            self.ended = self._until_closed and not event.detail.get("drained")
        elif self._known_last >= self._next and self._behind_since is None:
            self._behind_since = now

    def _enter(self, epoch: int) -> None:
        """Switch to a newer epoch. The remaining settlements of the old one in `history` are delivered first."""
        if epoch <= self._epoch:
            return
        if self._epoch >= 0:
            for tracks in self._history(self._epoch, self._next, None):
                self._deliver(tracks)
            # seq continues after a reset, and begins at 0 if the stream was closed and opened again.
            first = next(iter(self._history(epoch, 0, None, pages=1)), None)
            self._next = first.seq if first is not None else 0
        self._epoch = epoch
        self._known_last = -1
        self._behind_since = None

    def _fill(self, last: int) -> None:
        """Deliver the settlements of `history` up to `last`, and log those that it no longer has.

        Raises:
            Timeout: the daemon did not answer; the remaining settlements are still due.
        """
        self._known_last = max(self._known_last, last)
        for tracks in self._history(self._epoch, self._next, last):
            self._log_loss(tracks.seq)
            self._deliver(tracks)
        self._log_loss(last + 1)
        self._next = max(self._next, last + 1)
        self._behind_since = None

    def _log_loss(self, seq: int) -> None:
        """Log the loss of the settlements before `seq` that were not delivered."""
        if self._next < seq:
            lost = seq - self._next
            logger.warning("stream=%s seq=%d: %d settlements before it are lost", self.stream, seq, lost)

    def _deliver(self, tracks: Tracks) -> None:
        if tracks.seq >= self._next:
            self._on_tracks(tracks)
            self._next = tracks.seq + 1
        if self._known_last < self._next:
            self._behind_since = None

    def _history(self, epoch: int, first: int, last: int | None, pages: int | None = None) -> Iterator[Tracks]:
        """Yield settlements of `history` from `first` to `last`, page by page."""
        while (last is None or first <= last) and pages != 0 and not self._is_closed():
            try:
                rows = self._client.history(self.stream, epoch=epoch, from_seq=first, to_seq=last)
            except Timeout:
                raise
            except TrackdError as error:
                logger.warning("stream=%s: history is not available: %s", self.stream, error)
                return
            rows = [row for row in rows if row.epoch == epoch and row.seq >= first]
            if not rows:
                return
            yield from rows
            first = rows[-1].seq + 1
            pages = None if pages is None else pages - 1
