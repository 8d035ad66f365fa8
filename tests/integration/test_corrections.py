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
        "bad_correction",  # track 1 is named, and has ended
    ]
    header, ids = send(client, 2, n=2)
    assert ids == [0, 2]
    assert (header["new_tracks"], header["found_tracks"], header["ended_tracks"]) == ([3], [2], [1, 3])


def test_an_undo_after_later_frames_restores_the_ids_and_states_so(client, sdk):
    correct(client, "rename", track=0, name="Ann")
    correct(client, "new_id", track=0)
    correct(client, "end", track=1)
    header, ids = send(client, 1)
    assert ids == [3, 4, 2]
    assert (header["new_tracks"], header["ended_tracks"], "restored_tracks" in header) == ([3, 4], [0, 1], False)
    for seq in range(2, 40):
        send(client, seq)
    assert correct(client, "undo")["result"]["seq"] == 39
    assert correct(client, "undo")["result"]["number"] == 5
    details = []
    while len(details) < 2:
        detail = client.next_event("corrected")["detail"]
        if detail["action"] == "undo":
            details.append({k: v for k, v in detail.items() if k not in ("author", "t_ns")})
    assert details == [
        {"number": 4, "action": "undo", "tracks": [1], "undoes": 3, "restored": 1, "replaced": 4},
        {"number": 5, "action": "undo", "tracks": [0], "new_id": 3, "undoes": 2, "restored": 0, "replaced": 3},
    ]
    header, ids = send(client, 40)
    assert (ids, header["names"]) == ([0, 1, 2], ["Ann", None, None])
    assert (header["restored_tracks"], header["ended_tracks"]) == ([0, 1], [3, 4])
    (row,) = sdk.history(client.stream, from_seq=40)
    assert (row.restored_tracks, row.ended_tracks) == ((0, 1), (3, 4))
    assert [each["restored"] for each in row.corrections] == [1, 0]


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


def test_what_was_ended_before_a_reset_is_not_restored_after_it(client):
    correct(client, "end", track=0)
    send(client, 1)
    client.request("stream.reset", stream=client.stream)
    client.next_event("reset")
    error = correct(client, "undo")["error"]
    assert error == {"code": "bad_correction", "message": "there is no correction to undo"}
    assert send(client, 2)[1] == [0, 1, 2]


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


def test_after_kills_before_and_after_an_undo_the_ids_are_those_without_a_kill(tmp_path):
    """Frames after the last snapshot are tracked again by each daemon: their ids must be the published ones."""
    steps = {
        3: [("rename", {"track": 1, "name": "Ann"}), ("end", {"track": 1}), ("new_id", {"track": 0})],
        8: "kill",
        12: [("undo", {}), ("undo", {})],
        13: "kill",  # the ids are restored, and not yet published
        15: [("end", {"track": 2})],
        18: "kill",
        20: [("undo", {})],
        24: "kill",
    }
    found = []
    for kills in (False, True):
        state = tmp_path / str(kills)
        options = (f"daemon.state_dir={state}", "daemon.http=null")
        daemon, told = DaemonProcess(*options), []
        client = None
        try:
            client = opened(daemon)
            for seq in range(26):
                step = steps.get(seq, ())
                if step == "kill" and kills:
                    client.close()
                    daemon.process.kill()
                    daemon.process.wait(10)
                    daemon = DaemonProcess(*options)
                    client = opened(daemon)
                for action, params in step if step != "kill" else ():
                    assert "result" in correct(client, action, **params), (seq, action)
                header, ids = send(client, seq)
                told.append((ids, header.get("names"), header.get("restored_tracks"), header["ended_tracks"]))
            rows = client.request("history", stream="cam")["result"]
            assert [row["track_ids"] for row in rows] == [each[0] for each in told]
            assert [row.get("restored_tracks") for row in rows] == [each[2] for each in told]
        finally:
            if client is not None:
                client.close()
            daemon.stop()
        found.append(told)
    assert found[0] == found[1]
    assert [found[1][seq][0] for seq in (3, 11, 12, 15, 20)] == [[3, 4, 2], [3, 4, 2], [0, 1, 2], [0, 1, 5], [0, 1, 2]]
    assert found[1][12] == ([0, 1, 2], [None, "Ann", None], [0, 1], [3, 4])


def opened(daemon):
    client = RawClient(daemon.addresses, subscribe="cam")
    client.stream = "cam"
    client.open("cam", takeover=True)
    return client


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
