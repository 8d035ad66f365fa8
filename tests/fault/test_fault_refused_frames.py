"""A frame that cannot be used is rejected once, on both sides, and its stream goes on."""

from __future__ import annotations

import time

import numpy as np
import pytest
from fault_tools import FaultDaemon, sdk
from raw_client import RawClient, walking_boxes

from trackd_client import Detections, EncodedImage, Status, TrackdError

BOXES = Detections(boxes=walking_boxes(0))
NOW_S = time.time()


@pytest.fixture(scope="module")
def daemon():
    with FaultDaemon("limits.message_bytes=100000", "limits.image_bytes=100000") as running:
        yield running


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        pytest.param("t_ns", NOW_S, "bad_message", id="t_ns-seconds as a float"),
        ("t_ns", "now", "bad_message"),
        ("t_ns", None, "bad_message"),
        ("t_ns", 2**63, "bad_message"),
        ("frame_index", 1.5, "bad_message"),
        ("frame_index", True, "bad_message"),
        ("t_ns", -1, "invalid_frame"),
        pytest.param("t_ns", int(NOW_S), "invalid_frame", id="t_ns-seconds"),
        pytest.param("t_ns", int(NOW_S * 1000), "invalid_frame", id="t_ns-milliseconds"),
        ("extra", None, "too_large"),
    ],
)
def test_a_frame_of_a_raw_client_that_cannot_be_used_is_settled_and_the_next_is_tracked(daemon, field, value, code):
    name = f"raw-{time.monotonic_ns()}"
    with RawClient(daemon.addresses, subscribe=name) as client:
        client.open(name, reply="tracks")
        if field == "extra":
            head = {"kind": "frame", "stream": name, "seq": 0, "frame_index": 0, "t_ns": 0, "detections": {}}
            client.send(head, b"x" * 60_000, b"x" * 60_000)  # a single part of that size would end the connection
        else:
            client.frame(name, 0, walking_boxes(0), **{field: value})
        client.frame(name, 1, walking_boxes(1), t_ns=time.time_ns())
        assert client.recv_kind("error")["code"] == code
        while client.recv_kind("ack")["seq"] < 1:
            pass
        settled = [client.next_tracks()[0] for _ in range(2)]
        assert [(row["seq"], row["status"]) for row in settled] == [(0, "rejected"), (1, "tracked")]
        client.send({"kind": "close", "stream": name})
        assert client.recv_kind("closed")["last_seq"] == 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"t_ns": NOW_S}, id="seconds as a float"), pytest.param({"t_ns": int(NOW_S)}, id="seconds"),
        {"t_ns": "now"}, {"t_ns": -5}, {"t_ns": float("nan")}, {"t_ns": True},
        {"t_ns": 2**63}, {"frame_index": 3.7}, {"frame_index": "3"}, {"frame_index": 2**70},
        {"image": "cam.jpg"}, {"image": EncodedImage("jpeg", "cam.jpg")}, {"detections": None},
        {"image": np.zeros((500, 500), np.uint8)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_that_cannot_be_sent_raises_at_once_and_the_stream_goes_on(daemon, options):
    with sdk(daemon) as client, client.open_stream(f"sdk-{time.monotonic_ns()}", reply="tracks") as stream:
        values = {"image": None, "detections": BOXES, **options}
        started = time.monotonic()
        for call in (stream.send, stream.track):
            with pytest.raises(TrackdError) as caught:
                call(
                    values["image"],
                    values["detections"],
                    **{k: values[k] for k in values.keys() & {"t_ns", "frame_index"}},
                )
            assert "within" not in caught.value.message
            assert caught.value.code in ("invalid_frame", "too_large")
        assert time.monotonic() - started < 4
        assert stream.next_seq == 0
        assert (
            stream.track(None, BOXES, t_ns=np.int64(time.time_ns()), frame_index=np.int32(5)).status is Status.TRACKED
        )


def test_an_error_of_a_timeout_states_the_time_that_was_asked_for(daemon):
    with sdk(daemon) as client:
        stream = client.open_stream("late", reply="tracks")
        with daemon.paused():  # so that no reply is faster than the shortest timeout
            for timeout_s in (0.0, -3.0, 1e-9):
                with pytest.raises(TrackdError) as caught:
                    stream.track(None, BOXES, timeout_s=timeout_s)
                assert f"within {max(0.0, timeout_s):g} s" in caught.value.message
        stream.close()
