"""What a daemon says about itself and its streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream's row of `status`; the counts are of frames since its epoch began."""

    stream: str
    epoch: int = 0
    next_seq: int = 0
    model: str = ""
    queued: int = 0
    active_tracks: int = 0
    received: int = 0
    tracked: int = 0
    dropped: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """What the daemon says about itself."""

    version: str
    protocol: int
    uptime_s: float
    ready: bool
    draining: bool
    device: str
    models: tuple[Any, ...]
    streams: tuple[StreamStatus, ...]


@dataclass(frozen=True, slots=True)
class LiveTrack:
    """A track that is not gone: where it was seen last."""

    id: int
    state: str  # "active" or "lost"
    box: tuple[float, ...]  # x1 y1 x2 y2, pixels
    frame_index: int


@dataclass(frozen=True, slots=True)
class LiveTracks:
    """The live tracks of a stream, as of one seq of one epoch."""

    stream: str
    epoch: int
    seq: int  # -1 before the first frame
    tracks: tuple[LiveTrack, ...]
