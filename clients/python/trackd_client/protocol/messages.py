"""Every message of the wire as a typed value.

Letters: n detections, k keypoints, h × w × c the image. Arrays are as on the wire: C order, little endian.
Two messages are equal when their fields are equal; arrays are compared by dtype, shape and bytes (so NaN equals NaN).
Messages are immutable values. Those that are created for every frame are not frozen, only because creating a frozen
one takes up to nine times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, FloatArray, Image, Skeleton
from trackd_client.protocol.errors import ErrorCode, FrameHead

PROTOCOL_VERSION = 1


class Status(StrEnum):
    """How a frame was settled."""

    TRACKED = "tracked"
    DROPPED = "dropped"
    REJECTED = "rejected"


class EventName(StrEnum):
    """What happened to a stream, as an event reports it."""

    OPENED = "opened"
    CLOSED = "closed"
    RESET = "reset"
    CONFIGURED = "configured"
    RESUMED = "resumed"
    CORRECTED = "corrected"  # a person changed its tracks
    IDENTITY = "identity"  # the ids of its tracks seem to be exchanged, were corrected, or an animal was recognised
    ZONES = "zones"  # a person changed its zones or lines
    RECORDING = "recording"  # it is recorded from here on, or not any more
    MOVED = "moved"  # it has left this member of a fleet
    HEARTBEAT = "heartbeat"


class Message:
    """Base of all messages: the kind, and an equality that compares arrays."""

    kind: ClassVar[str]
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            return False
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Message | Detections):
        return type(a) is type(b) and all(
            _same(getattr(a, f.name), getattr(b, f.name))
            for f in fields(a)  # type: ignore[arg-type]
        )
    return bool(a == b)


# --- ingest, client to daemon ---


@dataclass(frozen=True, slots=True, eq=False)
class Open(Message):
    """Open a stream, or resume one."""

    kind: ClassVar[str] = "open"
    stream: str
    config: Mapping[str, Any] = field(default_factory=dict)
    frame_shape: tuple[int, ...] | None = None  # (h, w) or (h, w, c)
    skeleton: Skeleton | None = None
    model: str | None = None
    reply: str = "ack"  # "ack" or "tracks"
    takeover: bool = False
    source: str | None = None  # the video's path or URL, for outputs that name it
    session: str | None = None  # the client's name of this stream's session: its files go on after a kill of the daemon
    member: str | None = None  # of a fleet: the one that the client was sent to


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as a JPEG or PNG file."""

    encoding: str  # "jpeg" or "png"
    data: bytes | memoryview
    decoded_bytes: int = 0  # as its header states, of a received image

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, EncodedImage)
            and self.encoding == other.encoding
            and bytes(self.data) == bytes(other.data)
        )


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image in a shared-memory segment of the same host."""

    name: str
    offset: int  # bytes
    shape: tuple[int, ...]  # (h, w) or (h, w, c)
    dtype: str  # "|u1" or "<u2"
    generation: int

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(slots=True, eq=False)
class Frame(Message):
    """One frame of a stream: its number, its capture time, its detections and, if there is one, its image."""

    kind: ClassVar[str] = "frame"
    stream: str
    seq: int
    frame_index: int  # the source's own frame number; rises
    t_ns: int  # capture time, Unix ns
    detections: Detections
    image: Image | EncodedImage | SharedImage | None = None  # (h, w) or (h, w, c), |u1 or <u2
    traceparent: str | None = None  # W3C trace context of the sender, as it was sent

    @property
    def head(self) -> FrameHead:
        """The identity of this frame."""
        return FrameHead(self.stream, self.seq, self.frame_index, self.t_ns, self.traceparent)


@dataclass(frozen=True, slots=True, eq=False)
class Close(Message):
    """Close a stream once its queued frames are settled."""

    kind: ClassVar[str] = "close"
    stream: str


@dataclass(frozen=True, slots=True, eq=False)
class Ping(Message):
    """A heartbeat with the client's clock, which the daemon echoes."""

    kind: ClassVar[str] = "ping"
    t_ns: int


# --- ingest, daemon to client ---


@dataclass(frozen=True, slots=True, eq=False)
class Opened(Message):
    """The stream is open, and belongs to this connection."""

    kind: ClassVar[str] = "opened"
    stream: str
    epoch: int
    next_seq: int
    credit: int
    config: Mapping[str, Any] = field(default_factory=dict)
    last_frame_index: int | None = None  # of the last accepted frame; that of the next must be above it
    message_bytes: int | None = None  # `limits.message_bytes`: ZeroMQ closes the connection at a larger part
    first_track_id: int | None = None  # of the epoch, where its output files continue earlier ones; else ids begin at 0


@dataclass(slots=True, eq=False)
class Ack(Message):
    """Every frame up to `seq` is settled. The client may send `credit` more frames than before."""

    kind: ClassVar[str] = "ack"
    stream: str
    seq: int
    credit: int


