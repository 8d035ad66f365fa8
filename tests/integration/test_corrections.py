"""Corrections over the wire: between two frames, published, checked, in the right of control, and over a restart."""

from __future__ import annotations

import json
import time

import pytest
from daemon_process import DaemonProcess
from raw_client import RawClient, array, walking_boxes
from sleap_io import load_slp

from trackd_client import Client, TrackdError


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with DaemonProcess(f"daemon.state_dir={tmp_path_factory.mktemp('state')}") as process:
        yield process


@pytest.fixture
def client(daemon, request):
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    with RawClient(daemon.addresses, subscribe=name) as client:
        client.stream = name
        client.epoch = client.open(name)["epoch"]
        send(client, 0)
        yield client


@pytest.fixture
def sdk(daemon):
    at = daemon.addresses
    with Client(at["ingest"], at["tracks"], at["control"]) as client:
        yield client


def send(client, seq, n=3):
    """Send a frame, and return its settlement with its ids."""
    client.frame(client.stream, seq, walking_boxes(seq, n))
    header, parts = client.next_tracks()
    assert header["seq"] == seq
    return header, array(header, parts, "track_ids").tolist()


def correct(client, action, **params):
    return client.request("stream.correct", stream=client.stream, action=action, **params)


def test_a_correction_applies_from_the_next_frame_on_and_is_published_with_its_author(client):
    reply = correct(client, "swap", tracks=[0, 2], author="ada")["result"]
    assert reply == {"number": 1, "epoch": client.epoch, "seq": 0}
    event = client.next_event("corrected")
    assert (event["epoch"], event["last_seq"]) == (client.epoch, 0)
    detail = event["detail"]
    assert abs(time.time_ns() - detail["t_ns"]) < 60e9
    assert detail == {"number": 1, "action": "swap", "author": "ada", "t_ns": detail["t_ns"], "tracks": [0, 2]}
    header, ids = send(client, 1)
    assert ids == [2, 1, 0]
    assert header["corrections"] == [detail]
    assert client.request("history", stream=client.stream, from_seq=1)["result"][0]["corrections"] == [detail]
    assert "corrections" not in send(client, 2)[0]


def test_the_detail_of_each_action_has_what_it_changed(client):
    send(client, 1, n=2)  # 2 is lost
    details = []
    for action, params in [
        ("rename", {"track": 1, "name": "Änne"}),
        ("new_id", {"track": 1}),
        ("merge", {"track": 3, "into": 2}),
        ("end", {"track": 0}),
        ("undo", {}),
        ("undo", {"number": 1}),
    ]:
        reply = correct(client, action, **params)
        if "error" in reply:
            details.append(reply["error"]["code"])
        else:
            details.append(
                {k: v for k, v in client.next_event("corrected")["detail"].items() if k not in ("author", "t_ns")}
            )
    assert details == [
        {"number": 1, "action": "rename", "tracks": [1], "name": "Änne"},
        {"number": 2, "action": "new_id", "tracks": [1], "new_id": 3},
        {"number": 3, "action": "merge", "tracks": [3], "into": 2},
        {"number": 4, "action": "end", "tracks": [0]},
        {"number": 5, "action": "undo", "tracks": [0], "undoes": 4},
        "bad_correction",  # track 1 has ended
    ]
    header, ids = send(client, 2, n=2)
    assert ids == [0, 2]
    assert (header["new_tracks"], header["found_tracks"], header["ended_tracks"]) == ([3], [2], [1, 3])


def test_names_travel_beside_the_ids_and_are_in_live_and_history(client):
    assert "names" not in client.request("history", stream=client.stream)["result"][0]
    correct(client, "rename", track=1, name="Ann")
    assert send(client, 1)[0]["names"] == [None, "Ann", None]
    live = client.request("tracks.live", stream=client.stream)["result"]["tracks"]
    assert [row["name"] for row in live] == [None, "Ann", None]
    assert client.request("history", stream=client.stream, from_seq=1)["result"][0]["names"] == [None, "Ann", None]
    correct(client, "rename", track=1, name=None)
    assert "names" not in send(client, 2)[0]


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"action": "spin"}, "bad_message", "action must be one of rename, swap"),
        ({"action": "swap", "tracks": [1]}, "bad_message", "tracks must be two ids"),
        ({"action": "swap", "tracks": [1, 1]}, "bad_correction", "two different tracks"),
        ({"action": "end", "track": 9}, "bad_correction", "the live tracks are 0, 1, 2"),
        ({"action": "end", "track": "1"}, "bad_message", "track must be an integer"),
        ({"action": "merge", "track": 0, "into": 1}, "bad_correction", "both in the last frame"),
        ({"action": "rename", "track": 0}, "bad_message", "or null to remove the name"),
        ({"action": "rename", "track": 0, "name": "a\nb"}, "bad_correction", "printable"),
        ({"action": "undo"}, "bad_correction", "no correction to undo"),
        ({"action": "end", "track": 0, "author": "x" * 65}, "bad_correction", "author must have 1 to 64"),
    ],
    ids=range(10),
)
def test_a_correction_that_is_not_possible_is_refused_and_changes_nothing(client, params, code, text):
    error = client.request("stream.correct", stream=client.stream, **params)["error"]
    assert error["code"] == code
    assert text in error["message"]
    header, ids = send(client, 1)
    assert ids == [0, 1, 2]
    assert header["ended_tracks"] == []


