"""Laws of all messages: decoding inverts encoding, and invalid bytes raise only a `ProtocolError`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_protocol_golden import JPEG, MESSAGES, PNG

from trackd_client.detections import Detections, Skeleton
from trackd_client.protocol import (
    Ack,
    Close,
    Closed,
    EncodedImage,
    Error,
    ErrorCode,
    Event,
    EventName,
    Frame,
    Limits,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    ProtocolError,
    Reply,
    Request,
    SharedImage,
    Status,
    Timing,
    Tracks,
    decode,
    encode,
    tracks_from_history,
    tracks_to_map,
)
from trackd_client.protocol.decode import MAX_NESTING

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
COUNT = st.integers(0, 2**63 - 1)
STREAM = st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True)
SCALAR = st.none() | st.booleans() | INT64 | st.text(max_size=20) | st.floats(allow_nan=False)
TREE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
MAP = st.dictionaries(st.text(max_size=8), TREE, max_size=4)
OPTIONAL_TEXT = st.none() | st.text(max_size=20)


def floats(*shape: int) -> st.SearchStrategy[Any]:
    return st.sampled_from(["<f4", "<f8"]).flatmap(lambda dtype: hnp.arrays(dtype, shape))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    n, k = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    boxes = draw(maybe(floats(n, 4)))
    keypoints = draw(maybe(floats(n, k, 2)) if boxes is not None else floats(n, k, 2))
    return Detections(
        boxes,
        keypoints,
        draw(maybe(floats(n))),
        draw(maybe(floats(n, k))) if keypoints is not None else None,
        draw(maybe(hnp.arrays("<i4", n))),
        draw(maybe(hnp.arrays(st.sampled_from([np.dtype("<u2"), np.dtype("<i4")]), (3, 2)))),
        draw(maybe(hnp.arrays("<i8", n))),
    )


SIDE = st.integers(1, 5)
SHAPE = st.tuples(SIDE, SIDE) | st.tuples(SIDE, SIDE, st.integers(1, 4))
IMAGE = st.one_of(
    st.none(),
    hnp.arrays(st.sampled_from([np.dtype("|u1"), np.dtype("<u2")]), SHAPE),
    st.binary(max_size=8).map(lambda tail: EncodedImage("png", PNG + tail)),
    st.binary(max_size=8).map(lambda tail: EncodedImage("jpeg", JPEG + tail)),
    st.builds(SharedImage, st.text(max_size=20), COUNT, SHAPE, st.sampled_from(["|u1", "<u2"]), COUNT),
)


@st.composite
def skeletons(draw: st.DrawFn) -> Skeleton:
    nodes = tuple(draw(st.lists(st.text(max_size=6), min_size=1, max_size=4)))
    node = st.integers(0, len(nodes) - 1)
    return Skeleton(nodes, tuple(draw(st.lists(st.tuples(node, node), max_size=4))))


@st.composite
def settlements(draw: st.DrawFn) -> Tracks:
    n, k = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    status = draw(st.sampled_from(Status))
    tracked = status is Status.TRACKED
    ids = st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple)
    return Tracks(
        draw(STREAM), draw(COUNT), draw(COUNT), draw(INT64), draw(INT64), status, draw(OPTIONAL_TEXT),
        draw(hnp.arrays("<i4", n)) if tracked else None,
        draw(hnp.arrays("<f4", n)) if tracked else None,
        draw(floats(n, 4)) if tracked else None,
        draw(maybe(floats(n, k, 2))) if tracked else None,
        draw(maybe(floats(n))) if tracked else None,
        draw(ids), draw(ids), draw(ids), draw(ids),
        draw(st.lists(st.text(max_size=8), max_size=3).map(tuple)),
        Timing(*draw(st.tuples(*[COUNT] * 5))),
        draw(st.booleans()),
        names=draw(st.lists(st.none() | st.text(max_size=8), min_size=n, max_size=n).map(tuple)) if tracked else (),
        corrections=draw(st.lists(MAP, max_size=2).map(tuple)),
    )  # fmt: skip


FRAME_SHAPE = st.none() | SHAPE
ENDPOINT = st.from_regex(r"[ -~]{1,256}", fullmatch=True)
ENDPOINTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("ingest", "tracks", "control", "http"), ENDPOINT))
MAYBE_INT = st.none() | INT64
CODE = st.sampled_from(ErrorCode)
MESSAGE = st.one_of(
    st.builds(
        Open, STREAM, MAP, FRAME_SHAPE, st.none() | skeletons(), OPTIONAL_TEXT, st.sampled_from(["ack", "tracks"]),
        st.booleans(), OPTIONAL_TEXT, member=st.none() | STREAM,
    ),
    st.builds(Frame, STREAM, COUNT, INT64, INT64, detections(), IMAGE),
    st.builds(Close, STREAM),
    st.builds(Ping, INT64),
    st.builds(Opened, STREAM, COUNT, COUNT, COUNT, MAP),
    st.builds(Ack, STREAM, st.integers(-1, 2**63 - 1), COUNT),
    st.builds(
        Error, CODE, st.text(max_size=20), st.none() | STREAM, MAYBE_INT, MAYBE_INT, st.booleans(),
        member=st.none() | STREAM, endpoints=st.none() | ENDPOINTS, term=st.none() | COUNT,
    ),
    st.builds(Closed, STREAM, COUNT, st.integers(-1, 2**63 - 1)),
    st.builds(Pong, INT64, INT64),
    settlements(),
    st.builds(Event, STREAM, st.sampled_from(EventName), COUNT, st.integers(-1, 2**63 - 1), MAP),
    st.builds(Request, SCALAR, st.text(max_size=20), MAP),
    st.builds(Reply, SCALAR, TREE),
    st.builds(Reply, SCALAR, st.none(), st.tuples(CODE, st.text(max_size=20))),
)  # fmt: skip
RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])


def wire(message: Message) -> list[bytes]:
    return [bytes(part) for part in encode(message)]


@RELAXED
@given(MESSAGE)
def test_an_encoded_message_decodes_to_the_same_message(message):
    assert decode(wire(message)) == message


@RELAXED
@pytest.mark.filterwarnings("ignore:overflow encountered")
@given(settlements())
def test_a_settlement_is_the_same_in_history_except_for_the_width_of_its_floats(tracks):
    again = tracks_from_history(msgpack.unpackb(msgpack.packb({"v": 1, **tracks_to_map(tracks)})))
    for name in ("stream", "epoch", "seq", "status", "reason", "new_tracks", "ended_tracks", "flags", "timing"):
        assert getattr(again, name) == getattr(tracks, name)
    if tracks.track_ids is not None:
        np.testing.assert_array_equal(again.track_ids, tracks.track_ids)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(again.boxes, tracks.boxes.astype("<f4"))


@given(st.lists(st.binary(max_size=64), max_size=6))
def test_random_parts_raise_only_a_protocol_error(parts):
    with pytest.raises(ProtocolError):
        decode(parts)


@RELAXED
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_a_mutated_message_decodes_or_is_refused(name, data):
    parts = wire(MESSAGES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        which = data.draw(st.integers(0, len(parts) - 1))
        part = bytearray(parts[which])
        at = data.draw(st.integers(0, max(0, len(part) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "drop part", "swap parts"])):
            case "flip" if part:
                part[at] = data.draw(st.integers(0, 255))
            case "cut":
                del part[at:]
            case "insert":
                part[at:at] = data.draw(st.binary(max_size=8))
            case "drop part" if len(parts) > 1:
                del parts[which]
                continue
            case "swap parts":
                parts.append(parts.pop(which))
                continue
        parts[which] = bytes(part)
    with suppress(ProtocolError):
        assert isinstance(decode(parts), Message)


ANYTHING = st.recursive(
    SCALAR | st.binary(max_size=8) | st.floats() | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@RELAXED
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_a_header_with_an_arbitrary_field_value_decodes_or_is_refused(name, data):
    parts = wire(MESSAGES[name])
    header = msgpack.unpackb(parts[0])
    place = header
    # Choose one of the header's maps, and replace one of its values.
    while inner := [key for key, value in place.items() if isinstance(value, dict)]:
        if not data.draw(st.booleans()):
            break
        place = place[data.draw(st.sampled_from(inner))]
    if not place:
        return
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(ANYTHING)
    with suppress(ProtocolError):
        assert isinstance(decode([msgpack.packb(header), *parts[1:]]), Message)


@RELAXED
@given(st.dictionaries(st.text(max_size=8), ANYTHING, max_size=6), st.sampled_from(sorted(MESSAGES)))
def test_an_arbitrary_header_decodes_or_is_refused(fields, name):
    header = {**fields, "v": 1, "kind": MESSAGES[name].kind}
    with suppress(ProtocolError):
        assert isinstance(decode([msgpack.packb(header), b""]), Message)


@pytest.mark.parametrize("key", ["v", "kind", "stream", "seq", "image", "detections", "config", "skeleton", "id"])
@pytest.mark.parametrize("depth", [100, 400, 1000])
@pytest.mark.parametrize("kind", ["open", "frame", "request"])
def test_deep_nesting_under_any_key_is_refused(key, depth, kind):
    packed = msgpack.packb(key) + b"\x91" * depth + b"\x00"
    header = {"v": 1, "kind": kind, "stream": "a", "seq": 0, "frame_index": 0, "t_ns": 0, "method": "status"}
    header.pop(key, None)
    whole = msgpack.packb(header)
    data = bytes([whole[0] + 1]) + whole[1:] + packed
    with pytest.raises(ProtocolError) as caught:
        decode([data])
    assert caught.value.code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize("beside", [[], [[]] * 100], ids=["alone", "beside many lists"])
def test_nesting_is_accepted_up_to_the_limit_and_refused_above_it(beside):
    def message(depth):
        nested = 0
        for _ in range(depth):
            nested = [nested]
        return [msgpack.packb({"v": 1, "kind": "reply", "id": 1, "result": nested, "beside": beside})]

    assert decode(message(MAX_NESTING)).kind == "reply"
    with pytest.raises(ProtocolError, match="nested"):
        decode(message(MAX_NESTING + 1))


@RELAXED
@given(st.dictionaries(st.text(max_size=8), ANYTHING, max_size=6), st.data())
def test_an_arbitrary_history_row_is_read_or_refused(fields, data):
    row = {**tracks_to_map(MESSAGES["tracks"]), **fields}
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(ANYTHING)
    with suppress(ProtocolError):
        tracks_from_history(row)


@given(st.sampled_from(sorted(MESSAGES)))
def test_the_smallest_limits_refuse_every_message(name):
    with pytest.raises(ProtocolError) as caught:
        decode(wire(MESSAGES[name]), Limits(header_bytes=1, message_bytes=1, parts=0))
    assert caught.value.code is ErrorCode.TOO_LARGE