@dataclass(frozen=True, slots=True, eq=False)
class Error(Message):
    """The refusal of a message by the daemon."""

    kind: ClassVar[str] = "error"
    code: ErrorCode
    message: str
    stream: str | None = None
    seq: int | None = None
    expected: int | None = None
    fatal: bool = False  # the stream is closed for this client
    member: str | None = None  # with `moved`: the member of the fleet that has the stream, or should get it
    endpoints: Mapping[str, str] | None = None  # of that member: ingest, tracks, control, http
    term: int | None = None  # of its ownership; 0: nobody owns the stream


@dataclass(frozen=True, slots=True, eq=False)
class Closed(Message):
    """The stream is closed; `last_seq` was its last frame, −1 if it had none."""

    kind: ClassVar[str] = "closed"
    stream: str
    epoch: int
    last_seq: int


@dataclass(frozen=True, slots=True, eq=False)
class Pong(Message):
    """The answer to a ping."""

    kind: ClassVar[str] = "pong"
    t_ns: int
    daemon_t_ns: int


# --- tracks ---


@dataclass(slots=True)
class Timing:
    """The duration of each stage of a frame in microseconds; `total` is from receipt to publication."""

    queue: int = 0
    encode: int = 0
    associate: int = 0
    journal: int = 0
    total: int = 0


STAGES: tuple[str, ...] = tuple(stage.name for stage in fields(Timing))


@dataclass(slots=True, eq=False)
class Tracks(Message):
    """The settlement of one frame. Rows are in the sender's order. The arrays are present if it was tracked."""

    kind: ClassVar[str] = "tracks"
    stream: str
    epoch: int
    seq: int
    frame_index: int
    t_ns: int
    status: Status
    reason: str | None = None  # of a dropped or rejected frame
    track_ids: NDArray[np.int32] | None = None  # (n,) −1: not assigned
    track_scores: NDArray[np.float32] | None = None  # (n,) 0 to 1, NaN for none
    boxes: FloatArray | None = None  # (n, 4) x1 y1 x2 y2, pixels
    keypoints: FloatArray | None = None  # (n, k, 2), if sent
    scores: FloatArray | None = None  # (n,), if sent
    new_tracks: tuple[int, ...] = ()
    lost_tracks: tuple[int, ...] = ()
    found_tracks: tuple[int, ...] = ()
    ended_tracks: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    timing: Timing = field(default_factory=Timing)
    replayed: bool = False
    parents: tuple[int, ...] = ()  # parallel to new_tracks: the track that divided into it, -1 for none; or empty
    names: tuple[str | None, ...] = ()  # parallel to track_ids, None for none; empty if no track has a name
    corrections: tuple[Mapping[str, Any], ...] = ()  # by people, between the last tracked frame and this one
    tentative_tracks: tuple[int, ...] = ()  # those of track_ids seen in fewer than `tracker.min_hits` frames so far
    identity_events: tuple[Mapping[str, Any], ...] = ()  # what was found of the animals' identities up to this frame

    merged_tracks: tuple[int, ...] = ()  # tracks that are in the box of another one
    merged_rows: tuple[int, ...] = ()  # parallel to merged_tracks: the row of that box
    restored_tracks: tuple[int, ...] = ()  # ended before, and live again by an undo; lost where not in track_ids

    @property
    def merged(self) -> dict[int, tuple[int, ...]]:
        """By row of a box of several tracks: those that are in it beside its `track_ids`; empty if there is none."""
        found: dict[int, tuple[int, ...]] = {}
        for row, track in zip(self.merged_rows, self.merged_tracks, strict=True):
            found[row] = (*found.get(row, ()), track)
        return found

    @property
    def tentative(self) -> NDArray[np.bool_]:
        """(n,) whether each row's track is tentative; all False with `tracker.min_hits: 1`."""
        ids = self.track_ids if self.track_ids is not None else np.empty(0, np.int32)
        return np.isin(ids, self.tentative_tracks)


@dataclass(frozen=True, slots=True, eq=False)
class Event(Message):
    """Something that happened to a stream."""

    kind: ClassVar[str] = "event"
    stream: str
    event: EventName
    epoch: int
    last_seq: int
    detail: Mapping[str, Any] = field(default_factory=dict)


# --- control ---


@dataclass(frozen=True, slots=True, eq=False)
class Request(Message):
    """A query or a command to the daemon."""

    kind: ClassVar[str] = "request"
    id: Any
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Reply(Message):
    """The answer to a request: a result, or an error code with its message."""

    kind: ClassVar[str] = "reply"
    id: Any
    result: Any = None
    error: tuple[ErrorCode, str] | None = None


def topic(kind: str, stream: str) -> bytes:
    """The subscription topic of a stream: `tracks/<stream>/` or `events/<stream>/`.

    The final slash keeps a subscription to `cam1` from matching `cam10`.
    """
    return f"{kind}/{stream}/".encode()