def test_a_reset_forgets_names_and_corrections(client):
    correct(client, "rename", track=0, name="Ann")
    client.request("stream.reset", stream=client.stream)
    client.next_event("reset")
    header, ids = send(client, 1)
    assert ids == [0, 1, 2]
    assert "names" not in header
    assert correct(client, "undo")["error"]["code"] == "bad_correction"
    assert correct(client, "swap", tracks=[0, 1])["result"]["number"] == 1


def test_the_sdk_has_a_method_for_each_action(client, sdk):
    name = client.stream
    assert sdk.rename_track(name, 0, "Ann", author="ada").number == 1
    assert sdk.swap_tracks(name, 0, 1).seq == 0
    assert sdk.new_track_id(name, 2).epoch == client.epoch
    assert sdk.undo_correction(name).number == 4
    assert sdk.end_track(name, 2).number == 5
    assert sdk.undo_correction(name, 5).number == 6
    assert [(row.id, row.name) for row in sdk.live(name).tracks] == [(0, "Ann"), (1, None), (2, None)]
    with pytest.raises(TrackdError, match="both in the last frame") as raised:
        sdk.merge_tracks(name, 0, 1)
    assert raised.value.code == "bad_correction"
    assert send(client, 1)[0]["names"] == [None, "Ann", None]
    (row,) = sdk.history(name, from_seq=1)
    assert row.names == (None, "Ann", None)


def test_corrections_are_counted_by_action(client, daemon):
    before = daemon.metrics()
    correct(client, "end", track=0)
    correct(client, "undo")
    after = daemon.metrics()
    grown = {name for name in after if name.startswith("trackd_corrections_total") and after[name] > before[name]}
    assert grown == {'trackd_corrections_total{action="end"}', 'trackd_corrections_total{action="undo"}'}


def test_a_restart_keeps_names_pending_ends_and_what_can_be_undone(tmp_path):
    options = (f"daemon.state_dir={tmp_path}", "daemon.http=null")
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        client.open("cam")
        send(client, 0)
        correct(client, "rename", track=0, name="Ann")
        correct(client, "swap", tracks=[0, 1])
        send(client, 1)
        correct(client, "end", track=2)
        daemon.stop()
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        assert client.request("history", stream="cam", from_seq=1)["result"][0]["names"] == [None, "Ann", None]
        client.open("cam", takeover=True)
        assert correct(client, "undo", number=2)["result"]["number"] == 4
        header, ids = send(client, 2)
        assert ids == [0, 1, 3]
        assert header["names"] == ["Ann", None, None]
        assert header["ended_tracks"] == [2]


def test_a_wrong_id_that_was_corrected_is_right_in_the_slp_with_its_name_also_after_a_kill(tmp_path):
    options = (
        f"daemon.state_dir={tmp_path / 'state'}", "daemon.http=null", f"out_dir={tmp_path / 'out'}",
        "stream.outputs=[slp, trackmate, jsonl]",
    )  # fmt: skip
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        client.open("cam")
        send(client, 0)
        correct(client, "swap", tracks=[0, 2])
        correct(client, "rename", track=2, name="Änne")
        send(client, 1)
        daemon.process.kill()
        daemon.process.wait(10)
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        client.open("cam", takeover=True)
        send(client, 2)
        client.request("stream.close", stream="cam")
        client.recv_kind("closed")
        daemon.stop()
    labels = load_slp(str(tmp_path / "out" / "cam.slp"), open_videos=False)
    names = [[instance.track.name for instance in frame.instances] for frame in labels]
    assert names == [["0", "1", "Änne"], ["Änne", "1", "0"], ["Änne", "1", "0"]]
    lines = (tmp_path / "out" / "cam_spots.csv").read_text(encoding="utf-8").splitlines()[4:]
    assert [line.split(",")[3] for line in lines][3:] == ["Änne", "Track_1", "Track_0"] * 2
    _, *frames = map(json.loads, (tmp_path / "out" / "cam.jsonl").read_text(encoding="utf-8").splitlines())
    assert [[each["action"] for each in frame.get("corrections", ())] for frame in frames] == [
        [], ["swap", "rename"], [],
    ]  # fmt: skip
    assert [frame.get("names") for frame in frames] == [None, {"2": "Änne"}, {"2": "Änne"}]
