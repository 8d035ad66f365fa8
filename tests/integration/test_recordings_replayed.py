"""A recording gets the same track ids offline and live, alone and beside other streams."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from daemon_process import DaemonProcess, wait_until
from followed import follow

from trackd.commands.demo.recording import make_recording
from trackd.commands.track import track
from trackd.config import Config, check_config
from trackd_client import Client, Status, Tracks
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings

N_FRAMES = 150


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A small recording of five fish, and a configuration that names it."""
    folder = tmp_path_factory.mktemp("recording")
    files = make_recording(folder, seed=3, n_frames=N_FRAMES)
    tree = {
        "tracker": {"max_gap": 60},
        "dataset": {"test_dataset": {"slp_files": [str(files.slp)], "video_files": [str(files.video)]}},
    }
    path = folder / "inference.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def replay(addresses: dict[str, str], config: Path, stream: str, *options: str) -> subprocess.CompletedProcess[str]:
    endpoints = [word for name in ("ingest", "tracks", "control") for word in (f"--{name}", addresses[name])]
    command = [sys.executable, "-m", "trackd_client.apps.cli", "replay", str(config), "--stream", stream]
    return subprocess.run([*command, *endpoints, *options], capture_output=True, text=True, timeout=120)


def client_of(addresses: dict[str, str]) -> Client:
    return Client(**{name: addresses[name] for name in ("ingest", "tracks", "control")})


def ids_of(updates: list[Tracks]) -> list[tuple[int, list[int]]]:
    assert {tracks.status for tracks in updates} == {Status.TRACKED}
    assert [tracks.seq for tracks in updates] == list(range(len(updates)))
    return [(tracks.frame_index, tracks.track_ids.tolist()) for tracks in updates]


def offline_ids(config: Path, out: Path) -> list[tuple[int, list[int]]]:
    """The ids of `trackd track`, read from the .slp that it wrote, in the order of the rows."""
    import sleap_io

    tree = yaml.safe_load(config.read_text())
    (summary,) = track(check_config({**tree, "out_dir": str(out)}), config.parent)
    assert summary.frames == N_FRAMES
    labels = sleap_io.load_slp(str(out / f"{summary.name}.slp"), open_videos=False)
    return sorted((frame.frame_idx, [int(i.track.name) for i in frame.instances]) for frame in labels)


def live_ids(addresses: dict[str, str], config: Path, stream: str) -> list[tuple[int, list[int]]]:
    updates: list[Tracks] = []
    follower = follow(client_of(addresses), stream, updates)
    result = replay(addresses, config, stream, "--speed", "max")
    assert result.returncode == 0, result.stderr
    follower.join(60)
    assert not follower.is_alive()
    return ids_of(updates)


def test_a_replay_gets_the_ids_of_trackd_track_twice_in_a_row_and_beside_three_others(recording, tmp_path):
    offline = offline_ids(recording, tmp_path)
    with DaemonProcess() as daemon:
        first = live_ids(daemon.addresses, recording, "alone")
        second = live_ids(daemon.addresses, recording, "alone")
        others = [threading.Thread(target=replay, args=(daemon.addresses, recording, f"other{i}", "--speed", "max"))
                  for i in range(3)]  # fmt: skip
        for other in others:
            other.start()
        beside = live_ids(daemon.addresses, recording, "beside")
        for other in others:
            other.join(120)
    assert len(first) == N_FRAMES
    assert first == second
    assert first == beside
    # The file holds only frames with detections.
    assert [row for row in first if row[1]] == [row for row in offline if row[1]]


def test_the_fish_keep_their_ids(recording, tmp_path):
    tree = yaml.safe_load(recording.read_text())
    (summary,) = track(check_config({**tree, "out_dir": str(tmp_path)}), recording.parent)
    assert summary.score is not None
    assert summary.score.id_switches == 0
    assert summary.tracks == 5
    assert {path.name for path in tmp_path.iterdir()} == {"demo.slp", "demo.txt"}


