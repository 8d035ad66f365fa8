"""The replies to control requests as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackd_client.errors import TrackdError


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream's row in the reply to `status`. The counts are frames since the start of its epoch."""

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
    unavailable: str | None = None  # of a stored stream whose model is gone: the reason


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The reply to `status`."""

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
    """A track that has not ended, with its last detection."""

    id: int
    state: str  # "active" or "lost"
    box: tuple[float, ...]  # x1 y1 x2 y2, pixels
    frame_index: int  # of the last detection
    first_frame_index: int  # of the first detection; from an earlier daemon, of the last
    name: str | None = None  # as a person named it


@dataclass(frozen=True, slots=True)
class LiveTracks:
    """The live tracks of a stream after the frame `seq` of `epoch`."""

    stream: str
    epoch: int
    seq: int  # -1 before the first frame
    tracks: tuple[LiveTrack, ...]


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction that the daemon applied, and stored where it has a journal."""

    number: int  # of the correction in its epoch, for an undo
    epoch: int
    seq: int  # it applies from the frame after this one on; -1: from the first


def read_corrected(result: Any) -> Corrected:
    """Return the reply to `stream.correct` as a value.

    Raises:
        TrackdError: the result is not a map.
    """
    corrected = read_map(result, "stream.correct")
    return Corrected(corrected["number"], corrected["epoch"], corrected["seq"])


def read_status(result: Any) -> DaemonStatus:
    """Return the reply to `status` as a value. Unknown keys are skipped.

    Raises:
        TrackdError: the result is not a map.
    """
    status = read_map(result, "status")
    rows = tuple(
        StreamStatus(**{name: row[name] for name in StreamStatus.__slots__ if name in row})
        for row in status.get("streams", [])
    )
    known = {name: status[name] for name in DaemonStatus.__slots__ if name in status}
    defaults = {"version": "", "protocol": 1, "uptime_s": 0.0, "ready": True, "draining": False, "device": ""}
    return DaemonStatus(**{**defaults, **known, "models": tuple(status.get("models", ())), "streams": rows})


def read_live_tracks(stream: str, result: Any) -> LiveTracks:
    """Return the reply to `tracks.live` as a value.

    Raises:
        TrackdError: the result is not a map.
    """
    live = read_map(result, "tracks.live")
    rows = tuple(
        LiveTrack(
            row["id"],
            row["state"],
            tuple(row.get("box") or ()),
            row["frame_index"],
            row.get("first_frame_index", row["frame_index"]),
            row.get("name"),
        )
        for row in live.get("tracks", [])
    )
    return LiveTracks(stream, live["epoch"], live["seq"], rows)


def read_map(result: Any, method: str) -> Mapping[str, Any]:
    """Return the result of `method`, which must be a map.

    Raises:
        TrackdError: the result is not a map.
    """
    if not isinstance(result, dict):
        raise TrackdError(f"{method} must answer with a map; got {type(result).__name__}")
    return result
