"""`trackd bench`: put a synthetic load on a daemon, and measure its latencies and its rate."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Detections, Status, Stream, Tracks
from trackd_client.configuration import ConfigError
from trackd_client.protocol import STAGES
from trackd_client.transport.curve import NO_KEYS, ClientKeys

_N_MADE = 512  # frames of detections
_STAGES_OF = attrgetter(*STAGES)


@dataclass(frozen=True, slots=True)
class Load:
    """The shape of a load."""

    streams: int = 1
    fps: float = 30.0  # of each stream; infinity: as fast as credit allows
    instances: int = 10
    width: int = 0  # of the image, pixels; 0: boxes only
    height: int = 0
    seconds: float = 10.0
    closed_loop: bool = False  # each frame is sent after the ids of the previous one
    clients: int = 1  # that share the streams, each with a thread that sends and one that reads

    @property
    def shares(self) -> list[range]:
        """The numbers of each client's streams; in closed loop each stream has its own client."""
        count = self.streams if self.closed_loop else min(self.clients, self.streams)
        return [range(first, self.streams, count) for first in range(count)]


@dataclass(slots=True)
class Measured:
    """The measurements of one stream."""

    frames: int = 0
    dropped: int = 0
    rejected: int = 0
    late: int = 0  # frames that were sent later than one frame period after they were due
    sent: int = 0
    seconds: float = 0.0  # from the first frame to the last settlement
    stages_us: list[tuple[int, ...]] = field(default_factory=list)  # of `STAGES`, per frame
    round_trips_s: list[float] = field(default_factory=list)  # in closed loop
    latencies_s: list[float] = field(
        default_factory=list
    )  # from the time a frame was due until the client received its ids


def run_bench(
    load: Load,
    endpoints: dict[str, str] | None,
    overrides: list[str],
    console: Console | None = None,
    keys: ClientKeys = NO_KEYS,
) -> None:
    """Put a load on a daemon and print the measurements.

    Args:
        load: the shape of the load.
        endpoints: of a running daemon; None: start one.
        overrides: `a.b.c=value` for a daemon that is started here.
        console: to print to; None: the terminal.
        keys: of the clients, where the daemon uses CURVE.

    Raises:
        ConfigError: a value of the load is out of range.
    """
    if min(load.streams, load.clients) < 1 or load.instances < 0 or load.seconds <= 0 or load.fps <= 0:
        raise ConfigError(f"bench needs at least one stream and one client, seconds and fps above 0; got {load}")
    if (load.width > 0) != (load.height > 0):
        raise ConfigError(f"--image takes WIDTHxHEIGHT; got {load.width}x{load.height}")
    console = console or Console()
    with _daemon(endpoints, overrides) as at:
        measured = measure(load, at, keys, console)
    _report(load, measured, console)


@contextmanager
def _daemon(endpoints: dict[str, str] | None, overrides: list[str]) -> Iterator[dict[str, str]]:
    if endpoints is not None:
        yield endpoints
        return
    with running_daemon(["daemon.http=null", *overrides]) as addresses:
        yield addresses


def measure(
    load: Load, at: dict[str, str], keys: ClientKeys = NO_KEYS, console: Console | None = None
) -> list[Measured]:
    """Put a load on a running daemon.

    Args:
        load: the shape of the load.
        at: the daemon's addresses: `ingest`, `tracks` and `control`.
        keys: of the clients, where the daemon uses CURVE.
        console: for the progress bar; None: no bar.

    Returns:
        the measurements of each stream.

    Raises:
        TrackdError: a stream could not be opened, or was lost.
    """
    measured = [Measured() for _ in range(load.streams)]
    failures: list[BaseException] = []
    made = _forwards_and_backwards(load.instances, max(load.width, 1280), max(load.height, 720), seed=0)
    start = threading.Barrier(len(load.shares) + 1)

    def feed(numbers: range) -> None:
        try:
            _feed(load, at, {f"bench-{number}": measured[number] for number in numbers}, cycle(made), start, keys)
        except BaseException as error:
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=feed, args=(numbers,), daemon=True) for numbers in load.shares]
    for thread in threads:
        thread.start()
    try:
        start.wait(30)
    except threading.BrokenBarrierError:
        raise failures[0] from None
    started = time.monotonic()
    with Progress(console=console, transient=True, disable=console is None) as progress:
        task = progress.add_task("load", total=load.seconds)
        while any(thread.is_alive() for thread in threads):
            progress.update(task, completed=min(time.monotonic() - started, load.seconds))
            time.sleep(0.1)
    if failures:
        raise failures[0]
    return measured


