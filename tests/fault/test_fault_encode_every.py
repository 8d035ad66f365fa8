"""With `encode_every` a daemon that is killed continues with the features that it would have had."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from checkpoint_files import RESNET, write_checkpoint
from daemon_process import fixed_ports
from fault_tools import FaultDaemon, within
from raw_client import RawClient, array

CONFIG = {"crop_size": 24, "padding": 0, "overlap_thresh": 0.0, "encode_every": 5}
FRAMES, KILLED = 16, 8
Row = tuple[list[int], bytes]  # ids, and the scores to the last bit


def scene(seq: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes and the image of a frame: four animals that stay, one that walks, and the camera's noise."""
    rng = np.random.default_rng(seq)
    still = np.random.default_rng(0).integers(40, 215, (200, 400))
    image = np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
    places = np.array([[50, 50], [150, 50], [250, 50], [50, 150], [150 + 8 * seq, 150]]) + rng.normal(0, 0.1, (5, 2))
    return np.concatenate([places - 10, places + 10], axis=1).astype("<f4"), image


def track(client: RawClient, first: int, last: int) -> list[Row]:
    """Send the frames `first` to `last`, which is not included; return what is published of each."""
    found = []
    for seq in range(first, last):
        boxes, image = scene(seq)
        client.send(
            {
                "kind": "frame", "stream": "rig", "seq": seq, "frame_index": seq, "t_ns": seq * 40_000_000,
                "image": {"encoding": "raw", "data": {"dtype": "|u1", "shape": list(image.shape), "part": 2}},
                "detections": {"boxes": {"dtype": "<f4", "shape": list(boxes.shape), "part": 1}},
            },
            boxes, image,
        )  # fmt: skip
        while True:
            head, *parts = client.ingest.recv_multipart()
            header: dict[str, Any] = msgpack.unpackb(head)
            if header["kind"] == "tracks":
                break
            assert header["kind"] == "ack", header
        assert header["status"] == "tracked", header
        found.append((array(header, parts, "track_ids").tolist(), array(header, parts, "track_scores").tobytes()))
    return found


def run(folder: Path, checkpoint: Path, config: dict[str, Any], kill: bool, changes: bool = False) -> list[Row]:
    """Track all frames; the daemon may be killed in between, and a setting be changed just before."""
    arguments = (*fixed_ports(), f"daemon.state_dir={folder}", "daemon.device=cpu", f"ckpt_path={checkpoint}")
    ends = [KILLED, FRAMES] if kill else [FRAMES]
    found: list[Row] = []
    for end in ends:
        with FaultDaemon(*arguments) as daemon, RawClient(daemon.addresses) as client:
            client.control.rcvtimeo = client.ingest.rcvtimeo = 60_000
            opened = client.open("rig", reply="tracks", **({} if found else {"config": config}))
            assert (opened["kind"], opened["next_seq"]) == ("opened", len(found)), opened
            found += track(client, len(found), end)
            if end < FRAMES:
                if changes:
                    assert "result" in client.request("stream.configure", stream="rig", config={"max_gap": 30})
                daemon.process.send_signal(signal.SIGKILL)
                daemon.process.wait(10)
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "rig.ckpt", RESNET)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> list[Row]:
    return run(tmp_path_factory.mktemp("state"), checkpoint, CONFIG, kill=False)


@within(120, 120)
def test_a_killed_daemon_continues_with_the_same_ids_and_scores(
    tmp_path: Path, checkpoint: Path, uninterrupted: list[Row]
):
    assert run(tmp_path, checkpoint, CONFIG, kill=True) == uninterrupted


@within(120, 120)
def test_a_daemon_that_is_killed_after_a_snapshot_continues_with_the_same_ids_and_scores(
    tmp_path: Path, checkpoint: Path, uninterrupted: list[Row]
):
    """A change of settings stores a snapshot, and no frame comes after it."""
    assert run(tmp_path, checkpoint, CONFIG, kill=True, changes=True) == uninterrupted


@within(120, 120)
def test_the_scores_show_which_features_were_used_again(tmp_path: Path, checkpoint: Path, uninterrupted: list[Row]):
    """So the equal scores above are not those of a daemon that encodes everything again."""
    always = run(tmp_path, checkpoint, {**CONFIG, "encode_every": 1}, kill=False)
    assert always[0] == uninterrupted[0]
    assert all(ours != other for ours, other in zip(uninterrupted[1:], always[1:], strict=True))
