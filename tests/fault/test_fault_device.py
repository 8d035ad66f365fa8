"""The device of a checkpoint fails: its memory is full, or it is lost. The failures are staged: no GPU takes part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import RESNET, write_checkpoint
from daemon_process import fixed_ports, wait_until
from fault_tools import FaultDaemon, imbalances, sdk, within
from follower import content

from trackd.daemon import DEVICE_LOST
from trackd_client import Client, Detections, Stream

FRAMES = 24
STREAMS = {"left": "model", "right": "model", "plain": "motion"}  # with their models
CONFIG = {"tracker": {"overlap_thresh": 0.0, "max_tracks": 4}, "dataset": {"crop_size": 24, "padding": 2}}
SIZE = (120, 160)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.ckpt", RESNET)


def frame(stream: str, index: int) -> tuple[np.ndarray, Detections]:
    """Return a frame's image and detections, a function of the stream and the index."""
    rng = np.random.default_rng((sorted(STREAMS).index(stream), index))
    centres = np.array([[30, 30], [80, 60], [130, 90]]) + rng.normal(0, 2, (3, 2)) + index
    boxes = np.concatenate([centres - 8, centres + 8], axis=1).astype(np.float32)
    return rng.integers(0, 255, SIZE, np.uint8), Detections(boxes=boxes[rng.permutation(3)])


def arguments(checkpoint: Path, state: Path) -> tuple[str, ...]:
    ports = fixed_ports()
    return (*ports, f"ckpt_path={checkpoint}", f"daemon.state_dir={state}", "daemon.device=cpu",
            "daemon.encoder_dtype=float32")  # fmt: skip


def opened(client: Client) -> list[Stream]:
    return [client.open_stream(name, model=model, config=CONFIG) for name, model in STREAMS.items()]


def send(streams: Sequence[Stream], index: int) -> None:
    for stream in streams:
        image, detections = frame(stream.name, index)
        stream.send(image, detections, frame_index=index, t_ns=index * 40_000_000)


def rows(client: Client) -> dict[str, list[Any]]:
    """Return the settlements of each stream, from the first to its close."""
    return {name: [content(each) for each in client.tracks(name, from_seq=0, until_closed=True)] for name in STREAMS}


@pytest.fixture(scope="module")
def undisturbed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    with FaultDaemon(*arguments(checkpoint, tmp_path_factory.mktemp("state"))) as daemon, sdk(daemon, 60) as client:
        streams = opened(client)
        for index in range(FRAMES):
            send(streams, index)
        for stream in streams:
            stream.close()
        return rows(client)


@within(170, 170)
@pytest.mark.parametrize("label", ["encode", "score", "update", "copy"])
def test_a_lost_device_ends_the_process_and_the_next_one_continues_with_the_same_ids(
    checkpoint: Path, undisturbed: dict[str, list[Any]], tmp_path: Path, label: str
):
    settings = arguments(checkpoint, tmp_path)
    with FaultDaemon(*settings, env={"TRACKD_DEVICE_FAULT": f"{label}:15:lost"}) as daemon, sdk(daemon, 60) as client:
        streams = opened(client)
        sent = 0
        while daemon.alive and sent < FRAMES:
            send(streams, sent)
            sent += 1
        assert daemon.process.wait(60) == DEVICE_LOST
        wait_until(lambda: bool(daemon.log) and daemon.log[-1].startswith("trackd: the "), 10, "the last line")
        assert "cpu is lost: CUDA error: unspecified launch failure" in daemon.log[-1]
        with FaultDaemon(*settings) as following:
            for index in range(sent, FRAMES):
                send(streams, index)
            for stream in streams:
                stream.close()
            assert rows(client) == undisturbed
            assert following.alive


@within(170, 170)
def test_a_frame_that_the_device_has_no_memory_for_is_rejected_alone_and_a_restart_agrees(
    checkpoint: Path, undisturbed: dict[str, list[Any]], tmp_path: Path
):
    settings = arguments(checkpoint, tmp_path)
    attempts = 14  # seven sizes of pieces, each twice: one frame is rejected, the next one finds memory
    fault = {"TRACKD_DEVICE_FAULT": f"encode:8:memory:{attempts}"}
    with FaultDaemon(*settings, env=fault) as daemon, sdk(daemon, 60) as client:
        streams = [client.open_stream(name, model=STREAMS[name], config=CONFIG) for name in ("left", "plain")]
        for index in range(FRAMES):
            send(streams, index)
            for stream in streams:
                stream.flush()  # so each step has one frame of the checkpoint
        samples = daemon.metrics()
        assert samples['trackd_frames_rejected_total{code="device_out_of_memory",stream="left"}'] == 1
        assert samples["trackd_device_memory_full_total"] == attempts
        assert imbalances(samples) == []
        assert [error.code for error in streams[0].rejected] == ["device_out_of_memory"]
        assert any("stream=left seq=7: rejected: the memory of cpu does not suffice" in line for line in daemon.log)
        daemon.process.kill()
        daemon.process.wait(10)
        with FaultDaemon(*settings):  # it refuses to start if its journal gives other ids
            for stream in streams:
                stream.close()
            found = {
                name: [content(each) for each in client.tracks(name, from_seq=0, until_closed=True)]
                for name in ("left", "plain")
            }
    assert found["plain"] == undisturbed["plain"]
    assert found["left"][:7] == undisturbed["left"][:7]
    assert [each[3] for each in found["left"]] == ["tracked"] * 7 + ["rejected"] + ["tracked"] * (FRAMES - 8)
