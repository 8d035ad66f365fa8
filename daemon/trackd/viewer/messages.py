"""The messages of the viewer's socket, one MessagePack map each: what a page may ask, and what it is sent.

Letters: n detections, k keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from trackd.engine.image import image_shape
from trackd.viewer.pictures import AnyImage
from trackd_client.excerpt import excerpt
from trackd_client.protocol import ErrorCode, Event, Limits, ProtocolError, Reply, Status, Tracks
from trackd_client.protocol import fields as read
from trackd_client.protocol.decode import read_header
from trackd_client.protocol.encode import tracks_head

MESSAGE_BYTES = 65_536  # of a message from a page
_ITEMS = 1024  # of each map and list in it
_LIMITS = Limits(header_bytes=MESSAGE_BYTES, header_items=_ITEMS)
MOST_WATCHED = 16  # streams of a page
MOST_FPS = 15
_LEAST_WIDTH, _MOST_WIDTH = 64, 1920

Change = tuple[
    int, int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...],
    tuple[int, ...], tuple[str, ...],
]  # fmt: skip
_CHANGE_KEYS = ("seq", "t_ns", "frame_index", "new", "lost", "found", "ended", "restored", "parents", "flags")


@dataclass(frozen=True, slots=True)
class Wish:
    """How a page wants to see one stream."""

    fps: int  # 1 to 15
    width: int  # pixels of the picture's longest side
    image: bool


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a page."""

    token: str | None


@dataclass(frozen=True, slots=True)
class WatchStreams:
    """Which streams a page shows, in place of those before."""

    wishes: Mapping[str, Wish]

    def limited(self, fps: int) -> dict[str, Wish]:
        """Return the wishes with at most this rate."""
        return {name: replace(wish, fps=min(wish.fps, fps)) for name, wish in self.wishes.items()}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of a page, as one of the control socket."""

    id: int
    method: str
    params: Mapping[str, Any]
    nbytes: int


def decode(data: bytes) -> Hello | WatchStreams | Ask:
    """Read a message of a page.

    Raises:
        ProtocolError: it is not valid (`bad_message`, `too_large`).
    """
    message = read_header([data], _LIMITS, has_version=False)
    kind = message.get("type")
    match kind:
        case "hello":
            return Hello(None if message.get("token") is None else read.text(message, "token"))
        case "watch":
            return WatchStreams(_wishes(read.mapping(message, "streams")))
        case "request":
            params = read.mapping(message, "params", optional=True)
            return Ask(read.integer(message, "id"), read.text(message, "method"), params, len(data))
    raise ProtocolError(ErrorCode.BAD_MESSAGE, f"type must be one of hello, watch, request; got {excerpt(kind)}")


def _wishes(streams: Mapping[Any, Any]) -> dict[str, Wish]:
    if len(streams) > MOST_WATCHED:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"a page watches at most {MOST_WATCHED} streams; got {len(streams)}")
    wishes = {}
    for name in streams:
        wish = read.mapping(streams, name)
        width = read.integer(wish, "width", _LEAST_WIDTH, _MOST_WIDTH)
        wishes[read.stream_name({"stream": name})] = Wish(
            read.integer(wish, "fps", 1, MOST_FPS), width, read.flag(wish, "image")
        )
    return wishes


# --- to a page ---


def is_changed(tracks: Tracks) -> bool:
    """Whether a frame has something to tell beside its picture."""
    changed = tracks.new_tracks or tracks.lost_tracks or tracks.found_tracks or tracks.ended_tracks
    return bool(changed or tracks.restored_tracks or tracks.flags)


def change_of(number: int, tracks: Tracks) -> Change:
    """Return what changed in the tracks of one frame; `number` counts the frames of its stream."""
    return (
        number, tracks.seq, tracks.t_ns, tracks.frame_index, tracks.new_tracks, tracks.lost_tracks,
        tracks.found_tracks, tracks.ended_tracks, tracks.restored_tracks, tracks.parents, tracks.flags,
    )  # fmt: skip


def frame_message(
    tracks: Tracks, image: AnyImage | None, picture: bytes | None, changes: Iterable[Change], outlines: Any = None
) -> bytes:
    """Encode a settled frame with its picture.

    Args:
        tracks: the settlement.
        image: of the same frame; its size is that of the coordinates.
        picture: of the image, a JPEG or PNG file.
        changes: of the frames that were not shown before this one.
        outlines: of each instance a list of closed lines, each (points, 2) <f4.
    """
    message = tracks_head(tracks)
    message["type"] = "frame"
    message["parents"] = list(tracks.parents)
    n = 0
    if tracks.status is Status.TRACKED and tracks.track_ids is not None:
        n = len(tracks.track_ids)
        message["track_ids"] = _packed_array(tracks.track_ids, "<i4")
        message["track_scores"] = _packed_array(tracks.track_scores, "<f4")
        message["boxes"] = _packed_array(tracks.boxes, "<f4")
        if tracks.keypoints is not None:
            message["keypoints"] = _packed_array(tracks.keypoints, "<f4")
            message["n_nodes"] = tracks.keypoints.shape[1]
        if tracks.scores is not None:
            message["scores"] = _packed_array(tracks.scores, "<f4")
        if tracks.names:
            message["names"] = list(tracks.names)
    message["n"] = n
    shape = image_shape(image)
    message["size"] = None if shape is None else [shape[1], shape[0]]
    message["image"] = picture
    message["changes"] = [dict(zip(_CHANGE_KEYS, change[1:], strict=True)) for change in changes]
    if outlines is not None:
        message["outlines"] = outlines
    return _packed(message)


def event_message(event: Event) -> bytes:
    """Encode an event of a stream."""
    return _packed(
        {
            "type": "event", "stream": event.stream, "epoch": event.epoch, "last_seq": event.last_seq,
            "event": str(event.event), "detail": dict(event.detail),
        }
    )  # fmt: skip


def hello_message(version: str, control: bool) -> bytes:
    """Encode the answer to a page that is admitted."""
    return _packed({"type": "hello", "version": version, "control": control})


def refused_message(reason: str) -> bytes:
    """Encode the answer to a page that is not admitted."""
    return _packed({"type": "refused", "reason": reason})


def streams_message(
    rows: list[dict[str, Any]], stats: Mapping[str, Mapping[str, Any]], fleet: Mapping[str, Any] | None = None
) -> bytes:
    """Encode the open streams and their figures.

    Args:
        rows: the streams of this daemon.
        stats: their figures, by stream.
        fleet: the streams of the other members; None where this daemon is in no fleet.
    """
    message: dict[str, Any] = {"type": "streams", "streams": rows, "stats": stats}
    if fleet is not None:
        message["fleet"] = fleet
    return _packed(message)


def reply_message(reply: Reply) -> bytes:
    """Encode the answer to a request."""
    if reply.error is not None:
        error = {"code": str(reply.error[0]), "message": reply.error[1]}
        return _packed({"type": "reply", "id": reply.id, "error": error})
    return _packed({"type": "reply", "id": reply.id, "result": reply.result})


def reply_head(request_id: int) -> bytes:
    """Encode the beginning of an answer whose result follows in pieces."""
    return b"\x83" + b"".join(map(_packed, ("type", "reply", "id", request_id, "result")))


def _packed_array(array: NDArray[Any] | None, dtype: str) -> bytes:
    return b"" if array is None else np.ascontiguousarray(array, dtype).tobytes()


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
