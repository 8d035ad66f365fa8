"""Tentative tracks over the wire, in the SDK, and over a kill of the daemon."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from daemon_process import DaemonProcess
from raw_client import RawClient, array, walking_boxes

from trackd_client import Client, Detections, TrackdError

FALSE = np.array([[900, 900, 930, 930]], np.float32)  # a detection where no animal is


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess("tracker.min_hits=3") as process:
        yield process


def sdk(daemon: DaemonProcess) -> Client:
    at = daemon.addresses
    return Client(at["ingest"], at["tracks"], at["control"])


def send(client: RawClient, stream: str, seq: int, boxes: np.ndarray) -> tuple[dict, list[int]]:
    """Send a frame, and return its settlement with its ids."""
    client.frame(stream, seq, boxes)
    header, parts = client.next_tracks()
    assert header["seq"] == seq
    return header, array(header, parts, "track_ids").tolist()


def boxes_at(seq: int, false: bool) -> np.ndarray:
    boxes = walking_boxes(seq, 2).astype(np.float32)
    return np.concatenate([boxes, FALSE]) if false else boxes


def states(client: RawClient, stream: str) -> dict[int, str]:
    return {row["id"]: row["state"] for row in client.request("tracks.live", stream=stream)["result"]["tracks"]}


def test_each_settlement_says_which_of_its_ids_are_tentative(daemon):
    with RawClient(daemon.addresses, subscribe="wire") as client:
        client.open("wire")
        told = []
        for seq in range(7):
            header, ids = send(client, "wire", seq, boxes_at(seq, seq == 1))
            told.append((ids, header.get("tentative_tracks"), header["ended_tracks"]))
            if seq == 2:
                assert states(client, "wire") == {0: "active", 1: "active", 2: "tentative"}
        assert told == [
            ([0, 1], [0, 1], []), ([0, 1, 2], [0, 1, 2], []), ([0, 1], None, []), ([0, 1], None, []),
            ([0, 1], None, [2]), ([0, 1], None, []), ([0, 1], None, []),
        ]  # fmt: skip
        rows = client.request("history", stream="wire")["result"]
        assert [row.get("tentative_tracks") for row in rows] == [each[1] for each in told]


def test_a_stream_may_choose_another_value_and_a_wrong_one_is_refused(daemon):
    with RawClient(daemon.addresses, subscribe="own") as client:
        opened = client.open("own", config={"min_hits": 1})
        assert opened["config"]["tracker"]["min_hits"] == 1
        assert "tentative_tracks" not in send(client, "own", 0, boxes_at(0, False))[0]
        assert client.request("stream.configure", stream="own", config={"min_hits": 2})["result"]
        assert send(client, "own", 1, boxes_at(1, True))[0]["tentative_tracks"] == [2]
        error = client.request("stream.configure", stream="own", config={"min_hits": 0})["error"]
        assert error["code"] == "bad_config"
        assert "min_hits should be greater than or equal to 1; got 0" in error["message"]


def test_the_sdk_gives_the_tentative_rows_and_states(daemon):
    with sdk(daemon) as client, client.open_stream("sdk", reply="tracks") as stream:
        for seq in range(3):
            tracks = stream.track(None, Detections(boxes=boxes_at(seq, seq == 2)))
        assert (tracks.tentative_tracks, tracks.tentative.tolist()) == ((2,), [False, False, True])
        assert len(tracks.boxes[~tracks.tentative]) == 2
        assert [row.state for row in client.live("sdk").tracks] == ["active", "active", "tentative"]
        first, *_, last = client.history("sdk")
        assert (first.tentative_tracks, last.tentative_tracks) == ((0, 1), (2,))
        with pytest.raises(TrackdError, match="min_hits should be less than or equal to 1024; got 2000"):
            client.open_stream("sdk2", config={"min_hits": 2000})


def test_a_kill_keeps_the_states_and_what_each_track_still_needs(tmp_path):
    options = (f"daemon.state_dir={tmp_path}", "daemon.http=null", "tracker.min_hits=3")
    frames = [boxes_at(seq, seq >= 3) for seq in range(4)] + [boxes_at(4, False), boxes_at(5, True)]
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam")
        before = [send(client, "cam", seq, boxes)[0] for seq, boxes in enumerate(frames[:5])]
        assert states(client, "cam") == {0: "active", 1: "active", 2: "tentative"}
        daemon.process.kill()
        daemon.process.wait(10)
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        assert states(client, "cam") == {0: "active", 1: "active", 2: "tentative"}
        rows = client.request("history", stream="cam")["result"]
        assert [row.get("tentative_tracks") for row in rows] == [each.get("tentative_tracks") for each in before]
        client.open("cam", takeover=True)
        header, ids = send(client, "cam", 5, frames[5])
        assert (ids, header["tentative_tracks"], header["found_tracks"]) == ([0, 1, 2], [2], [2])
        daemon.stop()  # stores a snapshot
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        assert states(client, "cam") == {0: "active", 1: "active", 2: "tentative"}
        client.open("cam", takeover=True)
        header, ids = send(client, "cam", 6, boxes_at(6, True))
        assert ids == [0, 1, 2]
        assert "tentative_tracks" not in header
        assert states(client, "cam") == {0: "active", 1: "active", 2: "active"}


def test_by_default_the_published_bytes_do_not_name_tentative_tracks(tmp_path):
    with DaemonProcess("daemon.http=null") as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam")
        for seq in range(3):
            client.frame("cam", seq, boxes_at(seq, seq == 1))
            _, head, *_ = client.tracks.recv_multipart()
            while msgpack.unpackb(head)["kind"] != "tracks":
                _, head, *_ = client.tracks.recv_multipart()
            assert b"tentative" not in head
        assert set(states(client, "cam").values()) == {"active", "lost"}
