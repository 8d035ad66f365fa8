"""Checkpoints in a real daemon: refused at start, loaded at start, loaded while streams run."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from checkpoint_files import DESCRIPTOR, RESNET, TWO_ANCHORS, bad_file, write_checkpoint
from daemon_process import DaemonProcess
from raw_client import RawClient, array, walking_boxes

IMAGE = np.random.default_rng(0).integers(0, 255, (320, 960), np.uint8)


@pytest.mark.parametrize("kind", ["corrupt", "truncated", "wrong_architecture", "malicious", "missing"])
def test_a_file_that_is_not_a_valid_checkpoint_ends_the_start_with_one_line(tmp_path: Path, kind: str):
    path = bad_file(kind, tmp_path)
    command = [sys.executable, "-m", "trackd.cli", "serve", "--set", f"ckpt_path={path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("trackd: ckpt_path: ")
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "it_ran").exists()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    cfgs = {"first": DESCRIPTOR, "pair": TWO_ANCHORS, "colour": RESNET, "later": DESCRIPTOR}
    return {name: write_checkpoint(folder / f"{name}.ckpt", cfg) for name, cfg in cfgs.items()}


@pytest.fixture(scope="module")
def daemon(checkpoints: dict[str, Path]):
    listed = ", ".join(str(checkpoints[name]) for name in ("first", "pair", "colour"))
    with DaemonProcess(f"ckpt_path=[{listed}]", "daemon.device=cpu") as process:
        yield process


@pytest.fixture
def client(daemon: DaemonProcess, request: pytest.FixtureRequest):
    name = re.sub(r"[^A-Za-z0-9]", ".", request.node.name)[:100]
    with RawClient(daemon.addresses, subscribe=name) as connection:
        connection.stream = name
        yield connection


def send(client: RawClient, seq: int, image: np.ndarray | None = IMAGE) -> None:
    boxes = walking_boxes(seq)
    header: dict[str, Any] = {
        "kind": "frame", "stream": client.stream, "seq": seq, "frame_index": seq, "t_ns": seq * 40_000_000,
        "image": None, "detections": {"boxes": {"dtype": "<f4", "shape": list(boxes.shape), "part": 1}},
    }  # fmt: skip
    if image is not None:
        header["image"] = {"encoding": "raw", "data": {"dtype": "|u1", "shape": list(image.shape), "part": 2}}
    client.send(header, boxes, *([] if image is None else [image]))


def test_status_and_models_list_what_is_loaded_and_where(client: RawClient, checkpoints: dict[str, Path]):
    status = client.request("status")["result"]
    assert status["device"] == "cpu"
    assert {"first", "pair", "colour", "motion"} <= set(status["models"])
    rows = {row["name"]: row for row in client.request("models")["result"]}
    assert rows["pair"]["path"] == str(checkpoints["pair"])
    assert [name for name, row in rows.items() if row["default"]] == ["first"]


def test_a_stream_that_names_no_model_is_tracked_by_the_first_checkpoint(client: RawClient):
    opened = client.open(client.stream, config={"crop_size": 24, "padding": 0, "overlap_thresh": 0.0})
    assert opened["kind"] == "opened"
    for seq in range(12):
        send(client, seq)
    for seq in range(12):
        header, parts = client.next_tracks()
        assert (header["seq"], header["status"]) == (seq, "tracked")
        assert sorted(array(header, parts, "track_ids")) == [0, 1, 2]
    rows = {row["stream"]: row for row in client.request("status")["result"]["streams"]}
    assert rows[client.stream]["model"] == "first"


def test_a_frame_without_the_image_that_the_model_needs_is_rejected_and_the_next_one_is_tracked(client: RawClient):
    client.open(client.stream, config={"crop_size": 24, "overlap_thresh": 0.0})
    send(client, 0)
    send(client, 1, image=None)
    send(client, 2)
    header, _ = client.next_tracks()
    assert header["status"] == "tracked"
    header, _ = client.next_tracks()
    assert header["status"] == "rejected"
    assert "without an image" in header["reason"]
    header, parts = client.next_tracks()
    assert sorted(array(header, parts, "track_ids")) == [0, 1, 2]
    error = client.recv_kind("error")
    assert (error["code"], error["seq"]) == ("invalid_frame", 1)
    assert "send images" in error["message"]


def test_a_stream_without_images_is_tracked_if_it_gives_its_frame_shape(client: RawClient):
    config = {"use_vis_feats": False, "overlap_thresh": 0.0}
    client.open(client.stream, config=config, frame_shape=[320, 960])
    for seq in range(4):
        send(client, seq, image=None)
        header, parts = client.next_tracks()
        assert sorted(array(header, parts, "track_ids")) == [0, 1, 2]


def test_a_frame_of_unknown_size_is_rejected(client: RawClient):
    client.open(client.stream, config={"use_vis_feats": False})
    send(client, 0, image=None)
    header, _ = client.next_tracks()
    assert header["status"] == "rejected"
    assert "frame_shape with open" in header["reason"]


def test_a_frame_with_the_wrong_channels_is_rejected(client: RawClient):
    client.open(client.stream, model="colour", config={"crop_size": 24})
    send(client, 0, image=np.repeat(IMAGE[..., None], 2, axis=2))
    header, _ = client.next_tracks()
    assert header["status"] == "rejected"
    assert "1 or 3 channels for this model; got 2" in header["reason"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"model": "pair"}, "model 'pair': anchors must be 2 for this model"),
        ({"config": {"anchors": ["head", "tail"]}}, "anchors must name nodes of the skeleton"),
        (
            {"model": "pair", "config": {"anchors": ["head", "nose"]}, "skeleton": {"nodes": ["head", "tail"]}},
            "anchors must name nodes of the skeleton (head, tail); got 'nose'",
        ),
        ({"model": "colour", "frame_shape": [320, 960, 2]}, "the image must have 1 or 3 channels"),
        (
            {"model": "pair", "config": {"anchors": 2}, "skeleton": {"nodes": ["head"]}},
            "anchors must be at most the skeleton's 1 nodes; got 2",
        ),
        ({"config": {"crop_size": 100_000}}, "crop_size + 2 padding must be at most"),
    ],
)
def test_an_open_that_does_not_fit_the_model_is_refused(client: RawClient, fields: dict[str, Any], complaint: str):
    fields = {"config": {}, **fields}
    if "skeleton" in fields:
        fields["skeleton"] = {**fields["skeleton"], "edges": []}
    error = client.open(client.stream, **fields)
    assert (error["kind"], error["code"]) == ("error", "bad_config")
    assert complaint in error["message"]


def test_settings_that_do_not_fit_the_model_are_refused_later_too(client: RawClient):
    client.open(client.stream)
    reply = client.request("stream.configure", stream=client.stream, config={"anchors": 2})
    assert reply["error"]["code"] == "bad_config"
    reply = client.request("stream.configure", stream=client.stream, config={"crop_size": 32, "window_size": 3})
    assert reply["result"]["dataset"]["crop_size"] == 32
    send(client, 0)
    assert client.next_tracks()[0]["status"] == "tracked"


def test_a_checkpoint_is_loaded_while_a_stream_runs(tmp_path: Path, checkpoints: dict[str, Path]):
    # A separate daemon: its first checkpoint imports torch too, which makes this the longest load.
    with DaemonProcess("daemon.device=cpu") as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        client.stream = "cam"
        client.open("cam", reply="tracks")
        params = {"name": "late", "path": str(checkpoints["colour"])}
        message = {"v": 1, "kind": "request", "id": 1, "method": "model.load", "params": params}
        client.control.send(msgpack.packb(message))
        seq, waits = 0, []
        while not client.control.poll(0):
            sent = time.monotonic()
            send(client, seq, image=None)
            assert client.recv_kind("tracks")["status"] == "tracked"
            waits.append(time.monotonic() - sent)
            seq += 1
        reply = msgpack.unpackb(client.control.recv())
        assert reply["result"] == {**reply["result"], "name": "late", "device": "cpu", "default": False}
        assert seq > 20  # frames were tracked during the load
        print(f"{seq} frames during the load, the slowest took {max(waits) * 1e3:.0f} ms")
        assert max(waits) < 1.0

        client.stream = "other"
        assert client.open("other", model="late", config={"crop_size": 32}, reply="tracks")["kind"] == "opened"
        send(client, 0)
        assert client.recv_kind("tracks")["status"] == "tracked"


def test_a_load_that_fails_changes_nothing_in_the_daemon(client: RawClient, tmp_path: Path):
    before = client.request("models")["result"]
    bad = bad_file("malicious", tmp_path)
    for params, complaint in (
        ({"name": "x", "path": str(bad)}, str(bad)),
        ({"name": "x", "path": str(tmp_path / "none.ckpt")}, "no such file"),
        ({"name": "first", "path": str(bad)}, "the name 'first' is taken"),
        ({"name": "motion", "path": str(bad)}, "built-in"),
    ):
        error = client.request("model.load", **params)["error"]
        assert error["code"] == "bad_config"
        assert complaint in error["message"]
        assert "\n" not in error["message"]
    assert client.request("model.load", name="x")["error"]["code"] == "bad_message"
    assert client.request("models")["result"] == before
    assert not (tmp_path / "it_ran").exists()
    client.open(client.stream)
    send(client, 0)
    assert client.next_tracks()[0]["status"] == "tracked"
