"""The messages of the viewer's socket: what is read of a page, and what it gets."""

from __future__ import annotations

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.viewer.messages import MESSAGE_BYTES, Ask, Hello, WatchStreams, Wish, change_of, decode, frame_message
from trackd_client.protocol import ErrorCode, ProtocolError, Status, Tracks

WISH = {"fps": 4, "width": 320, "image": True}


def tracked(**changes) -> Tracks:
    values = {
        "track_ids": np.array([4, -1], np.int32), "track_scores": np.array([1, np.nan], np.float32),
        "boxes": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float64), "keypoints": np.zeros((2, 3, 2), np.float64),
        "new_tracks": (4,), **changes,
    }  # fmt: skip
    return Tracks("cam", 7, 12, 40, 1000, Status.TRACKED, **values)


def test_each_message_of_a_page_becomes_one_value():
    assert decode(msgpack.packb({"type": "hello", "token": None})) == Hello(None)
    assert decode(msgpack.packb({"type": "hello", "token": "t"})) == Hello("t")
    assert decode(msgpack.packb({"type": "watch", "streams": {"cam": WISH}})) == WatchStreams(
        {"cam": Wish(4, 320, True)}
    )
    ask = decode(msgpack.packb({"type": "request", "id": 3, "method": "status"}))
    assert isinstance(ask, Ask)
    assert (ask.id, ask.method, ask.params) == (3, "status", {})


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({}, "type"), ({"type": "steal"}, "type"), ({"type": {}}, "type"), ([], "map"), (3, "map"),
        ({"type": "hello", "token": 4}, "token"), ({"type": "watch"}, "streams"),
        ({"type": "watch", "streams": {"a b": WISH}}, "stream must"),
        ({"type": "watch", "streams": {"cam": 3}}, "cam must be a map"),
        ({"type": "watch", "streams": {"cam": {**WISH, "fps": 16}}}, "fps"),
        ({"type": "watch", "streams": {"cam": {**WISH, "fps": 4.0}}}, "fps"),
        ({"type": "watch", "streams": {"cam": {**WISH, "width": 63}}}, "width"),
        ({"type": "watch", "streams": {"cam": {**WISH, "width": 10**9}}}, "width"),
        ({"type": "watch", "streams": {"cam": {**WISH, "image": 1}}}, "image"),
        ({"type": "watch", "streams": {f"cam{i}": WISH for i in range(17)}}, "at most 16"),
        ({"type": "request", "id": "1", "method": "status"}, "id"),
        ({"type": "request", "id": 1, "method": 2}, "method"),
        ({"type": "request", "id": 1, "method": "status", "params": []}, "params"),
    ],
)  # fmt: skip
def test_a_message_that_is_not_valid_is_one_error_that_names_what_is_wrong(message, what):
    with pytest.raises(ProtocolError, match=what):
        decode(msgpack.packb(message))


def test_a_message_of_more_than_64_kib_is_refused_by_its_length():
    with pytest.raises(ProtocolError) as caught:
        decode(msgpack.packb({"type": "hello", "token": "x" * MESSAGE_BYTES}))
    assert caught.value.code is ErrorCode.TOO_LARGE


@given(st.binary(max_size=200))
def test_no_bytes_raise_another_error(data):
    with contextlib.suppress(ProtocolError):
        decode(data)


def test_a_frame_holds_its_arrays_as_32_bit_numbers_in_rows():
    message = msgpack.unpackb(frame_message(tracked(), np.zeros((20, 30), np.uint8), b"file", []))
    assert (message["type"], message["stream"], message["epoch"], message["seq"]) == ("frame", "cam", 7, 12)
    assert (message["n"], message["n_nodes"], message["size"], message["image"]) == (2, 3, [30, 20], b"file")
    assert np.frombuffer(message["track_ids"], "<i4").tolist() == [4, -1]
    assert np.frombuffer(message["boxes"], "<f4").reshape(2, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert len(message["keypoints"]) == 2 * 3 * 2 * 4
    assert "scores" not in message
    assert (message["new_tracks"], message["parents"]) == ([4], [])


def test_a_frame_that_was_dropped_has_its_reason_and_no_arrays():
    dropped = Tracks("cam", 7, 13, 41, 1001, Status.DROPPED, reason="overload")
    message = msgpack.unpackb(frame_message(dropped, None, None, []))
    assert (message["status"], message["reason"], message["n"]) == ("dropped", "overload", 0)
    assert "boxes" not in message
    assert message["image"] is None


def test_the_changes_of_skipped_frames_come_with_the_next_one():
    change = change_of(3, tracked(parents=(2,), flags=("forced",), ended_tracks=(2,), restored_tracks=(3,)))
    message = msgpack.unpackb(frame_message(tracked(), None, None, [change]))
    assert message["changes"] == [
        {
            "seq": 12, "t_ns": 1000, "frame_index": 40, "new": [4], "lost": [], "found": [], "ended": [2],
            "restored": [3], "parents": [2], "flags": ["forced"],
        }
    ]  # fmt: skip
