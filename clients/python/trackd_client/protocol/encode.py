"""Encoding: messages to the parts that are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from trackd_client.detections import Detections
from trackd_client.protocol.arrays import Part, PartList
from trackd_client.protocol.errors import bad_message
from trackd_client.protocol.messages import (
    PROTOCOL_VERSION,
    Ack,
    Close,
    Closed,
    EncodedImage,
    Error,
    Event,
    Frame,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Reply,
    Request,
    SharedImage,
    Status,
    Tracks,
)

Header = dict[str, Any]
DETECTION_ARRAYS = ("boxes", "keypoints", "scores", "keypoint_scores", "classes", "gt_ids")
TRACK_ARRAYS = ("track_ids", "track_scores", "boxes", "keypoints", "scores")
TRACK_LISTS = ("new_tracks", "lost_tracks", "found_tracks", "ended_tracks", "flags")


def encode(message: Message) -> list[Part]:
    """Encode a message as its parts: the header first, then one for each array.

    Where possible an array's part is a view of its memory: send the part before you write to the array again.

    Raises:
        ProtocolError: `bad_message`, if a value cannot be encoded.
    """
    parts = PartList()
    header = _ENCODERS[type(message)](message, parts)
    return [_pack({"v": PROTOCOL_VERSION, "kind": message.kind, **header}), *parts.parts]


def _pack(header: Header) -> bytes:
    try:
        packed: bytes = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        raise bad_message(f"the header holds a value that MessagePack cannot encode: {error}") from None
    return packed


def _open(m: Open, parts: PartList) -> Header:
    header: Header = {"stream": m.stream, "config": dict(m.config), "reply": m.reply, "takeover": m.takeover}
    if m.frame_shape is not None:
        header["frame_shape"] = list(m.frame_shape)
    if m.skeleton is not None:
        header["skeleton"] = {"nodes": list(m.skeleton.nodes), "edges": [list(e) for e in m.skeleton.edges]}
    if m.model is not None:
        header["model"] = m.model
    if m.source is not None:
        header["source"] = m.source
    if m.session is not None:
        header["session"] = m.session
    if m.member is not None:
        header["member"] = m.member
    return header


def _frame(m: Frame, parts: PartList) -> Header:
    header = {
        "stream": m.stream,
        "seq": m.seq,
        "frame_index": m.frame_index,
        "t_ns": m.t_ns,
        "image": _image(m.image, parts),
        "detections": _detections(m.detections, parts),
    }
    if m.traceparent is not None:
        header["traceparent"] = m.traceparent
    return header


def _image(image: Any, parts: PartList) -> Header | None:
    if image is None:
        return None
    if isinstance(image, EncodedImage):
        return {"encoding": image.encoding, "part": parts.add_bytes(image.data)}
    if isinstance(image, SharedImage):
        return {
            "encoding": "shm",
            "name": image.name,
            "offset": image.offset,
            "shape": list(image.shape),
            "dtype": image.dtype,
            "generation": image.generation,
        }
    return {"encoding": "raw", "data": parts.add(image)}


def _detections(detections: Detections, parts: PartList) -> Header:
    header: Header = {}
    for name in DETECTION_ARRAYS:
        array = getattr(detections, name)
        if array is not None:
            header[name] = parts.add(array)
    if detections.masks is not None:
        header["masks"] = {"labels": parts.add(detections.masks)}
    return header


def _opened(m: Opened, parts: PartList) -> Header:
    header: Header = {
        "stream": m.stream,
        "epoch": m.epoch,
        "next_seq": m.next_seq,
        "credit": m.credit,
        "config": dict(m.config),
    }
    if m.last_frame_index is not None:
        header["last_frame_index"] = m.last_frame_index
    if m.message_bytes is not None:
        header["message_bytes"] = m.message_bytes
    if m.first_track_id is not None:
        header["first_track_id"] = m.first_track_id
    return header


def _error(m: Error, parts: PartList) -> Header:
    header: Header = {"code": str(m.code), "message": m.message}
    for name in ("stream", "seq", "expected", "member", "term"):
        value = getattr(m, name)
        if value is not None:
            header[name] = value
    if m.fatal:
        header["fatal"] = True
    if m.endpoints is not None:
        header["endpoints"] = dict(m.endpoints)
    return header


def _tracks(m: Tracks, parts: PartList) -> Header:
    header = tracks_head(m)
    if m.status is Status.TRACKED:
        for name in TRACK_ARRAYS:
            array = getattr(m, name)
            if array is not None:
                header[name] = parts.add(array)
    return header


def tracks_head(m: Tracks) -> Header:
    """The header of a settlement without its arrays."""
    timing = m.timing
    header: Header = {
        "stream": m.stream,
        "epoch": m.epoch,
        "seq": m.seq,
        "frame_index": m.frame_index,
        "t_ns": m.t_ns,
        "status": str(m.status),
        "timing": {
            "queue": timing.queue,
            "encode": timing.encode,
            "associate": timing.associate,
            "journal": timing.journal,
            "total": timing.total,
        },
    }
    if m.reason is not None:
        header["reason"] = m.reason
    if m.replayed:
        header["replayed"] = True
    for name in TRACK_LISTS:
        header[name] = list(getattr(m, name))
    if m.parents:
        header["parents"] = list(m.parents)
    if m.names:
        header["names"] = list(m.names)
    if m.corrections:
        header["corrections"] = [dict(each) for each in m.corrections]
    if m.tentative_tracks:
        header["tentative_tracks"] = list(m.tentative_tracks)
    if m.identity_events:
        header["identity_events"] = [dict(each) for each in m.identity_events]
    if m.merged_tracks:
        header["merged_tracks"], header["merged_rows"] = list(m.merged_tracks), list(m.merged_rows)
    if m.restored_tracks:
        header["restored_tracks"] = list(m.restored_tracks)
    return header


def tracks_to_map(m: Tracks) -> Header:
    """A settlement with its arrays as lists, as `history` returns it."""
    header = tracks_head(m)
    for name in TRACK_ARRAYS:
        array: np.ndarray[Any, Any] | None = getattr(m, name)
        if array is not None:
            header[name] = array.tolist()
    return header


def _event(m: Event, parts: PartList) -> Header:
    header: Header = {"stream": m.stream, "event": str(m.event), "epoch": m.epoch, "last_seq": m.last_seq}
    if m.detail:
        header["detail"] = dict(m.detail)
    return header


def _reply(m: Reply, parts: PartList) -> Header:
    if m.error is not None:
        return {"id": m.id, "error": {"code": str(m.error[0]), "message": m.error[1]}}
    return {"id": m.id, "result": m.result}


_ENCODERS: dict[type[Message], Callable[[Any, PartList], Header]] = {
    Open: _open,
    Frame: _frame,
    Close: lambda m, parts: {"stream": m.stream},
    Ping: lambda m, parts: {"t_ns": m.t_ns},
    Opened: _opened,
    Ack: lambda m, parts: {"stream": m.stream, "seq": m.seq, "credit": m.credit},
    Error: _error,
    Closed: lambda m, parts: {"stream": m.stream, "epoch": m.epoch, "last_seq": m.last_seq},
    Pong: lambda m, parts: {"t_ns": m.t_ns, "daemon_t_ns": m.daemon_t_ns},
    Tracks: _tracks,
    Event: _event,
    Request: lambda m, parts: {"id": m.id, "method": m.method, "params": dict(m.params)},
    Reply: _reply,
}
