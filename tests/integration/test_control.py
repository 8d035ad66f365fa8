"""The control socket, and the events that subscribers get."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from daemon_process import DaemonProcess
from raw_client import RawClient, array, walking_boxes


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess() as process:
        yield process


@pytest.fixture
def client(daemon, request):
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    with RawClient(daemon.addresses, subscribe=name) as client:
        client.stream = name
        opened = client.open(name)
        assert opened["kind"] == "opened", opened
        client.epoch = opened["epoch"]
        for seq in range(3):
            client.frame(name, seq, walking_boxes(seq))
        while client.recv_kind("ack")["seq"] < 2:
            pass
        yield client


def test_status_has_a_row_for_each_stream_with_its_counts(client):
    status = client.request("status")["result"]
    assert status["protocol"] == 1
    assert status["ready"] is True
    assert status["draining"] is False
    assert "motion" in status["models"]
    row = next(row for row in status["streams"] if row["stream"] == client.stream)
    assert row["received"] == row["tracked"] == 3
    assert (row["queued"], row["dropped"], row["rejected"], row["active_tracks"], row["next_seq"]) == (0, 0, 0, 3, 3)


def test_a_req_socket_gets_its_delimiter_back(client):
    assert client.request("models", delimiter=True)["result"][0]["name"] == "motion"


def test_history_gives_the_settlements_of_a_range_oldest_first(client):
    rows = client.request("history", stream=client.stream, from_seq=1)["result"]
    assert [row["seq"] for row in rows] == [1, 2]
    header, parts = None, None
    for _ in range(3):
        header, parts = client.next_tracks()
    assert rows[-1]["track_ids"] == array(header, parts, "track_ids").tolist()
    assert rows[-1]["timing"] == header["timing"]
    limited = client.request("history", stream=client.stream, from_seq=0, to_seq=1, limit=1)["result"]
    assert [row["seq"] for row in limited] == [0]
    assert client.request("history", stream=client.stream, epoch=client.epoch + 1)["result"] == []


def test_live_tracks_name_their_state_box_and_frame(client):
    client.frame(client.stream, 3, walking_boxes(3)[:2])
    client.recv_kind("ack")
    live = client.request("tracks.live", stream=client.stream)["result"]
    assert (live["epoch"], live["seq"]) == (client.epoch, 3)
    assert [(row["id"], row["state"], row["frame_index"]) for row in live["tracks"]] == [
        (0, "active", 3), (1, "active", 3), (2, "lost", 2),
    ]  # fmt: skip
    assert [row["first_frame_index"] for row in live["tracks"]] == [0, 0, 0]
    assert np.allclose(live["tracks"][0]["box"], walking_boxes(3)[0])


def test_configure_takes_effect_between_two_frames_and_keeps_the_tracks(client):
    effective = client.request("stream.configure", stream=client.stream, config={"max_tracks": 3})["result"]
    assert effective["tracker"]["max_tracks"] == 3
    assert client.next_event("configured")["last_seq"] == 2
    client.frame(client.stream, 3, walking_boxes(3, n=5))
    header, parts = client.next_tracks()
    assert array(header, parts, "track_ids").tolist() == [0, 1, 2, -1, -1]


def test_a_bad_configure_changes_nothing(client):
    error = client.request("stream.configure", stream=client.stream, config={"max_tracks": 0})["error"]
    assert error["code"] == "bad_config"
    assert "max_tracks" in error["message"]
    client.frame(client.stream, 3, walking_boxes(3))
    client.recv_kind("ack")


def test_reset_begins_a_new_epoch_with_ids_from_0(client):
    epoch = client.request("stream.reset", stream=client.stream)["result"]["epoch"]
    assert epoch > client.epoch
    assert client.next_event("reset")["epoch"] == epoch
    client.frame(client.stream, 3, walking_boxes(400))
    header, _ = client.next_tracks()
    assert header["epoch"] == epoch
    assert header["new_tracks"] == [0, 1, 2]


def test_close_settles_the_queued_frames_and_answers_with_the_last_seq(client):
    client.frame(client.stream, 3, walking_boxes(3))
    client.recv_kind("ack")
    result = client.request("stream.close", stream=client.stream)["result"]
    assert result == {"stream": client.stream, "epoch": client.epoch, "last_seq": 3}
    assert client.recv_kind("closed")["last_seq"] == 3
    assert client.next_event("closed")["last_seq"] == 3
    assert client.request("tracks.live", stream=client.stream)["error"]["code"] == "unknown_stream"
    rows = client.request("history", stream=client.stream, from_seq=3)["result"]
    assert [row["seq"] for row in rows] == [3], "a subscriber that missed the end can still ask for it"


def test_a_heartbeat_has_the_last_seq_each_second(client):
    beats = [client.next_event("heartbeat") for _ in range(2)]  # the first may be from before the frames
    assert [beat["epoch"] for beat in beats] == [client.epoch] * 2
    assert beats[0]["last_seq"] in (-1, 0, 1, 2)
    assert beats[1]["last_seq"] == 2


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("stattus", {}, "bad_message"),
        ("tracks.live", {"stream": "nobody"}, "unknown_stream"),
        ("tracks.live", {}, "bad_message"),
        ("history", {"stream": "nobody"}, "unknown_stream"),
        ("stream.configure", {"stream": "nobody", "config": {}}, "unknown_stream"),
    ],
)
def test_a_request_that_fails_gets_its_error_code(client, method, params, code):
    assert client.request(method, **params)["error"]["code"] == code


def test_a_message_that_is_no_request_gets_an_error(client):
    client.control.send_multipart([b"\xff\xff"])
    assert msgpack.unpackb(client.control.recv())["error"]["code"] == "bad_message"


def test_a_subscription_excludes_streams_whose_names_only_begin_with_its_stream(daemon):
    with RawClient(daemon.addresses, subscribe="cam1") as client:
        client.open("cam10")
        client.frame("cam10", 0, walking_boxes(0))
        client.recv_kind("ack")
        client.open("cam1")
        client.frame("cam1", 0, walking_boxes(0))
        client.recv_kind("ack")
        assert client.next_tracks()[0]["stream"] == "cam1"
