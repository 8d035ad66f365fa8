"""A stream whose steps take long does not delay other streams, and a step that takes too long is rejected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from checkpoint_files import DESCRIPTOR, write_checkpoint
from daemon_process import wait_until
from fault_tools import FaultDaemon, imbalances, rounds, within
from raw_client import RawClient, walking_boxes
from witness import Witness, most_p99_ms

PATIENCE_MS = 120_000
SECONDS = rounds(2, 20)
MODEL: dict[str, Any] = {**DESCRIPTOR, "d_model": 128, "nhead": 8, "num_encoder_layers": 2, "num_decoder_layers": 2}
NODES = {"nodes": [f"n{number}" for number in range(256)], "edges": []}
ATTACKS: dict[str, tuple[int, dict[str, Any]]] = {  # instances, fields of `open`
    "plain": (rounds(2048, 4096), {}),
    "iou": (rounds(1024, 4096), {"config": {"iou": "max"}}),
    "confidence": (rounds(1024, 4096), {"config": {"confidence_threshold": 0.3}}),
    "keypoints": (
        rounds(768, 4096),
        {"config": {"max_angle_diff": 30.0, "front_nodes": ["n0"], "back_nodes": ["n1"]}, "skeleton": NODES},
    ),
    "checkpoint": (
        rounds(512, 2048),
        {"model": "slow", "config": {"use_vis_feats": False}, "frame_shape": [1000, 1000]},
    ),
    "image": (2, {}),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultDaemon]:
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "slow.ckpt", MODEL)
    with FaultDaemon() as process:
        with RawClient(process.addresses) as client:
            client.control.rcvtimeo = PATIENCE_MS
            assert "result" in client.request("model.load", name="slow", path=str(path))
        yield process
        assert process.healthy()[0] == 200
        assert imbalances(process.metrics()) == []


def at_one_place(seq: int, n: int) -> np.ndarray:
    """Return n boxes whose centres are within one pixel."""
    corner = np.random.default_rng(seq).uniform(100, 101, (n, 2))
    return np.concatenate([corner, corner + 30], axis=1).astype("<f4")


def png(shape: tuple[int, ...], dtype: type) -> bytes:
    return cv2.imencode(".png", np.zeros(shape, dtype))[1].tobytes()


def send(client: RawClient, stream: str, seq: int, boxes: np.ndarray, image: bytes | None = None, k: int = 0) -> None:
    n = len(boxes)
    parts: list[Any] = [boxes]
    fields: dict[str, Any] = {"boxes": {"dtype": "<f4", "shape": [n, 4], "part": 1}}
    if k:
        offsets = np.random.default_rng(seq).uniform(0, 30, (n, k, 2))
        parts.append((boxes[:, None, :2] + offsets).astype("<f4"))
        fields["keypoints"] = {"dtype": "<f4", "shape": [n, k, 2], "part": 2}
    if image is not None:
        parts.append(image)
    client.send(
        {
            "kind": "frame", "stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq * 10_000_000,
            "image": None if image is None else {"encoding": "png", "part": len(parts)}, "detections": fields,
        },
        *parts,
    )  # fmt: skip


@within(120, 300)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_stream_with_long_steps_does_not_delay_others(daemon: FaultDaemon, attack: str) -> None:
    n, fields = ATTACKS[attack]
    image = png((5700, 5700, 4), np.uint8) if attack == "image" else None  # 130 MB decoded
    with RawClient(daemon.addresses) as client, Witness(daemon.addresses, f"witness-{attack}") as witness:
        client.ingest.rcvtimeo = PATIENCE_MS
        assert client.open(attack, reply="tracks", **fields)["kind"] == "opened"
        seq, until = 0, time.monotonic() + SECONDS
        while seq < 2 or time.monotonic() < until:  # the first frame meets no tracks
            send(client, attack, seq, at_one_place(seq, n), image, len(NODES["nodes"]) if attack == "keypoints" else 0)
            settled = client.recv_kind("tracks", "error")
            assert (settled["kind"], settled["seq"]) == ("tracks", seq), settled
            assert settled["status"] == "tracked" or "limits.step_ms" in settled["reason"], settled
            seq += 1
        client.send({"kind": "close", "stream": attack})
        client.recv_kind("closed")
    assert witness.p99_ms <= most_p99_ms(), f"longest {witness.longest_ms:.0f} ms"
    assert daemon.metrics()["trackd_long_step_seconds_count"] > 0


def test_an_image_that_is_too_large_when_decoded_is_rejected_and_takes_no_memory(daemon: FaultDaemon) -> None:
    file = png((8191, 8192, 4), np.uint16)
    assert len(file) < 1_000_000
    before_mb = daemon.rss_mb
    with RawClient(daemon.addresses) as client, Witness(daemon.addresses, "witness-png") as witness:
        assert client.open("png", reply="tracks")["kind"] == "opened"
        for seq in range(10):
            send(client, "png", seq, walking_boxes(seq), file)
            settled = client.recv_kind("tracks")
            assert settled["status"] == "rejected"
            assert "limits.image_bytes); got 536805376: 8191 x 8192 pixels of 8 bytes" in settled["reason"]
            time.sleep(0.05)
        send(client, "png", 10, walking_boxes(10), png((200, 200, 3), np.uint8))
        assert client.recv_kind("tracks")["status"] == "tracked"
    assert witness.p99_ms <= most_p99_ms()
    assert daemon.rss_mb - before_mb < 150


@within(120, 120)
def test_a_frame_whose_step_takes_too_long_is_rejected_and_smaller_ones_are_tracked() -> None:
    with FaultDaemon("limits.step_ms=5") as daemon, RawClient(daemon.addresses) as client:
        client.ingest.rcvtimeo = PATIENCE_MS
        with Witness(daemon.addresses) as witness:
            assert client.open("slow", reply="tracks", config={"iou": "max"})["kind"] == "opened"
            settled = []
            for seq in range(8):
                send(client, "slow", seq, at_one_place(seq, 2048) if seq % 2 else walking_boxes(seq))
                settled.append(client.recv_kind("tracks"))
        assert [each["status"] for each in settled[::2]] == ["tracked"] * 4
        assert [each["new_tracks"] for each in settled[2::2]][-1] == []
        rejected = [each["reason"] for each in settled if each["status"] == "rejected"]
        assert rejected
        assert any(reason.startswith("the step would take about ") for reason in rejected), rejected
        assert all("2048 instances" in reason and reason.endswith("limits.step_ms allows 5") for reason in rejected)
        samples = daemon.metrics()
        assert samples['trackd_frames_rejected_total{code="step_too_long",stream="slow"}'] == len(rejected)
        assert imbalances(samples) == []
    assert witness.p99_ms <= most_p99_ms()


@within(120, 120)
def test_a_drain_settles_the_frames_behind_a_long_step() -> None:
    with FaultDaemon() as daemon, RawClient(daemon.addresses) as client:
        client.ingest.rcvtimeo = PATIENCE_MS
        assert client.open("slow", config={"iou": "max"})["kind"] == "opened"
        for seq in range(2):
            send(client, "slow", seq, at_one_place(seq, 2048))
        send(client, "slow", 2, walking_boxes(2))
        wait_until(lambda: daemon.metrics()['trackd_frames_tracked_total{stream="slow"}'] >= 1, 20, "the first step")
        daemon.process.terminate()
        while client.recv_kind("ack")["seq"] < 2:
            pass
        assert daemon.process.wait(30) == 0