def test_every_frame_is_published_with_its_true_index_and_capture_time(recording, tmp_path):
    dataset = TestDataset(**yaml.safe_load(recording.read_text())["dataset"]["test_dataset"])
    (source,) = open_recordings(dataset, DataloaderConfig(), recording.parent)
    expected = [(frame.frame_index, frame.t_ns, len(frame.detections)) for frame in source.frames()]
    updates: list[Tracks] = []
    with DaemonProcess() as daemon:
        follower = follow(client_of(daemon.addresses), "cam", updates)
        assert replay(daemon.addresses, recording, "cam", "--speed", "max").returncode == 0
        follower.join(60)
    assert [(tracks.frame_index, tracks.t_ns, len(tracks.track_ids)) for tracks in updates] == expected


def test_the_frame_numbers_of_a_loop_keep_rising_in_one_stream(recording):
    updates: list[Tracks] = []
    with DaemonProcess() as daemon:
        follower = follow(client_of(daemon.addresses), "cam", updates)
        assert replay(daemon.addresses, recording, "cam", "--speed", "max", "--loop", "2").returncode == 0
        follower.join(60)
    indices = [tracks.frame_index for tracks in updates]
    assert len(indices) == 2 * N_FRAMES
    assert indices == sorted(set(indices))


def test_a_replay_succeeds_after_another_was_killed(recording):
    with DaemonProcess("stream.owner_timeout_s=0.2") as daemon:
        endpoints = [word for name in ("ingest", "tracks", "control") for word in (f"--{name}", daemon.addresses[name])]
        command = [sys.executable, "-m", "trackd_client.apps.cli", "replay", str(recording), "--stream", "cam"]
        killed = subprocess.Popen([*command, *endpoints], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with Client(*(daemon.addresses[name] for name in ("ingest", "tracks", "control"))) as client:
            wait_until(lambda: any(row.tracked > 10 for row in client.status().streams), 20, "the replay")
        killed.kill()
        killed.wait(10)
        time.sleep(0.5)
        result = replay(daemon.addresses, recording, "cam", "--speed", "max")
    assert result.returncode == 0, result.stderr
    assert "0 rejected" in result.stdout


def test_trackd_track_reports_bad_input_in_one_line(recording):
    for override, words in [
        ("dataset.test_dataset.slp_files=[/no/such.slp]", ["/no/such.slp"]),
        ("out_dir=/proc/nowhere", ["out_dir", "/proc/nowhere"]),
        ("dataset.test_dataset.slp_files=[]", ["dataset.test_dataset"]),
        (f"out_dir={recording.parent}", ["out_dir", "folder of the recordings"]),
    ]:
        command = [sys.executable, "-m", "trackd.cli", "track", str(recording), "--set", override]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 2, result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        for word in words:
            assert word in result.stderr


def dataset_config(shared: Path, tmp_path: Path, **dataset: object) -> Config:
    named = {key: [str(shared / "data" / path) for path in value] for key, value in dataset.items()}
    return check_config({"out_dir": str(tmp_path), "dataset": {"test_dataset": named}})


@pytest.mark.shared
@pytest.mark.parametrize(
    ("slp", "video"),
    [
        ("dreem_two_flies/two_flies.slp", "dreem_two_flies/two_flies.mp4"),
        ("dreem_three_flies/three_flies.slp", "dreem_three_flies/three_flies.mp4"),
        ("dreem_ten_zfish/ten_zfish.slp", "dreem_ten_zfish/ten_zfish.mp4"),
        ("sleap_clip_pair/clip.slp", "sleap_clip_pair/clip.mp4"),
    ],
)
def test_real_animals_keep_their_ids_without_a_switch(shared, tmp_path, slp, video):
    config = dataset_config(shared, tmp_path, slp_files=[slp], video_files=[video])
    (summary,) = track(config, tmp_path)
    assert summary.score is not None
    assert summary.score.id_switches == 0
    assert summary.tracks == summary.score.n_gt


@pytest.mark.shared
def test_mot17_is_tracked_to_its_end_and_another_program_scores_the_text(shared, tmp_path):
    config = dataset_config(shared, tmp_path, det_files=["mot17_09/det.txt"], gt_files=["mot17_09/gt.txt"])
    (summary,) = track(config, tmp_path)
    assert summary.frames == 525
    files = [shared / "peers/score.py", shared / "data/mot17_09/gt.txt", tmp_path / "mot17_09.txt"]
    result = subprocess.run([sys.executable, *map(str, files)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    idf1 = float(result.stdout.split("IDF1")[-1].split()[0])
    assert idf1 > 40
    assert np.isfinite(idf1)