def _feed(
    load: Load,
    at: dict[str, str],
    into: dict[str, Measured],
    made: Iterator[Detections],
    start: threading.Barrier,
    keys: ClientKeys,
) -> None:
    """Run one client and its streams, as a program with one or several cameras does."""
    image = None
    if load.width:
        image = np.random.default_rng(0).integers(0, 255, (load.height, load.width), np.uint8)
    reply = "tracks" if load.closed_loop else "ack"
    with Client(at["ingest"], at["tracks"], at["control"], timeout_s=60, **keys) as client:
        streams = [client.open_stream(name, reply=reply, takeover=True) for name in into]
        updates = None if load.closed_loop else client.tracks(*into, until_closed=True)
        follower = threading.Thread(target=_follow, args=(updates, into), daemon=True)
        if updates is not None:
            follower.start()
        start.wait(30)
        began = time.monotonic()
        for number in count():
            now = time.monotonic() - began
            due = number / load.fps
            if max(now, due) >= load.seconds:
                break
            if due > now:
                time.sleep(due - now)
            detections = next(made)
            for stream in streams:
                _send(stream, image, detections, due, began, load, into[stream.name])
        for stream in streams:
            stream.close()
        if updates is not None:
            follower.join(60)
        for each in into.values():
            each.seconds = time.monotonic() - began


def _send(
    stream: Stream,
    image: NDArray[np.uint8] | None,
    detections: Detections,
    due: float,
    began: float,
    load: Load,
    into: Measured,
) -> None:
    now = time.monotonic() - began
    t_ns = time.time_ns()
    if load.fps < math.inf and now > due:
        # A frame that is sent late was captured when it was due, so its latency includes the wait for credit.
        t_ns -= int(1e9 * (now - due))
        into.late += now - due > 1 / load.fps
    into.sent += 1
    if not load.closed_loop:
        stream.send(image, detections, t_ns=t_ns)
        return
    sent = time.perf_counter()
    tracks = stream.track(image, detections, t_ns=t_ns)
    into.round_trips_s.append(time.perf_counter() - sent)
    _count(tracks, into)


def _follow(updates: Iterator[Tracks], into: dict[str, Measured]) -> None:
    for tracks in updates:
        _count(tracks, into[tracks.stream])


def _count(tracks: Tracks, into: Measured) -> None:
    into.frames += 1
    if tracks.status is Status.TRACKED:
        into.latencies_s.append((time.time_ns() - tracks.t_ns) / 1e9)
        into.stages_us.append(_STAGES_OF(tracks.timing))
    elif tracks.status is Status.REJECTED:
        into.rejected += 1
    else:
        into.dropped += 1


def made_detections(n: int, width: int, height: int, seed: int = 0) -> Iterator[Detections]:
    """Endless detections of moving boxes. They are made in advance, and repeated forwards and backwards."""
    return cycle(_forwards_and_backwards(n, width, height, seed))


def _forwards_and_backwards(n: int, width: int, height: int, seed: int) -> list[Detections]:
    made = [Detections(boxes=boxes) for boxes in islice(walk(n, width, height, seed), _N_MADE)]
    return made + made[::-1]


def walk(n: int, width: int, height: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Endless boxes (n, 4) of a random walk inside a frame."""
    generator = np.random.default_rng(seed)
    size = np.array([40.0, 60.0])
    span = np.array([width, height]) - size
    corner = generator.uniform(0, span, (n, 2))
    speed = generator.normal(0, 2, (n, 2))
    while True:
        speed = 0.95 * speed + generator.normal(0, 0.6, (n, 2))
        corner = np.abs(corner + speed)
        corner = span - np.abs(span - corner)
        yield np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def rate(measured: list[Measured]) -> float:
    """Frames/s of all streams together, until the last settlement."""
    return sum(one.frames for one in measured) / max(one.seconds for one in measured)


def _report(load: Load, measured: list[Measured], console: Console) -> None:
    image = f"{load.width}x{load.height} gray" if load.width else "boxes only"
    console.print(
        f"{load.streams} streams x {load.instances} instances, {image}, "
        f"{'closed loop' if load.closed_loop else f'{load.fps:g} fps per stream requested'}, {load.seconds:g} s",
        highlight=False,
    )
    console.print(
        f"sustained {rate(measured):.0f} frames/s in total; {sum(one.dropped for one in measured)} dropped, "
        f"{sum(one.rejected for one in measured)} rejected, {sum(one.late for one in measured)} sent late",
        highlight=False,
    )
    stages = np.concatenate([np.array(one.stages_us or np.empty((0, len(STAGES)))) for one in measured]) / 1e3
    table = Table("ms", "p50", "p90", "p99", "max")
    rows = [(stage, stages[:, column]) for column, stage in enumerate(STAGES)]
    if load.closed_loop:
        rows.append(("round trip", np.concatenate([np.array(one.round_trips_s) for one in measured]) * 1e3))
    if load.fps < math.inf:
        rows.append(("due to ids", np.concatenate([np.array(one.latencies_s) for one in measured]) * 1e3))
    for name, values in rows:
        if len(values):
            table.add_row(name, *(f"{value:.3f}" for value in (*np.percentile(values, [50, 90, 99]), values.max())))
    console.print(table)
