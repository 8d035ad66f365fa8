"""`trackd track PATH`, without a YAML file, and `from trackd import track`, without sockets."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sleap_io
from checkpoint_files import write_checkpoint
from rich.console import Console

import trackd
from trackd.commands.source import configuration_of
from trackd.commands.track import track as track_recordings
from trackd.config import check_config
from trackd_client import Detections
from trackd_client.configuration import ConfigError
from trackd_client.recordings.motchallenge import read_rows

QUIET = Console(file=io.StringIO())


def boxes(index: int) -> np.ndarray:
    """Three animals that walk past each other, and leave one at a time."""
    centres = np.array([[40 + 3 * index, 60], [160 - 3 * index, 80], [100, 20 + 2 * index]])
    return np.concatenate([centres - 9, centres + 9], axis=1).astype(np.float32)[: 3 - (index % 7 == 6)]


def mot_file(path: Path, n_frames: int = 40) -> Path:
    rows = [
        f"{index + 1},-1,{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},0.9,-1,-1,-1"
        for index in range(n_frames)
        for x1, y1, x2, y2 in boxes(index).tolist()
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def slp_file(path: Path, n_frames: int = 12) -> Path:
    skeleton = sleap_io.Skeleton(nodes=["nose", "tail"], edges=[(0, 1)])
    video = sleap_io.Video(filename="none.mp4", backend_metadata={"shape": (n_frames, 120, 200, 1)}, open_backend=False)
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=index,
            instances=[
                sleap_io.PredictedInstance.from_numpy(box.reshape(2, 2), skeleton, score=0.9) for box in boxes(index)
            ],
        )
        for index in range(n_frames)
    ]
    sleap_io.save_slp(sleap_io.Labels(labeled_frames=frames, videos=[video], skeletons=[skeleton]), str(path))
    return path


def test_a_path_is_tracked_by_the_command_without_a_yaml_file(tmp_path):
    folder = tmp_path / "sessions"
    folder.mkdir()
    for name in ("left", "right"):
        slp_file(folder / f"{name}.slp")
    command = [sys.executable, "-m", "trackd.cli", "track", "sessions", "--output", "out", "--crop-size", "32"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "TRACKD_LOG": "ERROR"}
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "left.slp", "left.txt", "right.slp", "right.txt",
    ]  # fmt: skip


def test_options_become_keys_and_a_checkpoint_brings_dreems_iou(tmp_path):
    source = mot_file(tmp_path / "det.txt")
    config, _ = configuration_of(source, output=tmp_path / "out: 1", crop_size=64)
    assert (config.out_dir, config.dataset.test_dataset.crop_size) == (str(tmp_path / "out: 1"), 64)
    assert (config.ckpt_path, config.tracker.iou) == (None, None)
    checkpoint = write_checkpoint(tmp_path / "tiny.ckpt")
    config, _ = configuration_of(source, ["tracker.max_gap=3"], checkpoint=checkpoint)
    assert (config.ckpt_path, config.tracker.iou, config.tracker.max_gap) == (str(checkpoint), "mult", 3)
    config, _ = configuration_of(source, ["tracker.iou=max"], checkpoint=checkpoint)
    assert config.tracker.iou == "max"
    (tmp_path / "my.yaml").write_text("tracker: {window_size: 4}\n")
    config, base = configuration_of(tmp_path / "my.yaml", checkpoint=checkpoint)
    assert (config.ckpt_path, config.tracker.iou, config.tracker.window_size) == (str(checkpoint), None, 4)
    assert base == tmp_path


def test_iou_add_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError) as caught:
        check_config({"tracker": {"iou": "add"}})
    assert "tracker.iou should be mult, max or null: DREEM's command line names add" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"tracker\.iou should be mult, max or null"):
        trackd.track([], iou="add")


@pytest.mark.parametrize("settings", [{}, {"max_tracks": 3}, {"max_gap": 2, "iou": "mult"}])
def test_tracks_in_memory_are_those_of_the_command(settings, tmp_path):
    source = mot_file(tmp_path / "walk.txt")
    tracked = trackd.track(source, **settings)
    dataset = {"test_dataset": {"det_files": [str(source)]}}
    config = check_config(
        {"out_dir": str(tmp_path / "out"), "dataset": dataset, "tracker": settings, "stream": {"outputs": ["mot"]}}
    )
    track_recordings(config, tmp_path, QUIET)
    rows = read_rows(tmp_path / "out" / "walk.txt")
    assert [frame.frame_index for frame in tracked] == list(range(40))
    for frame in tracked:
        here = rows.at(frame.frame_index)
        kept = frame.track_ids >= 0
        assert (frame.track_ids[kept] + 1).tolist() == rows.ids[here].tolist()
        np.testing.assert_array_equal(frame.boxes[kept], rows.boxes[here])
        assert frame.error is None


def test_a_checkpoint_tracks_in_memory_as_the_command_does(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "tiny.ckpt")
    source = mot_file(tmp_path / "walk.txt", 10)
    images = np.random.default_rng(0).integers(0, 255, (10, 120, 200), np.uint8)
    video = tmp_path / "walk.mp4"
    import cv2

    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 30, (200, 120))
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()
    tracked = trackd.track(source, checkpoint=checkpoint, crop_size=24, video=video, iou="mult")
    config, base = configuration_of(
        source, ["stream.outputs=[mot]"], checkpoint=checkpoint, output=tmp_path / "out", crop_size=24, video=video
    )
    track_recordings(config, base, QUIET)
    rows = read_rows(tmp_path / "out" / "walk.txt")
    found = [frame.track_ids[frame.track_ids >= 0] + 1 for frame in tracked]
    assert np.concatenate(found).tolist() == rows.ids.tolist()


def test_detections_in_memory_say_which_tracks_are_tentative():
    tracked = trackd.track((Detections(boxes=boxes(index)) for index in range(3)), min_hits=3)
    assert [frame.tentative_tracks for frame in tracked] == [tuple(tracked[0].track_ids.tolist())] * 2 + [()]


def test_detections_in_memory_are_tracked_too():
    tracked = trackd.track((Detections(boxes=boxes(index)) for index in range(20)), max_tracks=3)
    assert tracked.track_ids == [0, 1, 2]
    assert tracked[0].new_tracks == (0, 1, 2)
    assert len(tracked) == 20


def test_what_cannot_be_tracked_is_one_line(tmp_path):
    for name in ("a", "b"):
        slp_file(tmp_path / f"{name}.slp", 2)
    with pytest.raises(ConfigError, match=r"holds 2 recordings \(a, b\); give the path of one"):
        trackd.track(tmp_path)
    with pytest.raises(ConfigError, match="no such file or folder"):
        trackd.track(tmp_path / "none.slp")
    with pytest.raises(ConfigError, match=r"tracker\.max_trakcs: unknown key"):
        trackd.track([], max_trakcs=3)


def test_importing_trackd_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import trackd; print(sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "['trackd']"
