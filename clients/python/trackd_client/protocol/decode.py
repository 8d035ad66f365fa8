"""Decoding: the parts of a message to a typed value, or to one `ProtocolError`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgpack

from trackd_client.detections import Skeleton
from trackd_client.excerpt import excerpt
from trackd_client.protocol import fields as read
from trackd_client.protocol.arrays import Part, read_array
from trackd_client.protocol.errors import ErrorCode, ProtocolError, bad_message
from trackd_client.protocol.frames import read_frame, read_frame_head
from trackd_client.protocol.limits import DEFAULT_LIMITS, Limits
from trackd_client.protocol.messages import (
    PROTOCOL_VERSION,
    STAGES,
    Ack,
    Close,
    Closed,
    Error,
    Event,
    EventName,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Reply,
    Request,
    Status,
    Timing,
    Tracks,
)

Header = dict[str, Any]


_FLOATS = ("<f4", "<f8")
_TEXT = frozenset({str})
_NAMES = frozenset({str, type(None)})
_CONTAINERS = frozenset({dict, list})
_CONTAINER_BYTES = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])  # the first bytes of maps and lists in MessagePack
MAX_NESTING = 32  # of a header's maps and lists; the repr of deeper ones would exhaust the interpreter's stack


def decode(parts: Sequence[Part], limits: Limits = DEFAULT_LIMITS, kinds: Collection[str] | None = None) -> Message:
    """Decode a message from its parts, without the topic or the empty delimiter.

    Arrays are read-only views of the parts.

    Args:
        parts: the header, and the parts after it.
        limits: a message above one of them is refused before anything is allocated.
        kinds: the kinds that are accepted; None: all.

    Raises:
        ProtocolError: the parts are not a valid message. No other exception is raised.
    """
    header = read_header(parts, limits)
    kind = header.get("kind")
    decoder = _DECODERS.get(kind) if isinstance(kind, str) and (kinds is None or kind in kinds) else None
    if decoder is None:
        raise bad_message(f"kind must be one of {', '.join(kinds or _DECODERS)}; got {excerpt(kind)}")
    try:
        if len(parts) > limits.parts + 1 or sum(map(len, parts)) > limits.message_bytes:
            # A frame that is too large has a place in its stream all the same.
            head = read_frame_head(header) if kind == "frame" else None
            raise ProtocolError(ErrorCode.TOO_LARGE, _too_large(parts, limits), head=head)
        return decoder(header, parts[1:], limits)
    except ProtocolError as error:
        # The error names the stream and the seq of the message, if its header holds them.
        if error.stream is None and isinstance(header.get("stream"), str):
            name = header["stream"]
            error.stream = name if read.STREAM_NAME.fullmatch(name) else None
        if error.seq is None and type(header.get("seq")) is int and 0 <= header["seq"] <= read.INT64_MAX:
            error.seq = header["seq"]
        raise


def read_header(parts: Sequence[Part], limits: Limits = DEFAULT_LIMITS, *, has_version: bool = True) -> Header:
    """The checked header of a message: a map with string keys and, with `has_version`, this protocol version."""
    if not parts:
        raise bad_message("a message needs a header part; got no parts")
    if len(parts[0]) > limits.header_bytes:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"the header has at most {limits.header_bytes} bytes; got {len(parts[0])}"
        )
    few = _has_few_containers(parts[0])
    header = _unpacked(parts[0], limits.header_items, few)
    if not isinstance(header, dict) or not _TEXT.issuperset(map(type, header)):
        raise bad_message(f"the header must be a map with string keys; got {type(header).__name__}")
    if not few and _is_nested_too_deep(header):
        raise bad_message(f"the header must be nested at most {MAX_NESTING} deep")
    if not has_version:
        return header
    if "v" not in header:
        raise bad_message("v must be the protocol version; got nothing")
    if header["v"] != PROTOCOL_VERSION or type(header["v"]) is not int:
        raise ProtocolError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"v must be {PROTOCOL_VERSION}, the supported protocol version; got {excerpt(header['v'])}",
        )
    return header


def _too_large(parts: Sequence[Part], limits: Limits) -> str:
    """Return what a message has too much of."""
    if len(parts) > limits.parts + 1:
        return f"a message has at most {limits.parts} parts after its header; got {len(parts) - 1}"
    return f"a message has at most {limits.message_bytes} bytes; got {sum(map(len, parts))}"


def _unpacked(packed: Part, most: int, few: bool) -> Any:
    """Return the value of a header. A map or list holds at most `most` items, and a header twice as many of them.

    Args:
        packed: MessagePack.
        most: `Limits.header_items`.
        few: it holds few maps and lists, so they are not counted.
    """
    count = 0

    def counted(container: Any) -> Any:
        nonlocal count
        count += 1
        if count > 2 * most:
            raise bad_message(f"a header has at most {2 * most} maps and lists")
        return container

    hook = None if few else counted
    try:
        return msgpack.unpackb(
            packed,
            strict_map_key=True,
            ext_hook=_no_extension,
            object_hook=hook,
            list_hook=hook,
            max_array_len=most,
            max_map_len=most,
        )
    except ProtocolError:
        raise
    except Exception as error:
        if "exceeds max_" in str(error):
            raise bad_message(f"a map or list in a header has at most {most} items; {error}") from None
        raise bad_message(f"the header is not MessagePack: {type(error).__name__}") from None


def _has_few_containers(packed: Part) -> bool:
    """Whether there are too few maps and lists for a deep nesting. The count costs less than the depth."""
    packed = bytes(packed)
    return len(packed) - len(packed.translate(None, _CONTAINER_BYTES)) <= MAX_NESTING


def _is_nested_too_deep(header: Header) -> bool:
    level: list[Any] = [header]
    for _ in range(MAX_NESTING + 1):
        level = [
            child
            for value in level
            for child in (value.values() if type(value) is dict else value)
            if type(child) in _CONTAINERS and child
        ]
        if not level:
            return False
    return True


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError("extension types are not allowed")


def _open(h: Header, parts: Sequence[Part], limits: Limits) -> Open:
    reply = read.text(h, "reply") if "reply" in h else "ack"
    if reply not in ("ack", "tracks"):
        raise bad_message(f'reply must be "ack" or "tracks"; got {reply[:60]!r}')
    shape = None
    if h.get("frame_shape") is not None:
        shape = read.integers(h, "frame_shape")
        if len(shape) not in (2, 3) or any(size < 1 for size in shape):
            raise bad_message(f"frame_shape must be [h, w] or [h, w, c], each at least 1; got {list(shape)[:6]}")
    return Open(
        stream=read.stream_name(h),
        config=read.mapping(h, "config", optional=True),
        frame_shape=shape,
        skeleton=_skeleton(h, limits),
        model=read.text(h, "model") if h.get("model") is not None else None,
        reply=reply,
        takeover=read.flag(h, "takeover"),
        source=read.text(h, "source") if h.get("source") is not None else None,
        session=read.session_token(h) if h.get("session") is not None else None,
        member=read.member_name(h) if h.get("member") is not None else None,
    )


def _skeleton(h: Header, limits: Limits) -> Skeleton | None:
    if h.get("skeleton") is None:
        return None
    skeleton = read.mapping(h, "skeleton")
    nodes = read.texts(skeleton, "nodes")
    if len(nodes) > limits.keypoints:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"skeleton.nodes has at most {limits.keypoints} names; got {len(nodes)}"
        )
    edges = skeleton.get("edges", [])
    if not isinstance(edges, list) or any(
        not isinstance(edge, list)
        or len(edge) != 2
        or any(type(node) is not int or not 0 <= node < len(nodes) for node in edge)
        for edge in edges
    ):
        raise bad_message(f"skeleton.edges must be pairs of node numbers from 0 to {len(nodes) - 1}")
    return Skeleton(nodes, tuple((edge[0], edge[1]) for edge in edges))


def _opened(h: Header, parts: Sequence[Part], limits: Limits) -> Opened:
    return Opened(
        stream=read.stream_name(h),
        epoch=read.integer(h, "epoch", 0),
        next_seq=read.integer(h, "next_seq", 0),
        credit=read.integer(h, "credit", 0),
        config=read.mapping(h, "config", optional=True),
        last_frame_index=read.integer(h, "last_frame_index") if h.get("last_frame_index") is not None else None,
        message_bytes=read.integer(h, "message_bytes", 0) if h.get("message_bytes") is not None else None,
        first_track_id=read.integer(h, "first_track_id", 0) if h.get("first_track_id") is not None else None,
    )


def _error(h: Header, parts: Sequence[Part], limits: Limits) -> Error:
    return Error(
        code=read.choice(h, "code", ErrorCode),
        message=read.text(h, "message"),
        stream=read.stream_name(h) if "stream" in h else None,
        seq=read.integer(h, "seq") if "seq" in h else None,
        expected=read.integer(h, "expected") if "expected" in h else None,
        fatal=read.flag(h, "fatal"),
        member=read.member_name(h) if h.get("member") is not None else None,
        endpoints=read.endpoints(h) if h.get("endpoints") is not None else None,
        term=read.integer(h, "term", 0) if h.get("term") is not None else None,
    )


def tracks_from_map(h: Header, array: Callable[[str, Sequence[str]], Any]) -> Tracks:
    """A settlement from its header; `array(name, dtypes)` returns each array."""
    stream = read.stream_name(h)
    epoch, seq = read.integer(h, "epoch", 0), read.integer(h, "seq", 0)
    frame_index, t_ns = read.integer(h, "frame_index"), read.integer(h, "t_ns")
    status = read.choice(h, "status", Status)
    reason = read.text(h, "reason") if h.get("reason") is not None else None
    track_ids = track_scores = boxes = keypoints = scores = None
    if status is Status.TRACKED:
        track_ids, track_scores = array("track_ids", ("<i4",)), array("track_scores", ("<f4",))
        boxes = array("boxes", _FLOATS)
        keypoints = array("keypoints", _FLOATS) if h.get("keypoints") is not None else None
        scores = array("scores", _FLOATS) if h.get("scores") is not None else None
    new_tracks, parents = read.integers(h, "new_tracks"), read.integers(h, "parents")
    if parents and len(parents) != len(new_tracks):
        raise bad_message(f"parents must be as long as new_tracks ({len(new_tracks)}), or absent; got {len(parents)}")
    lost, found = read.integers(h, "lost_tracks"), read.integers(h, "found_tracks")
    ended = read.integers(h, "ended_tracks")
    flags, replayed = read.texts(h, "flags"), read.flag(h, "replayed")
    names = _names(h, track_ids) if h.get("names") else ()
    corrections = _maps(h, "corrections") if h.get("corrections") else ()
    tentative = read.integers(h, "tentative_tracks") if h.get("tentative_tracks") else ()
    identity_events = _maps(h, "identity_events") if h.get("identity_events") else ()
    merged, merged_rows = _merged(h, track_ids) if h.get("merged_tracks") else ((), ())
    restored = read.integers(h, "restored_tracks") if h.get("restored_tracks") else ()
    stages = read.mapping(h, "timing", optional=True)
    timing = Timing(*[read.integer(stages, stage) if stage in stages else 0 for stage in STAGES])
    # Positional, in the fields' order: keyword arguments take twice as long, for every frame.
    return Tracks(
        stream, epoch, seq, frame_index, t_ns, status, reason, track_ids, track_scores, boxes, keypoints, scores,
        new_tracks, lost, found, ended, flags, timing, replayed, parents, names,
        corrections, tentative, identity_events, merged, merged_rows, restored,
    )  # fmt: skip


def _merged(h: Header, track_ids: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    merged, rows = read.integers(h, "merged_tracks"), read.integers(h, "merged_rows")
    if len(rows) != len(merged):
        raise bad_message(f"merged_rows must be as long as merged_tracks ({len(merged)}); got {len(rows)}")
    n = 0 if track_ids is None else len(track_ids)
    if not all(0 <= row < n for row in rows):
        raise bad_message(f"merged_rows must be rows of track_ids, 0 to {n - 1}; got {excerpt(rows)}")
    return merged, rows


def _names(h: Header, track_ids: Any) -> tuple[str | None, ...]:
    names = h["names"]
    if type(names) is not list or not _NAMES.issuperset(map(type, names)):
        raise bad_message(f"names must be a list of strings and nulls; got {excerpt(names)}")
    n = 0 if track_ids is None else len(track_ids)
    if len(names) != n:
        raise bad_message(f"names must be as long as track_ids ({n}), or absent; got {len(names)}")
    return tuple(names)


def _maps(h: Header, name: str) -> tuple[dict[str, Any], ...]:
    maps = h[name]
    if type(maps) is not list or not {dict}.issuperset(map(type, maps)):
        raise bad_message(f"{name} must be a list of maps; got {excerpt(maps)}")
    return tuple(maps)


def _tracks(h: Header, parts: Sequence[Part], limits: Limits) -> Tracks:
    return tracks_from_map(h, lambda name, dtypes: read_array(h.get(name), parts, name, dtypes))


def _event(h: Header, parts: Sequence[Part], limits: Limits) -> Event:
    return Event(
        stream=read.stream_name(h),
        event=read.choice(h, "event", EventName),
        epoch=read.integer(h, "epoch", 0),
        last_seq=read.integer(h, "last_seq", -1),
        detail=read.mapping(h, "detail", optional=True),
    )


def _request(h: Header, parts: Sequence[Part], limits: Limits) -> Request:
    return Request(id=h.get("id"), method=read.text(h, "method"), params=read.mapping(h, "params", optional=True))


def _reply(h: Header, parts: Sequence[Part], limits: Limits) -> Reply:
    if "error" not in h:
        return Reply(id=h.get("id"), result=h.get("result"))
    error = read.mapping(h, "error")
    return Reply(id=h.get("id"), error=(read.choice(error, "code", ErrorCode), read.text(error, "message")))


_DECODERS: dict[str, Callable[[Header, Sequence[Part], Limits], Message]] = {
    "open": _open,
    "frame": read_frame,
    "close": lambda h, parts, limits: Close(read.stream_name(h)),
    "ping": lambda h, parts, limits: Ping(read.integer(h, "t_ns")),
    "opened": _opened,
    "ack": lambda h, parts, limits: Ack(read.stream_name(h), read.integer(h, "seq", -1), read.integer(h, "credit", 0)),
    "error": _error,
    "closed": lambda h, parts, limits: Closed(
        read.stream_name(h), read.integer(h, "epoch", 0), read.integer(h, "last_seq", -1)
    ),
    "pong": lambda h, parts, limits: Pong(read.integer(h, "t_ns"), read.integer(h, "daemon_t_ns")),
    "tracks": _tracks,
    "event": _event,
    "request": _request,
    "reply": _reply,
}
