"""`trackd-client record`: the published messages of streams in files, as they were received."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from trackd_client.apps.live_streams import OpenStreams, follow_new
from trackd_client.apps.signals import until_a_signal
from trackd_client.following.raw import Missing, RawMessage
from trackd_client.message_log.record import Kind, Record, gap
from trackd_client.message_log.writer import LogWriter
from trackd_client.protocol import Event, EventName, encode, topic
from trackd_client.replies import StreamZones
from trackd_client.stream_client import StreamClient

SLICE_S = 0.1
REPORT_S = 10.0


@dataclass(slots=True)
class Recorded:
    """The counts of a recording."""

    messages: int = 0
    from_history: int = 0
    missing: int = 0  # settlements that are in neither

    def __str__(self) -> str:
        return f"{self.messages} messages, {self.from_history} from history, {self.missing} missing"


class Recorder:
    """Writes the messages of streams to a log.

    Args:
        client: connected to the daemon.
        log: where to write.
        streams: the names; empty: all open streams, and from its first frame each one that is opened later.

    Raises:
        TrackdError: the daemon cannot be followed.
    """

    def __init__(self, client: StreamClient, log: LogWriter, streams: Sequence[str] = ()) -> None:
        self.counts = Recorded()
        self._log = log
        self._open: OpenStreams | None = None
        rows = client.streams()  # fails at once if there is no daemon
        if not streams:
            self._open = OpenStreams(client)
            streams = self._open.first
        for row in rows:
            if row.zones_number and row.stream in streams:
                log.append(_zones(client.zones(row.stream), row.next_seq - 1))
        self._subscription = client.follow_raw(*streams)

    def step(self, timeout_s: float = SLICE_S) -> None:
        """Wait for the next message, at most `timeout_s`, and write it.

        Raises:
            LogFull: the log has its largest size.
            TrackdError: it cannot be written.
        """
        follow_new(self._subscription, self._open)
        for found in self._subscription.step(timeout_s):
            self._log.append(_record(found))
            if isinstance(found, Missing):
                self.counts.missing += found.to_seq - found.from_seq + 1
            elif found.from_history:
                self.counts.from_history += 1
            else:
                self.counts.messages += 1

    def close(self) -> None:
        """End the subscription."""
        if self._open is not None:
            self._open.close()
        self._subscription.close()


def run_record(client: StreamClient, log: LogWriter, streams: Sequence[str]) -> None:
    """Record until SIGINT or SIGTERM, and show the counts at intervals and at the end.

    Raises:
        LogFull: the log has its largest size.
        TrackdError: it cannot be written, or the daemon refuses.
    """
    recorder = Recorder(client, log, streams)
    shown = time.monotonic()
    try:
        with until_a_signal() as ended:
            typer.echo("ready", err=True)
            while not ended.is_set():
                recorder.step()
                if time.monotonic() - shown >= REPORT_S:
                    shown = time.monotonic()
                    typer.echo(f"{recorder.counts}, {log.bytes} bytes", err=True)
    finally:
        recorder.close()
        typer.echo(f"recorded {recorder.counts}, {log.bytes} bytes", err=True)


def parse_bytes(text: str, option: str) -> int:
    """Return a number of bytes: a number, or one with k, M, G or T (powers of 1024).

    Raises:
        BadParameter: the text is neither.
    """
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in units else (text, "")
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise typer.BadParameter(f"{option} must be a number of bytes above 0, such as 64M or 2G; got {text!r}")
    return int(number) << units.get(unit, 0)


def _zones(found: StreamZones, last_seq: int) -> Record:
    """Return the zones and lines that a stream has at the start, as the event that tells a change of them."""
    detail = {"number": found.number, "author": found.author, "t_ns": found.t_ns, **found.places.as_map()}
    event = Event(found.stream, EventName.ZONES, found.epoch, last_seq, detail)
    parts = (topic("events", found.stream), *map(bytes, encode(event)))
    return Record(Kind.HISTORY, time.time_ns(), time.monotonic_ns(), parts)


def _record(found: RawMessage | Missing) -> Record:
    if isinstance(found, Missing):
        return gap(found.received_ns, found.monotonic_ns, found.stream, found.epoch, found.from_seq, found.to_seq)
    kind = Kind.HISTORY if found.from_history else Kind.MESSAGE
    return Record(kind, found.received_ns, found.monotonic_ns, found.parts)
