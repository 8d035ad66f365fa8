"""`trackd track` gives DREEM's ids through the whole daemon: video, crops, sockets, window, output files."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
import yaml
from parity_device import DEVICE

FOLDER = oracle.shared_root() / "data" / "dreem_two_flies"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (FOLDER.is_dir() and oracle.case_paths()),
        reason=f"no recording {FOLDER} or no oracle under {oracle.oracle_root()}; set TRACKD_SHARED",
    ),
]
CASES = ("two_flies_plain", "two_flies_w2_max", "two_flies_angle", "resnet_two_flies")


def write_config(case: oracle.Case, folder: Path) -> Path:
    """A DREEM 0.5 inference file for one recorded run, with the crop settings of that run."""
    tracker = {key: value for key, value in case.tracker.items() if value is not None}
    dataset = {
        "slp_files": [str(FOLDER / "two_flies.slp")],
        "video_files": [str(FOLDER / "two_flies.mp4")],
        "crop_size": 64,
        "padding": 5,
        "anchors": "centroid",
        "handle_missing": "centroid",
    }
    tree = {
        "ckpt_path": str(case.checkpoint),
        "outdir": str(folder / "out"),
        "tracker": {**tracker, "semantics": "2026"},
        "dataset": {"test_dataset": dataset},
        "daemon": {"device": str(DEVICE)},
        "stream": {"outputs": ["mot"]},
    }
    path = folder / "inference.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("name", CASES)
def test_trackd_track_gives_dreems_ids_on_a_sleap_recording(tmp_path: Path, name: str):
    case = oracle.read_case(next(path for path in oracle.case_paths() if path.stem == name))
    config = write_config(case, tmp_path)
    command = [sys.executable, "-m", "trackd.cli", "track", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table = np.loadtxt(tmp_path / "out" / "two_flies.txt", delimiter=",", ndmin=2)
    recording = case.recording
    on_record = table[table[:, 0] <= recording.frame_id.max() + 1]  # DREEM ran over the first frames only
    np.testing.assert_array_equal(on_record[:, 0], recording.frame_id[recording.frame_of] + 1)
    pairs = set(zip(on_record[:, 1].tolist(), case.assigned_id.tolist(), strict=True))
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs}) == 2


@pytest.mark.parametrize("name", ["ctc_mult", "ctc_max_mcd_w2", "resnet_ctc"])
def test_trackd_track_gives_dreems_ids_on_label_images(tmp_path: Path, name: str):
    case = oracle.read_case(next(path for path in oracle.case_paths() if path.stem == name))
    folder = {"path": str(oracle.shared_root() / "data" / "dreem_ctc_sample"), "labels_suffix": ".tif"}
    tree = {
        "ckpt_path": str(case.checkpoint),
        "outdir": str(tmp_path / "out"),
        "tracker": {**{k: v for k, v in case.tracker.items() if v is not None}, "semantics": "2026"},
        "dataset": {"test_dataset": {"dir": {**folder, "vid_suffix": ".tif"}, "crop_size": 20, "padding": 5}},
        "daemon": {"device": str(DEVICE)},
        "stream": {"outputs": ["csv"]},
    }
    path = tmp_path / "inference.yaml"
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "trackd.cli", "track", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "test_0.csv").open(newline="") as file:
        ours = [int(row["track_id"]) for row in csv.DictReader(file) if int(row["detection"]) >= 0]
    pairs = set(zip(ours, case.assigned_id.tolist(), strict=True))
    assert len(pairs) == len(set(ours)) == len(set(case.assigned_id.tolist()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inference_2024.yaml", "inference_2026.yaml"])
def test_dreems_own_inference_files_run_unchanged(tmp_path: Path, name: str):
    config = oracle.shared_root() / "dreem_yaml" / name
    command = [sys.executable, "-m", "trackd.cli", "track", str(config)]
    env = {**os.environ, "TRACKD_SHARED": str(oracle.shared_root())}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    recordings = {"inference_2024.yaml": ["three_flies", "two_flies"], "inference_2026.yaml": ["three_flies"]}[name]
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == [f"{recording}{suffix}" for recording in recordings for suffix in (".slp", ".txt")]
