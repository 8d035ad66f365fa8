"""The replies to control requests as typed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackd_client.errors import TrackdError
from trackd_client.protocol import ProtocolError, Tracks, tracks_from_history
from trackd_client.zones import Places, Points, ZonesError, read_places


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
    zones_number: int = 0  # of the last change of its zones and lines; 0: it has never had any


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
    # "active" or "lost"; "merged" in the box of another track; "tentative" with fewer observations than
    # `tracker.min_hits`
    state: str
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


@dataclass(frozen=True, slots=True)
class StreamRecording:
    """A recording of a stream's published messages in the daemon's folder."""

    stream: str
    recording: str  # the name of its folder
    t_ns: int  # when it was started, Unix ns
    author: str = ""  # who started it
    active: bool = False  # it is still written
    seconds: float | None = None  # these four are None of a recording that a kill of the daemon has ended
    messages: int | None = None
    missing: int | None = None  # settlements that are not in it, since the disk was too slow
    reason: str | None = None  # why it ended, where nobody stopped it
    bytes: int = 0


def read_recording(row: Any, *, active: bool) -> StreamRecording:
    """Return the reply to `recording.start` or `recording.stop`, or a row of `recording.list`, as a value.

    Args:
        row: the map.
        active: whether it is still written, where the row does not say so.

    Raises:
        TrackdError: the row is not valid.
    """
    known = {"active": active, **read_map(row, "recording")}
    try:
        return StreamRecording(**{name: known[name] for name in StreamRecording.__slots__ if name in known})
    except TypeError as error:
        raise TrackdError(f"a recording cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class StreamZones:
    """The zones and lines of a stream, in pixels of its frames."""

    stream: str
    epoch: int
    number: int  # of their last change; 0: there was none
    places: Places
    author: str = ""  # who changed them last
    t_ns: int = 0  # when, Unix ns

    @property
    def zones(self) -> Mapping[str, Points]:
        """The corners of each zone by name, x y."""
        return self.places.zones

    @property
    def lines(self) -> Mapping[str, Points]:
        """The two ends of each line by name, x y."""
        return self.places.lines


def read_zones(stream: str, result: Any, epoch: int | None = None) -> StreamZones:
    """Return the reply to `stream.zones` or `stream.set_zones`, or the detail of an event `zones`, as a value.

    Args:
        stream: whose zones they are.
        result: the map.
        epoch: of an event, whose detail has none.

    Raises:
        TrackdError: the result is not valid.
    """
    reply = read_map(result, "stream.zones")
    try:
        places = read_places(reply)
        epoch = reply["epoch"] if epoch is None else epoch
        return StreamZones(stream, epoch, reply["number"], places, reply.get("author", ""), reply.get("t_ns", 0))
    except (ZonesError, KeyError) as error:
        raise TrackdError(f"the zones of stream {stream!r} cannot be read: {error}") from None


def zones_params(
    zones: Mapping[str, Sequence[Sequence[float]]],
    lines: Mapping[str, Sequence[Sequence[float]]],
    author: str | None,
    number: int | None,
) -> dict[str, Any]:
    """Return the params of `stream.set_zones` beside the stream; points of any kind of sequence become lists."""
    params: dict[str, Any] = {
        key: {name: [[float(x) for x in point] for point in points] for name, points in places.items()}
        for key, places in (("zones", zones), ("lines", lines))
    }
    params.update({key: value for key, value in (("author", author), ("number", number)) if value is not None})
    return params


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


def read_history(rows: Any) -> list[Tracks]:
    """Return the reply to `history` as settlements, oldest first.

    Raises:
        TrackdError: the result is not a list of settlements.
    """
    if not isinstance(rows, list):
        raise TrackdError(f"history must answer with a list; got {type(rows).__name__}")
    try:
        return [tracks_from_history(row) for row in rows]
    except ProtocolError as error:
        raise TrackdError(error.message, error.code) from None
