"""The published messages of streams, byte for byte, with what is missing filled from `history`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trackd_client.following.gap_filler import HistorySource
from trackd_client.following.subscription import Places
from trackd_client.following.tracks import TracksSubscription
from trackd_client.protocol import Event, EventName, Message, Tracks, encode, topic
from trackd_client.transport.connection import Context
from trackd_client.transport.curve import CurveKeys


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it was received."""

    received_ns: int  # Unix time
    monotonic_ns: int
    parts: tuple[bytes, ...]  # topic, header, parts
    from_history: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Settlements that neither arrived nor are in `history`; `to_seq` is included."""

    received_ns: int
    monotonic_ns: int
    stream: str
    epoch: int
    from_seq: int
    to_seq: int


class RawSubscription(TracksSubscription):
    """Every message of streams, also one that cannot be decoded, in the order of receipt.

    A settlement from `history` comes before the message that showed that it was missing.
    """

    def __init__(
        self,
        client: HistorySource,
        context: Context,
        streams: tuple[str, ...],
        from_seq: int | None = None,
        *,
        keys: CurveKeys | None = None,
        places: Places | None = None,
    ) -> None:
        self._received: list[tuple[RawMessage, Message | None]] = []  # in this step, with what it is decoded to
        self._expected: dict[str, tuple[int, int]] = {}  # by stream: the epoch and the seq of the next settlement
        super().__init__(client, context, streams, from_seq, keys=keys, places=places)

    def step(self, timeout_s: float) -> list[RawMessage | Missing]:
        """Wait for the next message, at most `timeout_s`, and return it with what it showed to be missing."""
        self._received = []
        self._step(timeout_s)
        delivered = list(self._ready)
        self._ready.clear()
        own = {id(message) for _, message in self._received}
        now = (time.time_ns(), time.monotonic_ns())
        out: list[RawMessage | Missing] = []
        for tracks in delivered:
            out += self._before(tracks, now)
            if id(tracks) not in own:
                parts = (topic("tracks", tracks.stream), *map(bytes, encode(tracks)))
                out.append(RawMessage(*now, parts, from_history=True))
        for raw, message in self._received:
            if isinstance(message, Event) and message.event is EventName.CLOSED:
                out += self._up_to(message.stream, message.epoch, message.last_seq, now)
            out.append(raw)
        return out

    def _before(self, tracks: Tracks, now: tuple[int, int]) -> list[Missing]:
        """Return what is missing before a settlement, and count the settlement."""
        missing = self._up_to(tracks.stream, tracks.epoch, tracks.seq - 1, now)
        self._expected[tracks.stream] = (tracks.epoch, tracks.seq + 1)
        return missing

    def _up_to(self, stream: str, epoch: int, last: int, now: tuple[int, int]) -> list[Missing]:
        known = self._expected.get(stream)
        if known is None or known[0] != epoch or known[1] > last:
            return []
        self._expected[stream] = (epoch, last + 1)
        return [Missing(*now, stream, epoch, known[1], last)]

    def _parts(self, timeout_s: float) -> list[bytes] | None:
        parts = super()._parts(timeout_s)
        if parts is not None:
            self._received.append((RawMessage(time.time_ns(), self.received_ns, tuple(parts)), None))
        return parts

    def _receive(self, timeout_s: float) -> Message | None:
        message = super()._receive(timeout_s)
        if message is not None:
            self._received[-1] = (self._received[-1][0], message)
        return message
