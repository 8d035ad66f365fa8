"""Two animals in one box: over the wire, in the SDK and the files, and over a kill of the daemon in the middle."""

from __future__ import annotations

import json

import msgpack
import numpy as np
from daemon_process import DaemonProcess
from raw_client import RawClient, array

from trackd_client import Client, Detections

MEET = 20


def boxes_at(seq: int) -> np.ndarray:
    """Two animals that pass each other, as one box while they touch, and a third one."""
    away = 5.0 * (seq - MEET)
    places = np.array([[300 + away, 200], [300 - away, 222], [700, 400 + seq]])
    one, other, third = np.concatenate([places - 20, places + 20], axis=1)
    if (np.minimum(one[2:], other[2:]) > np.maximum(one[:2], other[:2])).all():
        one, other = np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])]), None
    return np.array([each for each in (one, other, third) if each is not None], np.float32)


def send(client: RawClient, seq: int) -> tuple[list[int], list[int] | None, list[int] | None]:
    """Send a frame; return its ids, and the tracks that are in the box of another one."""
    client.frame("cam", seq, boxes_at(seq))
    header, parts = client.next_tracks()
    assert header["seq"] == seq
    assert (header["lost_tracks"], header["found_tracks"], header["ended_tracks"]) == ([], [], [])
    assert header["new_tracks"] == ([0, 1, 2] if seq == 0 else [])
    return array(header, parts, "track_ids").tolist(), header.get("merged_tracks"), header.get("merged_rows")


def states(client: RawClient) -> dict[int, str]:
    return {row["id"]: row["state"] for row in client.request("tracks.live", stream="cam")["result"]["tracks"]}


def test_a_kill_while_two_animals_are_in_one_box_changes_no_id(tmp_path):
    options = (f"daemon.state_dir={tmp_path / 'state'}", "daemon.http=null", "tracker.max_gap=2")
    config = {"outputs": ["jsonl"]}
    options += (f"out_dir={tmp_path / 'out'}",)
    told = []
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam", config=config)
        told += [send(client, seq) for seq in range(MEET)]
        assert told[-1] == ([0, 2], [1], [0])
        assert states(client) == {0: "active", 1: "merged", 2: "active"}
        daemon.process.kill()
        daemon.process.wait(10)
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        assert states(client) == {0: "active", 1: "merged", 2: "active"}
        rows = client.request("history", stream="cam")["result"]
        assert [row.get("merged_tracks") for row in rows] == [merged for _, merged, _ in told]
        client.open("cam", takeover=True)
        told += [send(client, seq) for seq in (MEET, MEET + 1)]
        assert told[-1] == ([0, 2], [1], [0])
        daemon.stop()  # stores a snapshot
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        assert states(client) == {0: "active", 1: "merged", 2: "active"}
        client.open("cam", takeover=True)
        told += [send(client, seq) for seq in range(MEET + 2, 2 * MEET)]
        assert told[-1] == ([0, 1, 2], None, None)
        client.send({"kind": "close", "stream": "cam"})
        client.recv_kind("closed")
    lines = [json.loads(line) for line in next((tmp_path / "out").rglob("*.jsonl")).read_text().splitlines()[1:]]
    assert [(line["track_ids"], line.get("merged_tracks"), line.get("merged_rows")) for line in lines] == told


def test_the_sdk_tells_the_tracks_of_a_box_and_a_stream_without_merges_names_none():
    with DaemonProcess("daemon.http=null") as daemon:
        at = daemon.addresses
        addresses = at["ingest"], at["tracks"], at["control"]
        with Client(*addresses) as client, client.open_stream("sdk", reply="tracks") as stream:
            for seq in range(MEET):
                tracks = stream.track(None, Detections(boxes=boxes_at(seq)))
            assert tracks.merged == {0: (1,)}
            one, other, third = client.live("sdk").tracks
            assert [one.state, other.state, third.state] == ["active", "merged", "active"]
            assert one.box == other.box
        with RawClient(daemon.addresses, subscribe="cam") as raw:
            raw.open("cam")
            for seq in range(3):
                raw.frame("cam", seq, boxes_at(seq))
                _, head, *_ = raw.tracks.recv_multipart()
                while msgpack.unpackb(head)["kind"] != "tracks":
                    _, head, *_ = raw.tracks.recv_multipart()
                assert b"merged" not in head
