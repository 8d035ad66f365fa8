"""`trackd-client play`: recorded messages published again, so that a subscriber can be tested without a daemon."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from trackd_client.errors import TrackdError
from trackd_client.message_log.faults import Fate, Faults, planned
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import Kind, Record
from trackd_client.protocol import (
    REPLY_LIMITS,
    ErrorCode,
    Event,
    EventName,
    Message,
    ProtocolError,
    Reply,
    Request,
    Tracks,
    decode,
    encode,
    tracks_to_map,
)
from trackd_client.protocol.arrays import Part
from trackd_client.transport.publishing import Publisher
from trackd_client.version import VERSION

MOST_ROWS = 256  # of a reply to `history`
HISTORY = 4096  # settlements of each stream that `history` has
LOOKED_AT = 10_000  # records in which streams are looked for before the start
STEP_NS = 1_000_000_000
SUBSCRIBE_S = 0.3  # from the first subscription to the start: a subscriber has several


@dataclass(slots=True)
class _Played:
    """What was played of a stream."""

    epoch: int
    seq: int
    is_open: bool = True
    settled: deque[tuple[bytes, ...]] = field(default_factory=lambda: deque(maxlen=HISTORY))


class Stand:
    """Answers requests about the messages that were played, lost ones included."""

    def __init__(self) -> None:
        self.streams: dict[str, _Played] = {}
        self._zones: dict[str, Mapping[str, Any]] = {}  # by stream: its zones and lines, as of their event

    def announce(self, records: Iterable[Record]) -> None:
        """Take the streams of the first records as open, each before its first settlement and with its first zones."""
        for record in records:
            message = _message(record)
            if isinstance(message, Tracks) and message.stream not in self.streams:
                self.streams[message.stream] = _Played(message.epoch, message.seq - 1)
            elif isinstance(message, Event) and message.event is EventName.ZONES:
                self._zones.setdefault(message.stream, message.detail)

    def take(self, record: Record) -> None:
        """Take a message at the time at which it was published."""
        message = _message(record)
        if isinstance(message, Tracks):
            played = self.streams.setdefault(message.stream, _Played(message.epoch, message.seq))
            if (message.epoch, message.seq) >= (played.epoch, played.seq):
                played.epoch, played.seq, played.is_open = message.epoch, message.seq, True
            played.settled.append(record.parts)
        elif isinstance(message, Event) and message.event is EventName.ZONES:
            self._zones[message.stream] = message.detail
        elif isinstance(message, Event) and (known := self.streams.get(message.stream)) is not None:
            known.epoch = max(known.epoch, message.epoch)
            known.is_open = message.event is not EventName.CLOSED

    def answer(self, parts: list[Part]) -> Sequence[Part] | None:
        """Return the reply to a control request; None if the parts are none."""
        try:
            request = decode(parts, kinds=("request",))
        except ProtocolError:
            return None
        assert isinstance(request, Request)
        return encode(self._reply(request))

    def _reply(self, request: Request) -> Reply:
        if request.method == "status":
            rows = [
                {
                    "stream": name,
                    "epoch": played.epoch,
                    "next_seq": played.seq + 1,
                    "zones_number": self._zones.get(name, {}).get("number", 0),
                }
                for name, played in self.streams.items()
                if played.is_open
            ]
            return Reply(request.id, {"version": VERSION, "ready": True, "streams": rows, "models": []})
        if request.method not in ("tracks.live", "history", "stream.zones"):
            text = (
                "method must be status, tracks.live, history or stream.zones: recorded messages are played; "
                f"got {request.method!r}"
            )
            return Reply(request.id, error=(ErrorCode.BAD_MESSAGE, text[:500]))
        name = request.params.get("stream")
        played = self.streams.get(name) if isinstance(name, str) else None
        if played is None or (request.method == "tracks.live" and not played.is_open):
            return Reply(request.id, error=(ErrorCode.UNKNOWN_STREAM, "the stream is not open in what is played"))
        if request.method == "tracks.live":
            return Reply(request.id, {"epoch": played.epoch, "seq": played.seq, "tracks": []})
        if request.method == "stream.zones":
            return Reply(
                request.id, {"number": 0, **self._zones.get(request.params["stream"], {}), "epoch": played.epoch}
            )
        return Reply(request.id, self._history(played, request.params))

    def _history(self, played: _Played, params: Any) -> list[dict[str, Any]]:
        first, last, epoch = (params.get(key) for key in ("from_seq", "to_seq", "epoch"))
        rows: list[dict[str, Any]] = []
        for parts in played.settled:
            tracks = decode(parts[1:], REPLY_LIMITS)
            assert isinstance(tracks, Tracks)
            if (
                (epoch is None or tracks.epoch == epoch)
                and (first is None or tracks.seq >= first)
                and (last is None or tracks.seq <= last)
            ):
                rows.append(tracks_to_map(tracks))
                if len(rows) == MOST_ROWS:
                    break
        return rows


@dataclass(slots=True)
class Counts:
    """What was played."""

    messages: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    gaps: int = 0  # records of missing settlements, which have no message

    def __str__(self) -> str:
        return (
            f"{self.messages} messages, {self.lost} lost, {self.duplicated} duplicated, {self.reordered} reordered, "
            f"{self.gaps} gaps"
        )


def parse_speed(text: str) -> float:
    """Return the speed that `text` gives: `max`, or a multiple of the recorded speed.

    Raises:
        BadParameter: the text is neither.
    """
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise typer.BadParameter(f"--speed must be a number above 0, or max; got {text!r}")
    return speed


def timed(records: Iterable[Record], speed: float) -> Iterator[tuple[int, Record]]:
    """Yield for each record the nanoseconds from the first one at which it is due.

    The monotonic clock counts. Between two recordings, which may have different ones, the Unix time does.

    Args:
        records: in the order of receipt.
        speed: a multiple; infinity: all are due at once.
    """
    at_ns, last = 0.0, None
    for record in records:
        if last is not None:
            step = record.monotonic_ns - last.monotonic_ns
            wall = record.received_ns - last.received_ns
            if step < 0 or abs(step - wall) > STEP_NS:
                step = max(0, wall)
            at_ns += step / speed
        last = record
        yield int(at_ns), record


class Player:
    """Publishes the messages of a log.

    Args:
        log: what to play.
        publisher: where.
        faults: what happens to the messages.
        speed: a multiple of the recorded speed; infinity: as fast as possible.
        from_ns: begin with what was received at this Unix time.
    """

    def __init__(
        self,
        log: LogReader,
        publisher: Publisher,
        faults: Faults | None = None,
        speed: float = 1.0,
        from_ns: int | None = None,
    ) -> None:
        self.counts = Counts()
        self._log = log
        self._publisher = publisher
        self._faults = faults if faults is not None else Faults()
        self._speed = speed
        self._from_ns = from_ns
        self._stand = Stand()
        self._stand.announce(record for _, record in zip(range(LOOKED_AT), log.records(from_ns), strict=False))

    def wait_for_subscriber(self) -> None:
        """Answer requests until a subscriber has subscribed."""
        while not self._publisher.subscribed:
            self.serve(0.05)
        self.serve(SUBSCRIBE_S)

    def serve(self, seconds: float) -> None:
        """Answer requests."""
        self._publisher.serve(seconds, self._stand.answer)

    def play(self) -> None:
        """Publish all messages at their times."""
        start = time.monotonic_ns()
        for plan in planned(timed(self._log.records(self._from_ns), self._speed), self._faults):
            wait_ns = start + plan.due_ns - time.monotonic_ns()
            self.serve(max(0.0, wait_ns / 1e9))
            record = plan.item
            if plan.fate is not Fate.LATE:
                self._stand.take(record)  # a daemon has in its history what the network has not delivered yet
            if record.kind is Kind.GAP:
                self.counts.gaps += plan.fate is not Fate.LATE
                continue
            self.counts.lost += plan.fate is Fate.LOST
            self.counts.reordered += plan.fate is Fate.LATE
            self.counts.duplicated += plan.copies > 1
            for _ in range(plan.copies):
                self._publisher.publish(record.parts, self._stand.answer)
                self.counts.messages += 1


def run_play(
    folder: Path,
    tracks: str,
    control: str,
    *,
    faults: Faults,
    speed: float,
    from_s: float,
    wait: bool,
    linger_s: float,
) -> None:
    """Play a log and exit.

    Raises:
        TrackdError: there is none, it is damaged, or an address cannot be bound.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    log = LogReader(folder)
    from_ns = None
    if from_s > 0:
        first = next(log.records(), None)
        from_ns = first.received_ns + round(from_s * 1e9) if first is not None else None
    publisher = Publisher(tracks, control)
    player = Player(log, publisher, faults, speed, from_ns)
    try:
        typer.echo(f"ready tracks={publisher.tracks} control={publisher.control}")
        if wait:
            player.wait_for_subscriber()
        started = time.monotonic()
        player.play()
        seconds = time.monotonic() - started
        player.serve(linger_s)  # for requests to `history`
        typer.echo(f"played {player.counts} in {seconds:.1f} s")
    except KeyboardInterrupt:
        typer.echo(f"ended early: played {player.counts}")
    finally:
        publisher.close()
    if log.damaged:
        raise TrackdError(f"{len(log.damaged)} segments are damaged: {log.damaged[0]}")


def _message(record: Record) -> Message | None:
    """Return a record's message; None if it has none that this version can decode."""
    if record.kind is Kind.GAP or len(record.parts) < 2:
        return None
    try:
        return decode(record.parts[1:], REPLY_LIMITS)
    except ProtocolError:
        return None


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
