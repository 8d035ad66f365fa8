"""Values that a caller submits for a frame: checked, with an error that names the value and what would be right."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from trackd_client import Detections, EncodedImage, TrackdError
from trackd_client.protocol.capture_time import capture_time_fault
from trackd_client.sending.submission import checked_image, owned, whole_number

NOW_S = 1_795_336_283
NOW_NS = NOW_S * 10**9


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "got 1.5"),
        (2.0, "got 2.0"),
        (float("nan"), "got nan"),
        (float("inf"), "got inf"),
        ("now", "got 'now'"),
        ("7", "got '7'"),
        (True, "got True"),
        (np.float64(3), "got np.float64(3.0)"),
        ([1], "got [1]"),
        (b"1", "got b'1'"),
        (2**63, "64 bits; got 9223372036854775808"),
        (-(2**63), "64 bits; got -9223372036854775808"),
        (np.uint64(2**63), "64 bits; got 9223372036854775808"),
    ],
)
def test_a_value_that_is_no_64_bit_integer_is_named(value, shown):
    with pytest.raises(TrackdError) as caught:
        whole_number("t_ns", value, "an integer")
    assert "t_ns must be an integer" in caught.value.message
    assert shown in caught.value.message
    assert caught.value.code == "invalid_frame"


def test_an_integer_of_thousands_of_digits_is_not_printed():
    with pytest.raises(TrackdError, match="got one of 16610 bits"):
        whole_number("t_ns", 10**5000, "an integer")


@pytest.mark.parametrize("value", [0, 7, -7, 2**63 - 1, np.int32(7), np.uint64(2**63 - 1), np.array(7)])
def test_any_integer_of_64_bits_becomes_a_python_integer(value):
    number = whole_number("frame_index", value, "an integer")
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize(("unit", "unit_ns"), [("seconds", 10**9), ("milliseconds", 10**6), ("microseconds", 10**3)])
def test_the_present_time_in_another_unit_is_refused_with_its_factor(unit, unit_ns):
    for off_ns in (-(10**13), 0, 10**13):
        fault = capture_time_fault((NOW_NS + off_ns) // unit_ns, None, lambda: NOW_NS)
        assert fault is not None
        assert f"the present time in {unit}: multiply it by {unit_ns}" in fault


def test_a_negative_capture_time_is_refused():
    assert "from 0 to 2**63 - 1; got -1" in (capture_time_fault(-1) or "")


def test_times_that_count_from_another_moment_are_accepted():
    assert capture_time_fault(0) is None
    assert capture_time_fault(40_000_000, 0) is None
    assert capture_time_fault(time.time_ns()) is None
    assert capture_time_fault(NOW_S, NOW_S - 33_000_000, lambda: NOW_NS) is None  # 1.8 s after the stream's beginning
    assert capture_time_fault(NOW_S, NOW_NS, lambda: NOW_NS) is not None  # the frames before it were in nanoseconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "trackd_client.Detections, as in Detections(boxes=boxes)"),
        (np.zeros((2, 4)), "trackd_client.Detections, as in Detections(boxes=boxes)"),
        ([[1, 2, 3, 4]], "got [[1, 2, 3, 4]]"),
        (Detections(), "boxes, keypoints or both; send Detections.empty()"),
        (Detections(boxes="all"), "detections.boxes must be an array of numbers; got 'all'"),
        (
            Detections(boxes=[[1, 2, 3, 4], [1]]),
            "detections.boxes must be an array of numbers; got [[1, 2, 3, 4], [1]]",
        ),
        (Detections(boxes=[[1, 2, 3, None]]), "detections.boxes must be an array of numbers"),
        (Detections(boxes=np.zeros((0, 4)), scores=["high"]), "detections.scores must be an array of numbers"),
    ],
)
def test_detections_of_a_wrong_type_are_named(value, text):
    with pytest.raises(TrackdError) as caught:
        owned(value)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cam.jpg", "got 'cam.jpg'; read the file first, as in EncodedImage('jpeg', path.read_bytes())"),
        (Path("cam.jpg"), "read the file first"),
        (b"\xff\xd8", "or an EncodedImage; got b'\\xff\\xd8'"),
        ([[0, 1]], "got [[0, 1]]"),
        (np.zeros((4, 4)), "uint8 or uint16; got float64"),
        (np.zeros(4, np.uint8), "(h, w) or (h, w, c); got (4,)"),
        (EncodedImage("gif", b"GIF"), "'jpeg' or 'png'; got 'gif'"),
        (EncodedImage("jpeg", "cam.jpg"), "the bytes of a file; got 'cam.jpg'"),
    ],
)
def test_an_image_of_a_wrong_type_is_named(value, text):
    with pytest.raises(TrackdError) as caught:
        checked_image(value)
    assert text in caught.value.message


def test_the_buffer_of_an_encoded_image_becomes_bytes():
    image = checked_image(EncodedImage("jpeg", np.frombuffer(b"\xff\xd8", np.uint8)))
    assert type(image.data) is bytes
    assert image.data == b"\xff\xd8"
