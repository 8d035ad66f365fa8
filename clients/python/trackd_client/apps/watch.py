"""`trackd-client watch`: the live tracks of streams as tables."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import ErrorCode, Status, Tracks
from trackd_client.replies import LiveTracks
from trackd_client.stream_client import StreamClient

REFRESH_HZ = 5
RATE_WINDOW_S = 2.0
LOOK_FOR_STREAMS_S = 2.0
ONCE_FRAMES = 100
MAX_ROWS = 40  # of a table; more than a terminal shows


@dataclass(slots=True)
class TrackRow:
    """A track at its last detection."""

    id: int
    first_index: int  # frame index of its first detection
    last_index: int  # frame index of its last detection
    centre: tuple[float, float]  # x y, pixels
    speed: float  # pixels per frame, between the last two detections; NaN after one
    score: float  # NaN for none
    lost: bool = False
    name: str | None = None  # as a person named it
    tentative: bool = False
    merged: bool = False  # in the box of another track

    @property
    def state(self) -> str:
        """The first of "tentative", "merged" and "lost" that applies, else "active"."""
        return "tentative" if self.tentative else "merged" if self.merged else "lost" if self.lost else "active"


class LiveTable:
    """The tracks of one stream, updated by its settlements.

    `update` and `render` may be called from two threads.
    """

    def __init__(self, stream: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.frames = 0
        self.dropped = 0
        self.rejected = 0
        self._clock = clock
        self._arrivals: deque[float] = deque()
        self._first_index: int | None = None  # of the first settlement in this epoch; the counts begin with it
        self._last: Tracks | None = None
        self._epoch: int | None = None
        self._latency_us: deque[int] = deque(maxlen=100)
        self._rows: dict[int, TrackRow] = {}
        self._lock = threading.Lock()

    def update(self, tracks: Tracks) -> None:
        """Update the table by a settlement."""
        with self._lock:
            self._enter(tracks.epoch)
            if self._first_index is None:
                self._first_index = tracks.frame_index
            self._last = tracks
            self.frames += 1
            self._arrivals.append(self._clock())
            self._forget_arrivals()
            if tracks.status is Status.DROPPED:
                self.dropped += 1
            elif tracks.status is Status.REJECTED:
                self.rejected += 1
            else:
                self._latency_us.append(tracks.timing.total)
                self._take(tracks)

    def complete(self, live: LiveTracks) -> None:
        """Add what the settlements before the first one of this table have shown: when tracks began, and lost tracks.

        Args:
            live: the live tracks after the latest settlement of the table, or before its first one.
        """
        with self._lock:
            self._enter(live.epoch)
            for track in live.tracks:
                row = self._rows.get(track.id)
                if row is not None:
                    row.first_index = min(row.first_index, track.first_frame_index)
                elif len(track.box) == 4:
                    x1, y1, x2, y2 = track.box
                    self._rows[track.id] = TrackRow(
                        track.id,
                        track.first_frame_index,
                        track.frame_index,
                        ((x1 + x2) / 2, (y1 + y2) / 2),
                        speed=math.nan,
                        score=math.nan,
                        lost=track.state == "lost",
                        name=track.name,
                        tentative=track.state == "tentative",
                        merged=track.state == "merged",
                    )

    def rows(self) -> list[TrackRow]:
        """The live tracks, by id."""
        with self._lock:
            return sorted(self._rows.values(), key=lambda row: row.id)

    @property
    def fps(self) -> float:
        """Settlements per second over the last `RATE_WINDOW_S` seconds."""
        with self._lock:
            self._forget_arrivals()
            if len(self._arrivals) < 2:
                return 0.0
            return (len(self._arrivals) - 1) / max(1e-9, self._arrivals[-1] - self._arrivals[0])

    def render(self) -> Table:
        """A table for rich, with the stream's state above it."""
        last = self._last
        latency = f"{np.median(list(self._latency_us)) / 1e3:.2f} ms" if self._latency_us else "–"
        table = Table(
            title=f"{self.stream}: frame {last.frame_index if last is not None else '–'}, {self.fps:.1f} fps, "
            f"latency {latency}, {self.dropped} dropped, {self.rejected} rejected"
            + (f" since frame {self._first_index}" if self._first_index is not None else ""),
            title_justify="left",
        )
        for column in ("track", "state", "centre x", "centre y", "px/frame", "age, frames", "score"):
            table.add_column(column, justify="left" if column == "state" else "right")
        rows = self.rows()
        for row in rows[:MAX_ROWS]:
            now = last.frame_index if last is not None else row.last_index
            table.add_row(
                str(row.id) if row.name is None else f"{row.id} {escape(row.name)}",
                f"lost for {now - row.last_index}" if row.state == "lost" else row.state,
                f"{row.centre[0]:.1f}",
                f"{row.centre[1]:.1f}",
                _number(row.speed, 1),
                str(now - row.first_index + 1),
                _number(row.score, 2),
                style="dim" if row.state != "active" else None,
            )
        if len(rows) > MAX_ROWS:
            table.caption = f"and {len(rows) - MAX_ROWS} more"
        return table

    def _enter(self, epoch: int) -> None:
        """Delete the tracks and the counts of another epoch."""
        if epoch == self._epoch:
            return
        self._rows.clear()
        self.dropped = self.rejected = 0
        self._first_index = None
        self._epoch = epoch

    def _take(self, tracks: Tracks) -> None:
        if tracks.track_ids is None or tracks.track_scores is None or tracks.boxes is None:
            return
        centres = ((tracks.boxes[:, :2] + tracks.boxes[:, 2:]) / 2).tolist()
        names = tracks.names or [None] * len(centres)
        columns = (tracks.track_ids.tolist(), centres, tracks.track_scores.tolist(), names, tracks.tentative)
        for track_id, centre, score, name, tentative in zip(*columns, strict=True):
            if track_id < 0:
                continue
            old = self._rows.get(track_id)
            first_index, speed = tracks.frame_index, math.nan
            if old is not None:
                first_index = old.first_index
                speed = math.dist(centre, old.centre) / max(1, tracks.frame_index - old.last_index)
            self._rows[track_id] = TrackRow(
                track_id, first_index, tracks.frame_index, (centre[0], centre[1]), speed, score, name=name,
                tentative=bool(tentative),
            )  # fmt: skip
        for track_id, row in zip(tracks.merged_tracks, tracks.merged_rows, strict=True):
            if track_id in self._rows:
                merged = self._rows[track_id]
                merged.last_index, merged.centre = tracks.frame_index, (centres[row][0], centres[row][1])
                merged.lost, merged.merged, merged.speed, merged.score = False, True, math.nan, math.nan
        for track_id in tracks.lost_tracks:
            if track_id in self._rows:
                self._rows[track_id].lost, self._rows[track_id].merged = True, False
        for track_id in tracks.ended_tracks:
            self._rows.pop(track_id, None)

    def _forget_arrivals(self) -> None:
        while self._arrivals and self._clock() - self._arrivals[0] > RATE_WINDOW_S:
            self._arrivals.popleft()


