"""What a subscription to streams of a fleet needs: whose publications to read, and the history of their owners."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trackd_client.errors import Timeout, TrackdError
from trackd_client.fleet.place import Place, stated_place
from trackd_client.fleet.requests import FleetRequests
from trackd_client.fleet.steps import LOCATE_S, READ_S
from trackd_client.protocol import ErrorCode, Event, EventName, Message, Tracks
from trackd_client.replies import read_history, read_map

logger = logging.getLogger(__name__)

SILENCE_S = 2.5  # without a message of a stream, whose owner sends a heartbeat each second
AGAIN_S = 0.5  # between two questions where a silent stream is
SLOW_AGAIN_S = 2.5  # the same after `LONG_S`
LONG_S = 30.0
MOST_AT_ONCE = 16  # questions between two messages
GIVE_UP_S = 60.0  # without an owner of a stream whose settlements are missing


@dataclass(slots=True)
class _Followed:
    heard_at: float  # monotonic s
    ask_at: float | None  # None: its owner publishes
    endpoint: str | None = None  # that the socket is connected to for it
    silent_since: float | None = None


class StreamPlaces:
    """Connects a subscription to the members that have its streams. Only the thread that iterates uses it.

    Args:
        requests: locate the streams.
    """

    def __init__(self, requests: FleetRequests) -> None:
        self._requests = requests
        self._streams: dict[str, _Followed] = {}
        self._connect: Callable[[str], None] = lambda endpoint: None
        self._disconnect: Callable[[str], None] = lambda endpoint: None
        self._check_at = 0.0

    def start(self, connect: Callable[[str], None], disconnect: Callable[[str], None]) -> None:
        """Use these functions for the socket; each gets an endpoint."""
        self._connect, self._disconnect = connect, disconnect

    def follow(self, stream: str) -> None:
        """Follow one more stream."""
        if stream in self._streams:
            return
        now = time.monotonic()
        self._streams[stream] = _Followed(heard_at=now, ask_at=now, silent_since=now)
        self._locate(stream, now)

    def heard(self, message: Message) -> None:
        """Note a message of a stream; follow an event `moved`."""
        followed = self._streams.get(getattr(message, "stream", None) or "")
        if followed is None:
            return
        now = followed.heard_at = time.monotonic()
        if isinstance(message, Event) and message.event is EventName.MOVED:
            followed.ask_at, followed.silent_since = now + AGAIN_S, now
            place = stated_place(message.detail)
            if place is not None and self._requests.directory.accept(message.stream, place):
                self._go(message.stream, place)
            else:
                followed.ask_at = now
            self._check_at = now
        else:
            followed.ask_at = followed.silent_since = None

    def check(self) -> None:
        """Locate the streams that are silent. The members that are asked have a limited time."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + AGAIN_S / 5
        due = []
        for stream, followed in self._streams.items():
            if followed.ask_at is None and now - followed.heard_at >= SILENCE_S:
                followed.ask_at = followed.silent_since = now
            if followed.ask_at is not None and now >= followed.ask_at:
                due.append((followed.ask_at, stream))
        for _, stream in sorted(due)[:MOST_AT_ONCE]:
            self._locate(stream, now)

    def _locate(self, stream: str, now: float) -> None:
        followed = self._streams[stream]
        silent_s = now - (followed.silent_since or now)
        try:
            place = self._requests.locate(stream, LOCATE_S)
        except Timeout as error:
            logger.info("stream=%s: %s", stream, error)
        else:
            self._go(stream, place)
        followed.ask_at = time.monotonic() + (AGAIN_S if silent_s < LONG_S else SLOW_AGAIN_S)

    def _go(self, stream: str, place: Place) -> None:
        followed = self._streams[stream]
        before = followed.endpoint
        if before == place.tracks:
            return
        if not any(each.endpoint == place.tracks for each in self._streams.values()):
            self._connect(place.tracks)
        followed.endpoint = place.tracks
        if before is not None:
            logger.info("stream=%s member=%s: the subscription follows it there", stream, place.member)
            if not any(each.endpoint == before for each in self._streams.values()):
                self._disconnect(before)


class FleetHistory:
    """The requests of a subscription to the owners of its streams.

    Args:
        requests: go to the owners.
        timeout_s: how long the first request about a stream may take; later ones may take `READ_S`, since the
            subscription's other streams wait meanwhile.
    """

    tracks_endpoint = None  # `StreamPlaces` connects the socket

    def __init__(self, requests: FleetRequests, timeout_s: float) -> None:
        self._requests = requests
        self._timeout_s = timeout_s
        self._begun: set[str] = set()
        self._missing: dict[str, tuple[float, float]] = {}  # by stream: since when, and when to ask again

    def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq."""
        limit_s = READ_S if stream in self._begun else self._timeout_s
        self._begun.add(stream)
        reply = read_map(self._requests.ask("tracks.live", {"stream": stream}, limit_s), "tracks.live")
        return reply["epoch"], reply["seq"]

    def history(
        self, stream: str, *, epoch: int | None = None, from_seq: int | None = None, to_seq: int | None = None
    ) -> list[Tracks]:
        """Return settlements of the owner's history, oldest first.

        Raises:
            Timeout: nobody has the stream now; with an `epoch`, its settlements are expected from the next owner.
        """
        now = time.monotonic()
        since, ask_at = self._missing.get(stream, (now, now))
        if epoch is not None and now < ask_at:
            raise Timeout(f"nobody has stream {stream!r} now")
        wanted = {"stream": stream, "epoch": epoch, "from_seq": from_seq, "to_seq": to_seq}
        params: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
        try:
            rows = self._requests.ask("history", params, READ_S)
        except TrackdError as error:
            absent = error.code is ErrorCode.UNKNOWN_STREAM and now - since < GIVE_UP_S
            if epoch is None or not (absent or isinstance(error, Timeout)):
                raise
            self._missing[stream] = (since, time.monotonic() + AGAIN_S)
            raise Timeout(f"nobody has stream {stream!r} now: {error}") from None
        self._missing.pop(stream, None)
        return read_history(rows)
