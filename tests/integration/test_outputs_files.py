"""Recordings that a whole daemon tracks and writes: only the ids change. And scores against those of other programs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import sleap_io
import tifffile
import yaml
from rich.console import Console

from trackd.commands.eval import evaluate
from trackd.commands.track import track
from trackd.config import check_config
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.motchallenge import read_rows

QUIET = Console(file=io.StringIO())


def config(out_dir: Path, outputs: list[str], tracker: dict[str, object] | None = None, **dataset: object):
    return check_config(
        {
            "out_dir": str(out_dir),
            "dataset": {"test_dataset": dataset},
            "stream": {"outputs": outputs},
            "tracker": tracker or {},
        }
    )


def frames_of(dataset: dict[str, object]):
    (recording,) = open_recordings(TestDataset(**dataset), DataloaderConfig(), Path())
    return list(recording.frames())


def ctc_folder(shared: Path, name: str) -> dict[str, object]:
    return {"dir": {"path": [str(shared / "data" / name)], "labels_suffix": ".tif", "vid_suffix": ".tif"}}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dreem_two_flies/two_flies_noisy_detections", "dreem_ten_zfish/ten_zfish"])
def test_slp_to_slp_changes_nothing_but_ids(shared, tmp_path, name):
    path = shared / "data" / f"{name}.slp"
    track(config(tmp_path, ["slp"], slp_files=[str(path)]), tmp_path, QUIET)
    before, after = (sleap_io.load_slp(str(p), open_videos=False) for p in (path, tmp_path / path.name))
    assert after.skeletons[0].node_names == before.skeletons[0].node_names
    assert after.skeletons[0].edge_inds == before.skeletons[0].edge_inds
    old = {frame.frame_idx: frame for frame in before}
    new = {frame.frame_idx: frame for frame in after}
    assert new.keys() == {index for index, frame in old.items() if frame.instances}
    for index, frame in new.items():
        np.testing.assert_array_equal(
            [instance.numpy() for instance in frame], [instance.numpy() for instance in old[index]]
        )


@pytest.mark.shared
def test_mot_to_mot_changes_nothing_but_ids(shared, tmp_path):
    path = shared / "data/mot15_TUD-Campus/det.txt"
    track(config(tmp_path, ["mot"], det_files=[str(path)]), tmp_path, QUIET)
    before, after = read_rows(path), read_rows(tmp_path / "mot15_TUD-Campus.txt")
    for name in ("frame_index", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.shared
def test_ctc_to_ctc_changes_nothing_but_labels(shared, tmp_path):
    dataset = ctc_folder(shared, "ctc_DIC-C2DH-HeLa_01")
    track(config(tmp_path, ["ctc"], tracker={"divisions": True}, **dataset), tmp_path, QUIET)
    before = frames_of(dataset)
    folder = tmp_path / "01_RES"
    for frame in before:
        image = tifffile.imread(folder / f"mask{frame.frame_index:03d}.tif")
        old = frame.detections.masks
        # The same shapes under other labels: one to one.
        pairs = np.divmod(np.unique(old.astype(np.int64) * 2**32 + image), 2**32)
        assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))
    again = frames_of({"gt_images": [[str(path) for path in sorted(folder.glob("*.tif"))]],
                       "gt_list": [str(folder / "res_track.txt")]})  # fmt: skip
    for old, new in zip(before, again, strict=True):
        assert new.frame_index == old.frame_index
        key = lambda boxes: sorted(map(tuple, boxes.tolist()))  # noqa: E731
        assert key(new.detections.boxes) == key(old.detections.boxes)


@pytest.mark.shared
def test_trackmate_to_trackmate_changes_nothing_but_ids(shared, tmp_path):
    dataset = {"tracks": [str(shared / "data/trackmate_csv/D5_all_spots.csv")], "source": "trackmate"}
    track(config(tmp_path, ["trackmate"], **dataset), tmp_path, QUIET)
    (written,) = tmp_path.glob("*_spots.csv")
    before, after = frames_of(dataset), frames_of({"tracks": [str(written)], "source": "trackmate"})
    assert [len(frame.detections) for frame in after] == [len(frame.detections) for frame in before]
    for old, new in zip(before, after, strict=True):
        assert new.frame_index == old.frame_index
        np.testing.assert_array_equal(np.sort(new.detections.keypoints, 0), np.sort(old.detections.keypoints, 0))


@pytest.mark.shared
def test_scores_equal_the_reference_program_to_the_digit(shared, tmp_path):
    names = ["mot17_09", "mot15_TUD-Campus"]
    files = {
        key: [str(shared / "data" / name / f"{key[:-6]}.txt") for name in names] for key in ("det_files", "gt_files")
    }
    *rows, total = evaluate(config(tmp_path, ["mot"], **files), tmp_path, console=QUIET)
    sys.path.insert(0, str(shared / "peers"))
    import score

    pairs = [(gt, tmp_path / f"{name}.txt") for gt, name in zip(files["gt_files"], names, strict=True)]
    expected_total, expected = score.score_files(pairs)
    for row, theirs in [*zip(rows, expected, strict=True), (total, expected_total)]:
        ours = row.tracking
        for name in ("hota", "deta", "assa", "idf1", "mota"):
            assert 100 * getattr(ours, name) == getattr(theirs, name), (row.name, name)
        assert (ours.id_switches, ours.fragmentations) == (theirs.idsw, theirs.frag)
        assert (ours.false_positives, ours.false_negatives, ours.n_gt_detections) == (theirs.fp, theirs.fn, theirs.gt)


@pytest.mark.shared
@pytest.mark.parametrize("divisions", [False, True])
def test_cell_scores_equal_those_of_the_result_folder(shared, tmp_path, divisions):
    from ctc_metrics.scripts.evaluate import evaluate_sequence

    dataset = ctc_folder(shared, "ctc_DIC-C2DH-HeLa_01")
    (row,) = evaluate(config(tmp_path, ["ctc"], tracker={"divisions": divisions}, **dataset), tmp_path, console=QUIET)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = str(shared / "data/ctc_DIC-C2DH-HeLa_01/01_GT")
        theirs = evaluate_sequence(str(tmp_path / "01_RES"), truth, ["Valid", "TRA", "DET", "LNK", "BC"], 1)
    assert theirs["Valid"] == 1
    assert row.cells is not None
    assert (row.cells.tra, row.cells.det, row.cells.lnk) == pytest.approx([theirs[k] for k in ("TRA", "DET", "LNK")])
    found = row.cells.divisions
    assert (found.found, found.false, found.missed) == tuple(theirs[f"{k}_div(1)"] for k in ("tp", "fp", "fn"))
    assert (found.found >= 6) is divisions
    saved = json.loads((tmp_path / "eval" / "scores.json").read_text())
    assert saved[0]["divisions_found"] == found.found
    assert (tmp_path / "eval" / "01.png").stat().st_size > 5000


@pytest.mark.shared
def test_render_writes_every_frame_with_the_ids_on_it(shared, tmp_path):
    folder = shared / "data/dreem_three_flies"
    dataset = {"slp_files": [str(folder / "three_flies.slp")], "video_files": [str(folder / "three_flies.mp4")]}
    track(config(tmp_path, ["mot"], **dataset), tmp_path, QUIET, render=True)
    video = cv2.VideoCapture(str(tmp_path / "three_flies.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 128
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    frame = video.read()[1]
    assert (np.ptp(frame.astype(int), axis=2) > 80).any()  # colour on a gray video


def test_a_recording_without_ground_truth_is_one_clear_line(tmp_path):
    (tmp_path / "det.txt").write_text("1,-1,1,1,10,10,1,-1,-1,-1\n2,-1,1,1,10,10,1,-1,-1,-1\n")
    tree = {"out_dir": str(tmp_path / "out"), "dataset": {"test_dataset": {"det_files": [str(tmp_path / "det.txt")]}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "trackd.cli", "eval", str(tmp_path / "c.yaml")]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "TRACKD_LOG": "ERROR"}
    )
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "ground truth" in result.stderr


def test_frames_that_a_killed_run_had_settled_are_recovered(tmp_path):
    rows = [f"{i},-1,{i},20,30,30,0.9,-1,-1,-1" for i in range(1, 20001)]
    (tmp_path / "det.txt").write_text("\n".join(rows))
    out = tmp_path / "out"
    tree = {"out_dir": str(out), "stream": {"outputs": ["slp", "csv"]},
            "dataset": {"test_dataset": {"det_files": [str(tmp_path / "det.txt")], "fps": 30.0}}}  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "trackd.cli", "track", str(tmp_path / "c.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    (name,) = (tmp_path.name,)
    part, table = out / f"{name}.slp.part", out / f"{name}.csv"
    while time.monotonic() < deadline and not (table.exists() and table.stat().st_size > 20_000):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    lines = table.read_text().splitlines()
    assert part.exists()
    command = [sys.executable, "-m", "trackd.cli", "outputs", "recover", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert f"wrote {out / name}.slp" in result.stdout
    labels = sleap_io.load_slp(str(out / f"{name}.slp"), open_videos=False)
    # The writers write one after the other, so the kill may be between them.
    assert len(lines) - 1 <= len(labels) <= len(lines)
    assert [frame.frame_idx for frame in labels] == list(range(len(labels)))
