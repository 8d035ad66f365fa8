"""`trackd-client events`: one line for each event of a stream, for shell pipes."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trackd_client.apps.live_streams import LiveStreams
from trackd_client.protocol import Event, EventName, Tracks
from trackd_client.stream_client import StreamClient

Row = dict[str, Any]
SLICE_S = 0.1
_LISTS = (
    ("new", "new_tracks"), ("restored", "restored_tracks"), ("found", "found_tracks"), ("lost", "lost_tracks"),
    ("ended", "ended_tracks"),
)  # fmt: skip
MOST_STREAMS = 4096


class EventRows:
    """Events as flat maps: what happened to a track by a settlement, and to a stream by an event."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}  # by stream: frame index and capture time of the last settlement
        # By stream: the epoch, and the tracks that are in the box of another one, with that.
        self._merged: dict[str, tuple[int, dict[int, int]]] = {}

    def of_tracks(self, tracks: Tracks) -> Iterator[Row]:
        """Yield what a settlement reports of its tracks."""
        self._last.pop(tracks.stream, None)
        if len(self._last) >= MOST_STREAMS:
            self._last.pop(next(iter(self._last)))
        self._last[tracks.stream] = (tracks.frame_index, tracks.t_ns)
        listed = [(event, track) for event, name in _LISTS for track in getattr(tracks, name)]
        hosts: dict[int, int] = {}
        if tracks.merged_tracks or tracks.stream in self._merged:
            merged, hosts = self._changed_merges(tracks)
            listed += merged
        if not listed:
            return
        parents = dict(zip(tracks.new_tracks, tracks.parents, strict=True)) if tracks.parents else {}
        ids = tracks.track_ids.tolist() if tracks.track_ids is not None else []
        boxes = dict(zip(ids, tracks.boxes.tolist(), strict=True)) if tracks.boxes is not None else {}
        names = dict(zip(ids, tracks.names, strict=False))
        for event, track in listed:
            row: Row = {
                "event": event,
                "stream": tracks.stream,
                "epoch": tracks.epoch,
                "seq": tracks.seq,
                "frame_index": tracks.frame_index,
                "t_ns": tracks.t_ns,
                "track": track,
            }
            if names.get(track) is not None:
                row["name"] = names[track]
            if (box := boxes.get(track)) is not None:
                row["box"] = [round(x, 3) for x in box]
            if parents.get(track, -1) >= 0:
                row["parent"] = parents[track]
            if track in tracks.tentative_tracks:
                row["tentative"] = True
            if event in ("merged", "separated"):
                row["with"] = hosts[track]
            yield row

    def _changed_merges(self, tracks: Tracks) -> tuple[list[tuple[str, int]], dict[int, int]]:
        """Return which tracks have come into the box of another one and out of it, and the other one of each.

        A track that is lost or has ended while it was in a box has not come out of it.
        """
        if tracks.track_ids is None:
            return [], {}
        ids = tracks.track_ids.tolist()
        rows = zip(tracks.merged_tracks, tracks.merged_rows, strict=True)
        now = {track: int(ids[row]) for track, row in rows}
        epoch, before = self._merged.pop(tracks.stream, (tracks.epoch, {}))
        before = before if epoch == tracks.epoch else {}
        if now and len(self._merged) < MOST_STREAMS:
            self._merged[tracks.stream] = tracks.epoch, now
        gone = {*tracks.lost_tracks, *tracks.ended_tracks}
        # Two tracks of a box may change places in the settlement; that is no event.
        together = {*now, *now.values()}
        came = [("merged", track) for track in now if track not in before and track not in before.values()]
        left = [track for track in before if track not in together | gone]
        hosts = {**before, **now}
        for track, host in before.items():  # where the others stay together, the one that was matched has come out
            if track in together and host not in together | gone and host not in left:
                left.append(host)
                hosts[host] = track
        return came + [("separated", track) for track in left], hosts

    def of_event(self, event: Event) -> Iterator[Row]:
        """Yield an event, with the frame index and the capture time of the stream's last settlement."""
        if event.event is EventName.HEARTBEAT:
            return
        frame_index, t_ns = self._last.get(event.stream, (None, None))
        row: Row = {
            "event": str(event.event),
            "stream": event.stream,
            "epoch": event.epoch,
            "seq": event.last_seq,
            "frame_index": frame_index,
            "t_ns": t_ns,
        }
        if event.detail:
            row["detail"] = dict(event.detail)
        yield row


def as_json(row: Row) -> str:
    """Return a row as JSON on one line."""
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False, default=str)


def as_text(row: Row) -> str:
    """Return a row as words for people."""
    first = f"{row['stream']} frame {row['frame_index'] if row['frame_index'] is not None else '–'}: {row['event']}"
    rest = " ".join(f"{key}={row[key]}" for key in ("track", "name", "parent", "with", "detail") if key in row)
    return " ".join(filter(None, (first, rest, "tentative" if row.get("tentative") else "")))


def run_events(client: StreamClient, streams: Sequence[str], *, json_lines: bool) -> None:
    """Print a line for each event until interrupted, or until nothing reads standard output any more."""
    as_line: Callable[[Row], str] = as_json if json_lines else as_text
    rows = EventRows()

    def show(found: Iterator[Row]) -> None:
        lines = "".join(as_line(row) + "\n" for row in found)
        if lines:
            sys.stdout.write(lines)
            sys.stdout.flush()

    try:
        with LiveStreams(client, streams, lambda event: show(rows.of_event(event))) as live:
            while not _is_closed(sys.stdout.fileno()):
                tracks = live.next(SLICE_S)
                if tracks is not None:
                    show(rows.of_tracks(tracks))
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass


def _is_closed(descriptor: int) -> bool:
    """Return whether the reader of a pipe has closed it."""
    poller = select.poll()
    poller.register(descriptor, 0)
    return any(flags & select.POLLERR for _, flags in poller.poll(0))
