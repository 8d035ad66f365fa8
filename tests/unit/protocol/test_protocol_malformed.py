"""Each malformed message has its code and a text with the value. Limits are checked before anything is allocated."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from test_protocol_golden import JPEG, MESSAGES, PNG

from trackd_client.protocol import ErrorCode, Limits, ProtocolError, decode, encode

HUGE = 2**31 - 1


def refused(parts: list[bytes], limits: Limits | None = None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode(parts, limits) if limits is not None else decode(parts)
    return caught.value


def changed(
    name: str, *path: str, to: Any = ..., limits: Limits | None = None, more: Sequence[bytes] = ()
) -> ProtocolError:
    """The error of a golden message with one field set to `to`, or without that field if `to` is not given."""
    parts = [bytes(part) for part in encode(MESSAGES[name])]
    header = msgpack.unpackb(parts[0])
    place = header
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return refused([msgpack.packb(header), *parts[1:], *more], limits)


# --- the header ---


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "needs a header part"),
        ([b""], "not MessagePack"),
        ([b"\xc1"], "not MessagePack"),
        ([b"{}"], "not MessagePack"),
        ([b"\x81\xa1v"], "not MessagePack"),
        ([msgpack.packb([1, 2])], "map with string keys; got list"),
        ([msgpack.packb(None)], "map with string keys; got NoneType"),
        ([msgpack.packb({b"v": 1})], "map with string keys"),
        ([b"\x81\x01\x01"], "not MessagePack"),
        ([msgpack.packb({"v": 1, "kind": "ping", "t_ns": msgpack.ExtType(5, b"x")})], "not MessagePack"),
        ([b"\x82\xa1v\x01\xa4kind\xa2\xff\xfe"], "not MessagePack"),
        ([msgpack.packb({"kind": "ping"})], "v must be the protocol version"),
        ([msgpack.packb({"v": 1})], "kind must be one of open"),
        ([msgpack.packb({"v": 1, "kind": "Ping"})], "got 'Ping'"),
        ([msgpack.packb({"v": 1, "kind": ["ping"]})], "got ['ping']"),
    ],
)
def test_an_invalid_header_is_a_bad_message(parts, text):
    error = refused(parts)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert text in error.message


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_an_unsupported_version_is_named(version):
    error = refused([msgpack.packb({"v": version, "kind": "ping", "t_ns": 0})])
    assert error.code is ErrorCode.UNSUPPORTED_VERSION
    assert f"got {version!r}" in error.message


def test_unknown_keys_are_ignored():
    header = {"v": 1, "kind": "ping", "t_ns": 5, "mood": "good"}
    assert decode([msgpack.packb(header)]) == decode([msgpack.packb({"v": 1, "kind": "ping", "t_ns": 5})])


# --- fields ---


@pytest.mark.parametrize(
    ("name", "path", "value", "text"),
    [
        ("open", "stream", "a/b", "got 'a/b'"),
        ("open", "stream", "", "got ''"),
        ("open", "stream", "x" * 129, "1 to 128"),
        ("open", "stream", "cam\n", "got 'cam\\n'"),
        ("open", "stream", 5, "stream must be a string; got 5"),
        ("open", "config", [1], "config must be a map; got [1]"),
        ("open", "frame_shape", [1], "got [1]"),
        ("open", "frame_shape", [0, 5], "each at least 1; got [0, 5]"),
        ("open", "frame_shape", "big", "list of integers; got 'big'"),
        ("open", "model", 3, "model must be a string; got 3"),
        ("open", "reply", "both", "got 'both'"),
        ("open", "takeover", 1, "takeover must be a boolean; got 1"),
        ("open", "member", 3, "member must be a string; got 3"),
        ("open", "member", "a b", "member must be 1 to 128 of letters"),
        ("open", "session", 3, "session must be a string; got 3"),
        ("open", "session", "", "session must be 1 to 64 printable letters; got ''"),
        ("open", "session", "x" * 65, "session must be 1 to 64 printable letters"),
        ("open", "session", "a\nb", "session must be 1 to 64 printable letters"),
        ("open", "skeleton.nodes", [1], "nodes must be a list of strings; got [1]"),
        ("open", "skeleton.edges", [[0, 2]], "from 0 to 1"),
        ("open", "skeleton.edges", [[0]], "pairs"),
        ("ping", "t_ns", 2**63, "t_ns must be from"),
        ("ping", "t_ns", True, "got True"),
        ("ping", "t_ns", 1.0, "got 1.0"),
        ("opened", "epoch", -1, "got -1"),
        ("ack", "seq", -2, "got -2"),
        ("ack", "credit", -1, "got -1"),
        ("error", "code", "oops", "got 'oops'"),
        ("error_moved", "member", "", "member must be 1 to 128 of letters"),
        ("error_moved", "member", "x" * 129, "member must be 1 to 128 of letters"),
        ("error_moved", "term", -1, "term must be from 0"),
        ("error_moved", "term", "7", "term must be an integer; got '7'"),
        ("error_moved", "endpoints", "tcp://a", "endpoints must be a map; got 'tcp://a'"),
        ("error_moved", "endpoints.ingest", 5570, "ingest must be a string; got 5570"),
        ("error_moved", "endpoints.ingest", "", "endpoints.ingest must be 1 to 256 printable letters; got ''"),
        ("error_moved", "endpoints.http", "x" * 257, "endpoints.http must be 1 to 256 printable letters"),
        ("error_moved", "endpoints.tracks", "tcp://a\n", "endpoints.tracks must be 1 to 256 printable letters"),
        ("error", "message", None, "message must be a string; got None"),
        ("event", "event", "sneezed", "got 'sneezed'"),
        ("tracks", "status", "lost", "got 'lost'"),
        ("tracks", "new_tracks", [1.5], "got [1.5]"),
        ("tracks", "flags", [1], "got [1]"),
        ("tracks", "track_ids.dtype", "<i8", "got '<i8'"),
        ("tracks", "track_ids", None, "track_ids must be an array map; got None"),
        ("request", "params", 1, "params must be a map; got 1"),
        ("reply_error", "error.code", "oops", "got 'oops'"),
        ("frame", "seq", -1, "seq must be from 0"),
        ("frame", "seq", "7", "got '7'"),
        ("frame", "frame_index", None, "got None"),
    ],
)
def test_an_ill_typed_field_is_named_with_its_value(name, path, value, text):
    error = changed(name, *path.split("."), to=value)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert text in error.message


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("open", "stream"), ("ping", "t_ns"), ("close", "stream"), ("opened", "next_seq"), ("ack", "seq"),
        ("error", "code"), ("closed", "epoch"), ("pong", "daemon_t_ns"), ("tracks", "status"), ("event", "event"),
        ("request", "method"), ("frame", "seq"), ("frame", "frame_index"), ("frame", "t_ns"),
    ],
)  # fmt: skip
def test_a_missing_field_is_named(name, key):
    error = changed(name, key)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert f"{key} must be" in error.message
    assert "got nothing" in error.message


def test_unknown_endpoints_of_a_member_are_ignored():
    error = MESSAGES["error_moved"]
    more = replace(error, endpoints={**error.endpoints, "grpc": "tcp://10.0.0.2:1"})
    assert decode(encode(more)) == error


def test_an_error_names_the_stream_and_seq_of_its_message():
    error = changed("tracks", "status", to="lost")
    assert (error.stream, error.seq) == ("cam-1", 7)


# --- frames: an error after a valid head keeps that head, so that the frame can be settled ---


@pytest.mark.parametrize(
    ("name", "path", "value", "text"),
    [
        ("frame", "detections", None, "detections must be a map"),
        ("frame", "detections", {}, "boxes, keypoints or both; got neither"),
        ("frame", "detections.boxes", 5, "detections.boxes must be an array map; got int"),
        ("frame", "detections.boxes.shape", [2, 3], "needs 24 bytes; its part has 32"),
        ("frame", "detections.boxes.shape", [4, 2], "detections.keypoints must have 4 rows"),
        ("frame", "detections.boxes.shape", [8], "must have 2 axes; got [8]"),
        ("frame", "detections.boxes.shape", [2, -4], "got [2, -4]"),
        ("frame", "detections.boxes.shape", [2, True], "got [2, True]"),
        ("frame", "detections.boxes.shape", [2, 2**31], "got [2, 2147483648]"),
        ("frame", "detections.boxes.shape", [1] * 4, "1 to 3 sizes"),
        ("frame", "detections.boxes.dtype", "O", "got 'O'"),
        ("frame", "detections.boxes.dtype", ">f4", "got '>f4'"),
        ("frame", "detections.boxes.dtype", "<i4", "got '<i4'"),
        ("frame", "detections.boxes.part", 0, "got 0"),
        ("frame", "detections.boxes.part", 99, "got 99"),
        ("frame", "detections.boxes.part", True, "got True"),
        ("frame", "detections.boxes.part", -1, "got -1"),
        ("frame", "detections.keypoints.shape", [2, 2, 3], "x y; got [2, 2, 3]"),
        ("frame", "detections.keypoint_scores.shape", [2, 3, 1], "must have 2 axes"),
        ("frame", "detections.classes.dtype", "<i8", "got '<i8'"),
        ("frame", "detections.masks", 1, "masks must be a map; got 1"),
        ("frame", "detections.masks.labels.shape", [6], "[h, w]; got [6]"),
        ("frame", "detections.masks.labels.dtype", "|u1", "got '|u1'"),
        ("frame", "image", "raw", "image must be a map; got 'raw'"),
        ("frame", "image.encoding", "gif", "got 'gif'"),
        ("frame", "image.data.dtype", "<f4", "got '<f4'"),
        ("frame", "image.data.shape", [18], "got [18]"),
        ("frame", "image.data.shape", [2, 3, 5], "c from 1 to 4; got [2, 3, 5]"),
        ("frame", "image.data.shape", [0, 3, 3], "got [0, 3, 3]"),
        ("frame", "image.data.shape", [3, 3, 3], "needs 27 bytes; its part has 18"),
        ("frame_jpeg", "image.encoding", "png", "no png header"),
        ("frame_png", "image.encoding", "jpeg", "no jpeg header"),
        ("frame_png", "image.part", 9, "got 9"),
        ("frame_shm", "image.name", 5, "name must be a string; got 5"),
        ("frame_shm", "image.offset", -1, "got -1"),
        ("frame_shm", "image.generation", None, "got None"),
        ("frame_shm", "image.dtype", "<f8", "got '<f8'"),
    ],
)
def test_a_frame_with_a_valid_head_and_a_wrong_field_is_invalid_and_keeps_its_head(name, path, value, text):
    error = changed(name, *path.split("."), to=value)
    assert error.code is ErrorCode.INVALID_FRAME
    assert text in error.message
    assert error.head == MESSAGES[name].head


@pytest.mark.parametrize(
    ("key", "value", "head"),
    [
        ("t_ns", 1795336283.5, {"t_ns": 0}),
        ("t_ns", "now", {"t_ns": 0}),
        ("t_ns", True, {"t_ns": 0}),
        ("t_ns", 2**63, {"t_ns": 0}),
        ("frame_index", 1.5, {"frame_index": -1}),
        ("frame_index", None, {"frame_index": -1}),
    ],
)
def test_a_frame_with_an_invalid_number_keeps_its_place_in_the_stream(key, value, head):
    error = changed("frame", key, to=value)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert key in error.message
    assert error.head == replace(MESSAGES["frame"].head, **head)


@pytest.mark.parametrize("limits", [Limits(message_bytes=400), Limits(parts=3)])
def test_a_frame_that_is_too_large_as_a_whole_keeps_its_place_in_the_stream(limits):
    error = refused([bytes(part) for part in encode(MESSAGES["frame"])], limits)
    assert error.code is ErrorCode.TOO_LARGE
    assert error.head == MESSAGES["frame"].head


def test_keypoint_scores_need_keypoints_beside_them():
    error = changed("frame", "detections", "keypoints")
    assert "keypoint_scores must be [n, k] beside keypoints" in error.message


# --- limits ---


@pytest.mark.parametrize(
    ("name", "path", "value", "text"),
    [
        ("frame", "image.data.shape", [HUGE, HUGE], f"got {HUGE} x {HUGE}"),
        ("frame", "image.data.shape", [HUGE, HUGE, 4], f"got {HUGE} x {HUGE}"),
        ("frame", "detections.masks.labels.shape", [HUGE, HUGE], f"got {HUGE} x {HUGE}"),
        ("frame", "detections.boxes.shape", [HUGE, 4], f"got {HUGE}"),
        ("frame", "detections.boxes.shape", [4097, 4], "at most 4096 instances; got 4097"),
        ("frame", "detections.keypoints.shape", [2, 257, 2], "at most 256 keypoints; got 257"),
        ("frame", "detections.keypoint_scores.shape", [2, HUGE], f"got {HUGE}"),
        ("frame", "detections.gt_ids.shape", [HUGE], f"got {HUGE}"),
        ("frame_shm", "image.shape", [HUGE, HUGE], f"got {HUGE} x {HUGE}"),
        ("frame_shm", "image.shape", [8000, 8000, 4], "(limits.image_bytes); got "),
    ],
)
def test_too_large_an_array_is_refused_before_it_is_allocated(name, path, value, text):
    tracemalloc.start()
    try:
        error = changed(name, *path.split("."), to=value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code is ErrorCode.TOO_LARGE
    assert text in error.message
    assert error.head == MESSAGES[name].head
    assert peak < 1_000_000


def with_image(encoding: str, data: bytes) -> list[bytes]:
    header = {
        "v": 1, "kind": "frame", "stream": "a", "seq": 0, "frame_index": 0, "t_ns": 0,
        "image": {"encoding": encoding, "part": 1},
        "detections": {"boxes": {"dtype": "<f4", "shape": [0, 4], "part": 2}},
    }  # fmt: skip
    return [msgpack.packb(header), data, b""]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("png", PNG.replace(struct.pack(">II", 3, 2), struct.pack(">II", HUGE, HUGE))),
        ("jpeg", JPEG.replace(struct.pack(">HH", 2, 3), struct.pack(">HH", 65535, 65535))),
    ],
)
def test_an_image_with_a_huge_size_in_its_header_is_refused(encoding, data):
    error = refused(with_image(encoding, data))
    assert error.code is ErrorCode.TOO_LARGE
    assert error.head is not None


@pytest.mark.parametrize(
    ("depth_and_colour", "nbytes"),
    [
        ((16, 6), 8),
        ((8, 6), 4),
        ((8, 3), 4),
        ((16, 2), 6),
        ((8, 2), 3),
        ((16, 4), 8),
        ((1, 0), 1),
        ((16, 0), 2),
        ((9, 99), 8),
    ],
)
def test_the_bytes_of_a_png_when_decoded_follow_from_its_header(depth_and_colour, nbytes):
    file = PNG[:16] + struct.pack(">IIBB", 8192, 8191, *depth_and_colour) + bytes(20)
    error = refused(with_image("png", file), Limits(image_bytes=8191 * 8192 * nbytes - 1))
    assert error.code is ErrorCode.TOO_LARGE
    assert f"got {8191 * 8192 * nbytes}: 8191 x 8192 pixels of {nbytes} bytes" in error.message
    assert error.head is not None
    image = decode(with_image("png", file), Limits(image_bytes=8191 * 8192 * nbytes)).image
    assert image.decoded_bytes == 8191 * 8192 * nbytes


@pytest.mark.parametrize(("channels", "nbytes"), [(1, 1), (3, 3), (4, 3), (255, 3)])
def test_the_bytes_of_a_jpeg_when_decoded_follow_from_its_header(channels, nbytes):
    file = b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HHB", 4000, 5000, channels) + bytes(20)
    error = refused(with_image("jpeg", file), Limits(image_bytes=4000 * 5000 * nbytes - 1))
    assert f"got {4000 * 5000 * nbytes}: 4000 x 5000 pixels of {nbytes} bytes" in error.message


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("png", b""),
        ("png", PNG[:20]),
        ("png", PNG.replace(b"IHDR", b"IDAT")),
        ("png", PNG.replace(struct.pack(">II", 3, 2), struct.pack(">II", 0, 2))),
        ("jpeg", b""),
        ("jpeg", b"\xff\xd8"),
        ("jpeg", b"\xff\xd8" + b"\xff\xe0\x00\x00" * 10_000),  # many segments of length 0
        ("jpeg", b"\xff\xd8" + b"\xff" * 10_000),
        ("jpeg", b"\xff\xd8\xff\xe0\xff\xff" + b"\x00" * 100),
        ("jpeg", JPEG[:8]),
    ],
)
def test_an_image_without_a_valid_header_is_invalid(encoding, data):
    assert refused(with_image(encoding, data)).code is ErrorCode.INVALID_FRAME


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(header_bytes=100), "the header has at most 100 bytes; got"),
        (Limits(message_bytes=400), "a message has at most 400 bytes; got"),
        (Limits(parts=3), "at most 3 parts after its header; got 8"),
        (Limits(image_pixels=5), "at most 5 pixels; got 2 x 3"),
        (Limits(image_bytes=17), "at most 17 bytes when decoded (limits.image_bytes); got 18: 2 x 3 pixels of 3 bytes"),
        (Limits(instances=1), "at most 1 instances; got 2"),
        (Limits(keypoints=2), "at most 2 keypoints; got 3"),
    ],
)
def test_each_limit_holds_and_is_named(limits, text):
    error = refused([bytes(part) for part in encode(MESSAGES["frame"])], limits)
    assert error.code is ErrorCode.TOO_LARGE
    assert text in error.message


def test_a_skeleton_with_more_nodes_than_the_keypoint_limit_is_refused():
    assert changed("open", "skeleton", "nodes", to=["n"] * 257).code is ErrorCode.TOO_LARGE


def test_huge_lengths_and_nesting_are_refused_without_a_large_allocation():
    claims: list[bytes] = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 60_000]
    for claim in claims:
        tracemalloc.start()
        assert refused([claim]).code is ErrorCode.BAD_MESSAGE
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


@pytest.mark.parametrize("value", [[None] * 1025, {f"{i}": 1 for i in range(1025)}, [[[]] * 1000] * 3])
def test_a_header_of_many_items_is_refused_and_its_error_is_short(value):
    error = changed("open", "config", to=value)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert "at most" in error.message
    assert len(error.message) < 200


def test_a_skeleton_may_have_as_many_edges_as_a_list_has_items():
    nodes = [f"n{i}" for i in range(256)]
    edges = [[i % 255, i % 255 + 1] for i in range(1024)]
    header = {"v": 1, "kind": "open", "stream": "a", "skeleton": {"nodes": nodes, "edges": edges}}
    assert len(decode([msgpack.packb(header)]).skeleton.edges) == 1024


@pytest.mark.parametrize("shape", [[0, HUGE, HUGE], [HUGE, 0, HUGE]])
def test_an_empty_array_of_huge_axes_is_refused(shape):
    error = changed("tracks", "keypoints", to={"dtype": "<f8", "shape": shape, "part": 6}, more=[b""])
    assert error.code is ErrorCode.BAD_MESSAGE


# --- values that cannot be sent ---


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint32, np.complex64, bool, object])
def test_an_array_of_another_dtype_is_not_encoded(dtype):
    from trackd_client.detections import Detections
    from trackd_client.protocol import Frame

    with pytest.raises(ProtocolError, match="dtype must be one of"):
        encode(Frame("a", 0, 0, 0, Detections(boxes=np.zeros((1, 4), dtype))))


@pytest.mark.parametrize("config", [{"a": object()}, {"a": 2**70}, {"a": {1, 2}}])
def test_a_value_that_messagepack_cannot_encode_is_refused(config):
    from trackd_client.protocol import Open

    with pytest.raises(ProtocolError, match="MessagePack"):
        encode(Open("a", config))


def test_big_endian_and_strided_arrays_are_converted():
    from trackd_client.detections import Detections
    from trackd_client.protocol import Frame

    boxes = np.arange(32, dtype=">f4").reshape(4, 8)[:, ::2]
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[:, ::-1]
    got = decode([bytes(part) for part in encode(Frame("a", 0, 0, 0, Detections(boxes=boxes), image))])
    np.testing.assert_array_equal(got.detections.boxes, boxes)
    np.testing.assert_array_equal(got.image, image)
