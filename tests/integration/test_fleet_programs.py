"""The programs of the SDK with a fleet: real members, real NATS servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from daemon_process import wait_until
from fleet_of_daemons import FleetOfDaemons
from followed import follow
from nats_cluster import NatsCluster

from trackd.commands.demo.recording import make_recording
from trackd_client import AsyncFleetClient, Detections, FleetClient, Tracks

N_FRAMES = 180


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetOfDaemons]:
    with NatsCluster(3) as cluster, FleetOfDaemons(cluster.urls, tmp_path_factory.mktemp("fleet")) as members:
        yield members


def program(fleet: FleetOfDaemons, *words: str) -> list[str]:
    """Return a command of `trackd-client` that knows one member only."""
    return [sys.executable, "-m", "trackd_client.apps.cli", *words, "--fleet", fleet.members[1].at["control"]]


def test_a_replayed_recording_survives_the_death_of_its_owner(fleet, tmp_path):
    files = make_recording(tmp_path, seed=3, n_frames=N_FRAMES)
    tree = {"dataset": {"test_dataset": {"slp_files": [str(files.slp)], "video_files": [str(files.video)]}}}
    config = tmp_path / "inference.yaml"
    config.write_text(yaml.safe_dump(tree))
    rows: dict[str, list[Tracks]] = {"killed": [], "undisturbed": []}
    followers = {
        stream: follow(FleetClient(fleet.controls(), timeout_s=30), stream, into, from_seq=0)
        for stream, into in rows.items()
    }

    running = subprocess.Popen(
        program(fleet, "replay", str(config), "--stream", "killed", "--timeout-s", "30"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(rows["killed"]) > 40 or running.poll() is not None, 30, "40 settlements")
        owner = fleet.owner("killed")
        owner.kill()
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate(timeout=10)
    assert running.returncode == 0, stderr
    done = subprocess.run(
        program(fleet, "replay", str(config), "--stream", "undisturbed", "--speed", "max"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for stream, follower in followers.items():
        follower.join(30)
        assert [tracks.seq for tracks in rows[stream]] == list(range(N_FRAMES)), stream
    killed, undisturbed = ([tracks.track_ids.tolist() for tracks in rows[stream]] for stream in rows)
    assert killed == undisturbed
    owner.start()
    wait_until(owner.is_ready, 30)


def test_programs_see_the_streams_of_all_members(fleet):
    box = Detections(boxes=[[10, 10, 60, 60]])
    with FleetClient(fleet.controls(), timeout_s=20) as client:
        names = [f"shown{number}" for number in range(8)]
        for name in names:
            stream = client.open_stream(name, frame_shape=(100, 100))
            for index in range(3):
                stream.send(None, box, frame_index=index)
            stream.flush()
        assert len({fleet.owner(name).name for name in names}) > 1
        assert [row.stream for row in client.streams()] == names
        assert {row.next_seq for row in client.streams()} == {3}

        async def rows() -> list[str]:
            async with AsyncFleetClient(fleet.controls(), timeout_s=20) as other:
                return [row.stream for row in await other.streams()]

        assert asyncio.run(rows()) == names

        named = subprocess.run(
            program(fleet, "correct", "shown5", "rename", "0", "Ann", "--json"),
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert named.returncode == 0, named.stderr
        assert json.loads(named.stdout)["stream"] == "shown5"
        shown = subprocess.run(
            program(fleet, "watch", "--once"), capture_output=True, text=True, timeout=60, check=False
        )
        assert shown.returncode == 0, shown.stderr
        assert all(name in shown.stdout for name in names)
        assert client.live("shown5").tracks[0].name == "Ann"


def test_a_fleet_without_a_living_member_is_one_clear_line():
    command = [sys.executable, "-m", "trackd_client.apps.cli", "events", "--timeout-s", "1"]
    done = subprocess.run(
        [*command, "--fleet", "tcp://127.0.0.1:9", "--fleet", "tcp://127.0.0.1:11"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no member of the fleet answered" in done.stderr
    assert "tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_programs_take_a_folder_of_recorded_messages_from_a_fleet(fleet, tmp_path: Path):
    running = subprocess.Popen(
        program(fleet, "record", str(tmp_path / "log"), "noted"), stderr=subprocess.PIPE, text=True
    )
    try:
        with FleetClient(fleet.controls(), timeout_s=20) as client:
            wait_until(lambda: (tmp_path / "log").is_dir() or running.poll() is not None, 20, "the folder")
            stream = client.open_stream("noted", frame_shape=(100, 100))
            for index in range(20):
                stream.send(None, Detections(boxes=[[10 + index, 10, 60 + index, 60]]), frame_index=index)
            stream.close()
            wait_until(lambda: any(path.stat().st_size > 20 * 100 for path in (tmp_path / "log").iterdir()), 20)
    finally:
        running.send_signal(2)
        _, stderr = running.communicate(timeout=20)
    assert running.returncode in (0, 130), stderr
