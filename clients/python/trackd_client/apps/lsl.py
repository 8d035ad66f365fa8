"""`trackd-client lsl`: tracks and events as streams of the Lab Streaming Layer, with the capture clock."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import typer

from trackd_client.apps.events import EventRows, Row, as_json
from trackd_client.apps.live_streams import LiveStreams
from trackd_client.protocol import Event, Status, Tracks
from trackd_client.stream_client import StreamClient
from trackd_client.version import VERSION

SLICE_S = 0.1
LABELS = ("x", "y", "score")
MOST_STREAMS = 256


def sample(tracks: Tracks, slots: int) -> list[float]:
    """Return the channels of one frame: x, y and score of the tracks 0 to `slots` − 1; NaN for each that it lacks."""
    channels = np.full((slots, len(LABELS)), np.nan, np.float32)
    if tracks.track_ids is not None and tracks.boxes is not None and tracks.track_scores is not None:
        rows = np.flatnonzero((tracks.track_ids >= 0) & (tracks.track_ids < slots))
        ids = tracks.track_ids[rows]
        channels[ids, :2] = (tracks.boxes[rows, :2] + tracks.boxes[rows, 2:]) / 2
        channels[ids, 2] = tracks.track_scores[rows]
    flat: list[float] = channels.ravel().tolist()
    return flat


class LslOutlets:
    """The outlets of a daemon: for each stream `NAME` one of positions, `trackd-NAME`, and one of events.

    Args:
        pylsl: the module.
        slots: the number of track ids that have channels; a stream of LSL has a fixed number of them.
    """

    def __init__(self, pylsl: Any, slots: int) -> None:
        self._pylsl = pylsl
        self._slots = slots
        self._rows = EventRows()
        self._outlets: dict[tuple[str, str], Any] = {}

    def tracks(self, tracks: Tracks) -> None:
        """Push a frame: its positions if it was tracked, and its events."""
        stamp = self._stamp(tracks.t_ns)
        if tracks.status is Status.TRACKED:
            self._outlet(tracks.stream, "positions").push_sample(sample(tracks, self._slots), stamp)
        for row in self._rows.of_tracks(tracks):
            self._push_event(row, stamp)

    def event(self, event: Event) -> None:
        """Push an event of a stream, with the present time."""
        for row in self._rows.of_event(event):
            self._push_event(row, self._pylsl.local_clock())

    def _push_event(self, row: Row, stamp: float) -> None:
        self._outlet(row["stream"], "events").push_sample([as_json(row)], stamp)

    def _stamp(self, t_ns: int) -> float:
        """Return a capture time of this host's clock as a time of LSL's clock, which counts from another moment."""
        return float(self._pylsl.local_clock() - (time.time_ns() - t_ns) / 1e9)

    def _outlet(self, stream: str, kind: str) -> Any:
        outlet = self._outlets.get((stream, kind))
        if outlet is None:
            while len(self._outlets) >= 2 * MOST_STREAMS:
                self._outlets.pop(next(iter(self._outlets)))
            outlet = self._outlets[stream, kind] = self._pylsl.StreamOutlet(self._info(stream, kind))
        return outlet

    def _info(self, stream: str, kind: str) -> Any:
        source = f"trackd/{stream}/{kind}"
        if kind == "events":
            return self._pylsl.StreamInfo(f"trackd-{stream}-events", "Markers", 1, 0.0, "string", source)
        n = self._slots * len(LABELS)
        info = self._pylsl.StreamInfo(f"trackd-{stream}", "Position", n, 0.0, "float32", source)
        info.desc().append_child_value("manufacturer", f"trackd {VERSION}")
        channels = info.desc().append_child("channels")
        for track in range(self._slots):
            for label in LABELS:
                channel = channels.append_child("channel")
                channel.append_child_value("label", f"track {track} {label}")
                channel.append_child_value("unit", "" if label == "score" else "pixels")
        return info


def run_lsl(client: StreamClient, pylsl: Any, streams: Sequence[str], slots: int) -> None:
    """Push the tracks and events of streams until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    outlets = LslOutlets(pylsl, slots)
    try:
        with LiveStreams(client, streams, outlets.event) as live:
            typer.echo("ready", err=True)
            while True:
                tracks = live.next(SLICE_S)
                if tracks is not None:
                    outlets.tracks(tracks)
    except KeyboardInterrupt:
        pass


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
