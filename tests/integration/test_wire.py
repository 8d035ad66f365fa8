"""The wire protocol of a real daemon, with a client that was written from protocol.md alone."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, array, walking_boxes

N_FRAMES = 1000


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess() as process:
        yield process


@pytest.fixture
def client(daemon, request):
    with RawClient(daemon.addresses, subscribe=request.node.name[:100].replace("[", "-").replace("]", "")) as client:
        client.stream = request.node.name[:100].replace("[", "-").replace("]", "")
        yield client


def test_a_thousand_frames_give_a_thousand_tracks_in_order_and_all_acks(client):
    opened = client.open(client.stream)
    assert opened["kind"] == "opened"
    assert opened["next_seq"] == 0
    credit, acked = opened["credit"], -1
    for seq in range(N_FRAMES):
        while credit == 0:
            ack = client.recv_kind("ack")
            credit, acked = credit + ack["credit"], ack["seq"]
        client.frame(client.stream, seq, walking_boxes(seq), scores=None)
        credit -= 1
    while acked < N_FRAMES - 1:
        acked = client.recv_kind("ack")["seq"]
    ids = None
    for seq in range(N_FRAMES):
        header, parts = client.next_tracks()
        assert (header["seq"], header["frame_index"], header["status"]) == (seq, seq, "tracked")
        assert header["t_ns"] == seq * 40_000_000
        assert header["epoch"] == opened["epoch"]
        assert np.array_equal(array(header, parts, "boxes"), walking_boxes(seq))
        track_ids = array(header, parts, "track_ids")
        assert track_ids.dtype == np.dtype("<i4")
        if seq % 450 == 0:  # here the boxes jump back, and the ids may change
            ids = track_ids if seq == 0 else None
        if ids is not None:
            assert track_ids.tolist() == [0, 1, 2]
        assert header["timing"]["total"] > 0
    assert header["new_tracks"] == []


def test_the_first_frame_names_its_new_tracks(client):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0))
    header, parts = client.next_tracks()
    assert header["new_tracks"] == [0, 1, 2]
    assert np.isnan(array(header, parts, "track_scores")).all()


def test_a_duplicate_is_acked_and_not_repeated(client):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0))
    assert client.recv_kind("ack")["seq"] == 0
    client.frame(client.stream, 0, walking_boxes(0))
    answer = client.recv_kind("ack", "error")
    assert (answer["kind"], answer["seq"], answer["credit"]) == ("ack", 0, 0)
    client.frame(client.stream, 1, walking_boxes(1))
    seqs = [client.next_tracks()[0]["seq"] for _ in range(2)]
    assert seqs == [0, 1]


def test_a_gap_is_refused_with_the_expected_seq_and_changes_nothing(client):
    client.open(client.stream)
    client.frame(client.stream, 5, walking_boxes(5))
    error = client.recv_kind("error")
    assert (error["code"], error["expected"], error["seq"], error["stream"]) == ("seq_gap", 0, 5, client.stream)
    client.frame(client.stream, 0, walking_boxes(0))
    assert client.recv_kind("ack", "error")["kind"] == "ack"


def test_a_shape_that_does_not_fit_its_bytes_rejects_the_frame_and_the_next_one_is_tracked(client):
    client.open(client.stream)
    bad = {"boxes": {"dtype": "<f4", "shape": [4, 4], "part": 1}}
    client.frame(client.stream, 0, walking_boxes(0), detections=bad)
    error = client.recv_kind("error")
    assert (error["code"], error["seq"]) == ("invalid_frame", 0)
    assert "64 bytes" in error["message"]
    assert client.recv_kind("ack")["seq"] == 0
    client.frame(client.stream, 1, walking_boxes(1))
    first, second = client.next_tracks()[0], client.next_tracks()[0]
    assert (first["status"], second["status"]) == ("rejected", "tracked")
    assert "64 bytes" in first["reason"]
    assert "track_ids" not in first


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v": 2}, "unsupported_version"),
        ({"kind": "frames"}, "bad_message"),
        ({"stream": "no/slash"}, "bad_message"),
        ({"seq": "0"}, "bad_message"),
        ({"seq": True}, "bad_message"),
        ({"t_ns": 2**64 - 1}, "bad_message"),
    ],
)
def test_an_invalid_header_gets_its_error_code_and_uses_no_seq(client, change, code):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0), **change)
    assert client.recv_kind("error")["code"] == code
    client.frame(client.stream, 0, walking_boxes(0))
    assert client.recv_kind("ack", "error")["kind"] == "ack"


def test_bytes_that_are_not_a_message_get_bad_message(client):
    client.ingest.send_multipart([b"\xc1 nonsense"])
    assert client.recv()["code"] == "bad_message"
    client.ingest.send_multipart([msgpack.packb([1, 2])])
    assert client.recv()["code"] == "bad_message"


def test_deeply_nested_headers_and_huge_shapes_do_not_end_the_daemon(client):
    deep: list = []
    for _ in range(900):
        deep = [deep]
    empty = {"dtype": "<i4", "shape": [0, 2**31 - 1, 2**31 - 1], "part": 1}
    for header in (
        {"v": deep, "kind": "ping"},
        {"v": 1, "kind": deep},
        {"v": 1, "kind": "open", "stream": "s", "config": {"window_size": deep}},
        {"v": 1, "kind": "open", "stream": deep},
        {"v": 1, "kind": "tracks", "stream": "s", "track_ids": empty},
    ):
        client.ingest.send_multipart([msgpack.packb(header), b""])
        assert client.recv()["code"] == "bad_message"
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0), detections={"boxes": {**empty, "dtype": "<f4"}})
    assert client.recv_kind("error")["code"] == "invalid_frame"


def test_a_takeover_returns_the_last_frame_index(daemon, client):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0), frame_index=876)
    client.recv_kind("ack")
    with RawClient(daemon.addresses) as other:
        assert other.open(client.stream, takeover=True)["last_frame_index"] == 876


def test_a_message_of_too_many_parts_is_too_large(client):
    client.ingest.send_multipart([msgpack.packb({"v": 1, "kind": "ping", "t_ns": 1})] + [b""] * 1000)
    assert client.recv()["code"] == "too_large"


def test_an_image_beyond_the_limit_is_too_large_and_rejects_its_frame_only(client):
    client.open(client.stream)
    image = {"encoding": "raw", "data": {"dtype": "|u1", "shape": [2**30, 2**30], "part": 1}}
    client.frame(client.stream, 0, walking_boxes(0), image=image)
    assert client.recv_kind("error")["code"] == "too_large"
    assert client.next_tracks()[0]["status"] == "rejected"


def test_a_frame_without_credit_is_refused_and_may_be_sent_again(client):
    assert client.open(client.stream, config={"queue_depth": 1})["credit"] == 1
    sent, refused = 0, 0
    for _ in range(100):
        # Two frames for a queue of one: in most rounds the second one arrives before the first one is settled.
        client.frame(client.stream, sent, walking_boxes(sent))
        client.frame(client.stream, sent + 1, walking_boxes(sent + 1))
        answers = [client.recv_kind("ack", "error") for _ in range(2)]
        refusals = [answer for answer in answers if answer["kind"] == "error"]
        assert all((answer["code"], answer["seq"]) == ("no_credit", sent + 1) for answer in refusals)
        if refusals:
            refused += 1
            client.frame(client.stream, sent + 1, walking_boxes(sent + 1))
            assert client.recv_kind("ack", "error")["seq"] == sent + 1
        sent += 2
    assert refused > 0
    assert [client.next_tracks()[0]["seq"] for _ in range(sent)] == list(range(sent))


def test_a_nan_box_affects_only_its_own_row(client):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0))
    boxes = walking_boxes(1)
    boxes[1] = np.nan
    client.frame(client.stream, 1, boxes)
    client.next_tracks()
    header, parts = client.next_tracks()
    assert array(header, parts, "track_ids").tolist() == [0, -1, 2]
    assert "invalid_detection" in header["flags"]
    assert header["lost_tracks"] == [1]
    client.frame(client.stream, 2, walking_boxes(2))
    header, parts = client.next_tracks()
    assert array(header, parts, "track_ids").tolist() == [0, 1, 2]
    assert header["found_tracks"] == [1]


def test_a_frame_index_that_does_not_rise_is_rejected(client):
    client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0), frame_index=10)
    client.frame(client.stream, 1, walking_boxes(1), frame_index=10)
    client.frame(client.stream, 2, walking_boxes(2), frame_index=11)
    assert [client.next_tracks()[0]["status"] for _ in range(3)] == ["tracked", "rejected", "tracked"]


def test_the_tracks_reply_is_sent_before_its_ack(client):
    client.open(client.stream, reply="tracks")
    client.frame(client.stream, 0, walking_boxes(0))
    assert [client.recv()["kind"] for _ in range(2)] == ["tracks", "ack"]


def test_a_ping_is_answered_with_its_own_clock_and_the_daemons(client):
    client.send({"kind": "ping", "t_ns": 42})
    pong = client.recv()
    assert (pong["kind"], pong["t_ns"]) == ("pong", 42)
    assert pong["daemon_t_ns"] > 1_700_000_000_000_000_000


def test_a_stream_belongs_to_the_connection_that_opened_it(daemon, client):
    client.open(client.stream)
    with RawClient(daemon.addresses) as other:
        other.frame(client.stream, 0, walking_boxes(0))
        assert other.recv()["code"] == "stream_busy"
        assert other.open(client.stream)["code"] == "stream_busy"
        client.frame(client.stream, 0, walking_boxes(0))
        client.recv_kind("ack")
        taken = other.open(client.stream, takeover=True)
        assert (taken["kind"], taken["next_seq"]) == ("opened", 1)
        lost = client.recv_kind("error")
        assert (lost["code"], lost["fatal"]) == ("stream_busy", True)
        other.frame(client.stream, 1, walking_boxes(1))
        other.recv_kind("ack")
        client.next_tracks()
        header, parts = client.next_tracks()
        assert array(header, parts, "track_ids").tolist() == [0, 1, 2]


def test_an_owner_that_is_silent_for_too_long_loses_its_stream_to_the_next_open(daemon, client):
    client.open(client.stream, config={"owner_timeout_s": 0.3})
    with RawClient(daemon.addresses) as other:
        assert other.open(client.stream)["code"] == "stream_busy"
        wait_until(
            lambda: other.open(client.stream)["kind"] == "opened",
            3.0,
            "the silent owner's stream is opened by another client",
        )


def test_a_stream_whose_owner_is_silent_is_closed(client):
    client.open(client.stream, config={"idle_timeout_s": 0.5})
    assert "owner" in client.next_event("closed")["detail"]["reason"]


def test_a_closed_stream_restarts_in_a_later_epoch(client):
    first = client.open(client.stream)
    client.frame(client.stream, 0, walking_boxes(0))
    client.send({"kind": "close", "stream": client.stream})
    closed = client.recv_kind("closed")
    assert (closed["epoch"], closed["last_seq"]) == (first["epoch"], 0)
    client.frame(client.stream, 1, walking_boxes(1))
    assert client.recv_kind("error")["code"] == "unknown_stream"
    second = client.open(client.stream)
    assert second["epoch"] > first["epoch"]
    assert second["next_seq"] == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"windowsize": 3}, "window_size"),
        ({"iou": "giou"}, "mult"),
        ({"window_size": 0}, "window_size"),
        ({"queue_depth": "many"}, "queue_depth"),
        ({"anchors": "nose"}, "nose"),
        ({"tracker": 3}, "map"),
    ],
)
def test_a_bad_config_is_refused_with_the_key_and_opens_nothing(client, config, words):
    error = client.open(client.stream, config=config)
    assert error["code"] == "bad_config"
    assert words in error["message"]
    assert client.open(client.stream)["kind"] == "opened"


def test_an_unknown_model_is_refused_with_the_names_of_the_loaded_ones(client):
    error = client.open(client.stream, model="resnet")
    assert error["code"] == "unknown_model"
    assert "motion" in error["message"]


def test_opened_returns_the_effective_config(client):
    opened = client.open(client.stream, config={"window_size": 5, "crop_size": 64, "on_overload": "drop_newest"})
    assert opened["config"]["tracker"]["window_size"] == 5
    assert opened["config"]["dataset"]["crop_size"] == 64
    assert opened["config"]["stream"]["on_overload"] == "drop_newest"


def test_an_encoded_image_with_a_wrong_header_rejects_its_frame(client):
    client.open(client.stream)
    client.send(
        {
            "kind": "frame", "stream": client.stream, "seq": 0, "frame_index": 0, "t_ns": 0,
            "image": {"encoding": "jpeg", "part": 2},
            "detections": {"boxes": {"dtype": "<f4", "shape": [3, 4], "part": 1}},
        },
        walking_boxes(0), b"not a jpeg",
    )  # fmt: skip
    assert client.next_tracks()[0]["status"] == "rejected"


def test_keypoints_are_published_unchanged(client):
    client.open(client.stream, skeleton={"nodes": ["head", "tail"], "edges": [[0, 1]]})
    points = np.array([[[1.5, 2.5], [np.nan, np.nan]]], "<f8")
    detections = {"keypoints": {"dtype": "<f8", "shape": [1, 2, 2], "part": 1}}
    client.send(
        {
            "kind": "frame", "stream": client.stream, "seq": 0, "frame_index": 0, "t_ns": 0,
            "image": None, "detections": detections,
        },
        points,
    )  # fmt: skip
    header, parts = client.next_tracks()
    assert np.array_equal(array(header, parts, "keypoints"), points, equal_nan=True)
    assert array(header, parts, "track_ids").tolist() == [0]


def test_a_shared_image_outside_of_the_naming_scheme_is_refused(client):
    client.open(client.stream)
    image = {"encoding": "shm", "name": "../etc/passwd", "offset": 64, "shape": [4, 4], "dtype": "|u1", "generation": 1}
    client.frame(client.stream, 0, walking_boxes(0), image=image)
    assert client.recv_kind("error")["code"] == "invalid_frame"