class Watcher:
    """Follow streams, each on its own thread, and keep a table of each.

    Args:
        client: connected to the daemon.
        streams: the streams to follow; None: all open streams, queried at intervals.
    """

    def __init__(self, client: StreamClient, streams: Sequence[str] | None = None) -> None:
        self._client = client
        self._streams = streams
        self._looked_at = -math.inf
        self.tables: dict[str, LiveTable] = {}

    def follow_new(self) -> None:
        """Start to follow the streams that have no table yet."""
        if self._streams is None and time.monotonic() - self._looked_at < LOOK_FOR_STREAMS_S:
            return
        self._looked_at = time.monotonic()
        names = self._streams if self._streams is not None else [row.stream for row in self._client.streams()]
        for name in names:
            if name not in self.tables:
                self.tables[name] = LiveTable(name)
                threading.Thread(target=self._follow, args=(name,), name=f"watch {name}", daemon=True).start()

    def render(self) -> Group | str:
        """All tables, one below the other."""
        return Group(*(table.render() for table in self.tables.values())) if self.tables else "no stream is open"

    def _follow(self, name: str) -> None:
        with suppress(TrackdError):  # the client was closed
            for tracks in self._client.tracks(name, from_seq=self._begin(name)):
                self.tables[name].update(tracks)

    def _begin(self, name: str) -> int | None:
        """Show the live tracks of a stream; returns the seq of the settlement that follows.

        None for a stream that is not open yet: all of its tracks will begin while it is followed.
        """
        try:
            live = self._client.live(name)
        except TrackdError as error:
            if error.code is not ErrorCode.UNKNOWN_STREAM:
                raise
            return None
        self.tables[name].complete(live)
        return live.seq + 1


def one_frame(client: StreamClient, stream: str, timeout_s: float) -> LiveTable:
    """A stream's table at its next frame, or at its last one if the next is not settled in time.

    Raises:
        TrackdError: the stream is not open, or had no frame yet.
    """
    live = client.live(stream)
    now_s = 0.0
    # The capture times are the clock, because past frames are received all at once.
    table = LiveTable(stream, lambda: now_s)

    def update(tracks: Tracks) -> None:
        nonlocal now_s
        now_s = tracks.t_ns / 1e9
        table.update(tracks)

    # Past frames too: a single frame gives no speed.
    for tracks in client.history(stream, epoch=live.epoch, from_seq=max(0, live.seq - ONCE_FRAMES), to_seq=live.seq):
        update(tracks)
    table.complete(live)
    subscription = client.tracks(stream, from_seq=live.seq + 1)
    try:
        with suppress(Timeout):
            tracks_or_none = subscription.next(timeout_s)
            if tracks_or_none is not None:
                update(tracks_or_none)
    finally:
        subscription.close()
    if not table.frames:
        raise Timeout(f"stream {stream!r} had no frame yet, and no frame was settled within {timeout_s:g} s")
    return table


def run_watch(client: StreamClient, stream: str | None, *, once: bool = False, console: Console | None = None) -> None:
    """Show tables until interrupted; with `once`, one frame of each stream."""
    console = console or Console()
    if once:
        names = [stream] if stream is not None else [row.stream for row in client.streams()]
        if not names:
            raise TrackdError("no stream is open")
        for name in names:
            console.print(one_frame(client, name, min(client.timeout_s, 1.0)).render())
        return
    if stream is not None:
        client.streams()  # fails at once if there is no daemon
    watcher = Watcher(client, [stream] if stream is not None else None)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            watcher.follow_new()
            live.update(watcher.render(), refresh=True)
            time.sleep(1 / REFRESH_HZ)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
