"""The role of a DREEM user: each key of `tracker`, of the checkpoint and of the outputs has an effect that can be seen.

A key that has none is asserted to be described so in docs/. The recordings' keys are in test_role_dreem_recordings.py.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from dreem_user import ROOT, SHARED, Run, User
from rich.console import Console

from trackd.commands.track import IncompleteError, track
from trackd.config import TRAINING_ONLY, TrackerConfig, load_config
from trackd_client.exit_codes import exit_code
from trackd_client.recordings.config import Dataloader, Folder, TestDataset

pytestmark = pytest.mark.shared

PAGE = (ROOT / "docs/configuration.md").read_text()

# --- tracker: the recording, other settings, and two values of the key ---

Case = tuple[str, list[str], str, str]
ANGLES = ["tracker.front_nodes=[head]", "tracker.back_nodes=[abdomen]"]
PIXELS = ["tracker.semantics='2026'", "tracker.max_center_dist=5"]
MORE_TRACKS: dict[str, Case] = {  # with the second value there are more tracks than with the first
    "overlap_thresh": ("weak", ["tracker.mult_thresh=false"], "0.01", "0.99"),
    "mult_thresh": ("flies", ["tracker.overlap_thresh=0.3"], "false", "true"),
    "window_size": ("flies", ["tracker.overlap_thresh=0.3"], "1", "8"),
    "max_gap": ("weak", [], "null", "1"),
    "max_gap_s": ("weak", ["dataset.fps=25"], "null", "0.04"),
    "max_center_dist": ("weak", [], "null", "0.0001"),
    "max_tracks": ("weak", ["tracker.overlap_thresh=0.5"], "1", "null"),
    "decay_time": ("flies", ["tracker.overlap_thresh=0.3"], "1.0", "0.3"),
    "iou": ("flies", ["tracker.overlap_thresh=0.3"], "mult", "null"),
}
OTHER_IDS: dict[str, Case] = {  # the ids with the second value are not those with the first
    "semantics": ("weak", ["tracker.max_center_dist=5", "tracker.distance_penalty_multiplier=5"], "'2024'", "'2026'"),
    "distance_penalty_multiplier": ("weak", PIXELS, "0", "5"),
    "use_vis_feats": ("flies", [], "true", "false"),
    "max_angle_diff": ("flies", ANGLES, "0", "1"),
    "angle_diff_penalty_multiplier": ("flies", [*ANGLES, "tracker.max_angle_diff=1"], "0", "5"),
}
OTHER_SCORES: dict[str, Case] = {  # the ids may be equal, but not the scores
    "temperature": ("flies", [], "0.1", "1.0"),
    "front_nodes": ("flies", [ANGLES[1], "tracker.max_angle_diff=1"], "[head]", "[wingL]"),
    "back_nodes": ("flies", [ANGLES[0], "tracker.max_angle_diff=1"], "[abdomen]", "[hindlegL3]"),
}


def two_runs(user: User, key: str, case: Case) -> tuple[Run, Run]:
    name, others, first, second = case
    runs = (user.track(name, *others, f"tracker.{key}={value}") for value in (first, second))
    return next(runs), next(runs)


@pytest.mark.parametrize("key", MORE_TRACKS)
def test_a_key_of_the_tracker_changes_the_number_of_tracks(user: User, key: str) -> None:
    few, many = two_runs(user, key, MORE_TRACKS[key])
    assert few.indices == many.indices
    assert few.n_tracks < many.n_tracks


@pytest.mark.parametrize("key", OTHER_IDS)
def test_a_key_of_the_tracker_changes_the_ids(user: User, key: str) -> None:
    first, second = two_runs(user, key, OTHER_IDS[key])
    assert first.indices == second.indices
    assert first.ids != second.ids


@pytest.mark.parametrize("key", OTHER_SCORES)
def test_a_key_of_the_tracker_changes_the_scores(user: User, key: str) -> None:
    first, second = two_runs(user, key, OTHER_SCORES[key])
    assert first.scores != second.scores


def test_iou_of_both_kinds_in_any_case_and_none_as_dreem_writes_it(user: User) -> None:
    others = ["tracker.window_size=1", "tracker.temperature=1.0"]  # a score is then at most 1, as an IoU is
    mult, largest, off = (user.track("flies", *others, f"tracker.iou={value}") for value in ("mult", "MAX", "None"))
    assert off.scores == user.track("flies", *others).scores
    assert mult.scores != off.scores != largest.scores != mult.scores


def test_with_max_tracks_no_id_is_above_it_and_the_forced_pairs_are_flagged(user: User) -> None:
    run = user.track("weak", "tracker.overlap_thresh=0.5", "tracker.max_tracks=1")
    assert {track_id for ids in run.ids for track_id in ids} == {-1, 0}
    assert run.n_flagged("forced") > 0


def test_without_persistent_tracking_no_id_continues_in_the_next_clip(user: User) -> None:
    settings = [["persistent_tracking=true"], ["persistent_tracking=false"]]
    kept, ended = (user.track("icy", "dataset.n_chunks=1.0", *(f"tracker.{key}" for key in keys)) for keys in settings)

    def ids_of_clips(run: Run) -> list[set[int]]:
        return [{track_id for ids in run.ids[at : at + 20] for track_id in ids} for at in (0, 20)]

    assert len(kept.frames) == len(ended.frames) == 200
    assert set.isdisjoint(*ids_of_clips(ended))
    assert not set.isdisjoint(*ids_of_clips(kept))
    one_clip = ["dataset.chunk=false", "dataset.n_chunks=1.0", "tracker.persistent_tracking=false"]
    assert user.track("icy", *one_clip).ids == kept.ids


def test_confidence_threshold_flags_frames(user: User) -> None:
    runs = [user.track("flies", f"tracker.confidence_threshold={value}") for value in (0, 0.9)]
    none, some = (run.n_flagged("low_confidence") for run in runs)
    assert none == 0 < some


def test_mult_thresh_shows_where_scores_are_low_or_the_threshold_is_high(user: User) -> None:
    """At DREEM's 0.01, 8 observations make the threshold 0.08: below the scores of flies that are seen well."""

    def ids(name: str, *settings: str) -> list[list[list[int]]]:
        return [user.track(name, *settings, f"tracker.mult_thresh={value}").ids for value in ("true", "false")]

    for name, threshold, equal in (("flies", 0.01, True), ("flies", 0.3, False)):
        true, false = ids(name, f"tracker.overlap_thresh={threshold}")
        assert (true == false) is equal, (name, threshold)


def test_mult_thresh_applies_without_a_checkpoint_only_where_it_is_true_as_described(user: User) -> None:
    for name, threshold, differs in (("weak", 0.5, True), ("icy", 0.01, False)):
        settings = [f"tracker.overlap_thresh={threshold}"]
        unset, null, false, true = (
            user.track(name, *settings, *given)
            for given in ([], *([f"tracker.mult_thresh={value}"] for value in ("null", "false", "true")))
        )
        assert unset.ids == null.ids == false.ids
        assert (true.n_tracks > unset.n_tracks) is (true.ids != unset.ids) is differs
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `mult_thresh`")]
    assert "false with `motion`, which has one observation behind a score" in row


def test_decay_time_without_a_checkpoint_has_no_effect_as_described(user: User) -> None:
    assert user.track("weak", "tracker.decay_time=0.3").scores == user.track("weak").scores
    assert "So `decay_time` has no effect" in (ROOT / "docs/tracking.md").read_text()


def test_a_distance_in_pixels_under_the_old_meaning_is_one_warning(user: User) -> None:
    run = user.track("weak", "tracker.max_center_dist=60")
    (line,) = [line for line in run.warnings if "max_center_dist" in line]
    assert 'set tracker.semantics to "2026"' in line
    assert run.ids == user.track("weak").ids


# --- the checkpoint, and what it sees ---

SEEN_BY_A_CHECKPOINT = {
    "dataset.crop_size": ("64", "32"),
    "dataset.padding": ("5", "0"),
    "dataset.anchors": ("centroid", "head"),
    "dataset.dilation_radius_px": ("0", "4"),
    "dataset.pixel_range": ("unit", "raw"),
    "model.temporal_input": ("index", "fraction"),
    "ckpt_path": ("oracle/ckpt/desc_learned.ckpt", "oracle/ckpt/desc_fixed.ckpt"),
}


@pytest.mark.parametrize("key", SEEN_BY_A_CHECKPOINT)
def test_a_key_of_the_crops_or_of_the_model_changes_the_scores(user: User, key: str) -> None:
    first, second = (user.track("flies", f"{key}={value}") for value in SEEN_BY_A_CHECKPOINT[key])
    assert first.indices == second.indices
    assert first.scores != second.scores


def test_use_vis_feats_false_needs_no_images_but_their_size(user: User) -> None:
    model = "ckpt_path=oracle/ckpt/desc_learned.ckpt"
    spots = ["dataset.dir.path=xml", "dataset.dir.labels_suffix=.xml", model]  # TrackMate notes the size of the images
    with pytest.raises(IncompleteError, match="6 of 6 frames were rejected"):
        user.track("folder", *spots)
    run = user.track("folder", *spots, "tracker.use_vis_feats=false")
    assert len(run.frames) == 6
    assert run.n_tracks > 0
    poses = ["dataset.slp_files=noisy/two_flies_noisy_detections.slp", model]  # a .slp without its video does not
    with pytest.raises(IncompleteError, match="8 of 8 frames were rejected"):
        user.track("folder", *poses, "tracker.use_vis_feats=false")
    page = " ".join((ROOT / "docs/checkpoints.md").read_text().split())
    assert "a SLEAP recording without its video cannot be tracked with a checkpoint" in page


HALF_OF_THE_NODES = "dataset.augmentations={NodeDropout: {p: 0.5}}"


def test_handle_missing_says_what_happens_to_a_pose_without_the_anchor(user: User) -> None:
    kept, ignored, dropped = (
        user.track("flies", HALF_OF_THE_NODES, "dataset.anchors=head", f"dataset.handle_missing={value}")
        for value in ("centroid", "ignore", "drop")
    )
    assert kept.n_detections == dropped.n_detections
    assert kept.n_unassigned == 0 < dropped.n_unassigned
    assert ignored.scores != kept.scores


def test_two_anchors_by_name_or_drawn_need_a_checkpoint_of_two(user: User) -> None:
    model = "ckpt_path=oracle/ckpt/desc_multi.ckpt"
    named, drawn = (user.track("flies", model, f"dataset.anchors={value}") for value in ("[head, thorax]", "2"))
    assert named.n_tracks >= 2
    assert drawn.scores != named.scores


def test_a_list_of_checkpoints_is_run_one_after_the_other_into_folders(user: User) -> None:
    paths = [f"oracle/ckpt/{name}.ckpt" for name in ("desc_learned", "desc_fixed")]
    run = user.track("flies", f"ckpt_path=[{', '.join(paths)}]")
    assert {path.parent.name for path in run.out_dir.rglob("*.txt")} == {"desc_learned", "desc_fixed"}
    assert [played.tracks[0].status for played in run.played] == ["tracked"] * 2
    assert run.scores == [scores for path in paths for scores in user.track("flies", f"ckpt_path={path}").scores]


# --- where the outputs are ---


@pytest.mark.parametrize("key", ["out_dir", "outdir"])
def test_out_dir_by_both_of_its_names_is_where_the_files_are(user: User, tmp_path: Path, key: str) -> None:
    run = user.track("spots", f"{key}={tmp_path / 'mine'}")
    assert run.out_dir == tmp_path / "mine"
    assert [path.name for path in run.out_dir.iterdir()] == ["D5_all_spots.txt"]


def test_the_microscopy_file_of_dreems_users_runs_as_it_stands(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test_parity_track.py runs the other two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKD_SHARED", str(SHARED))
    file = SHARED / "dreem_yaml" / "microscopy.yaml"
    (summary,) = track(load_config(file, environment={}), file.parent, Console(file=io.StringIO()))
    assert (summary.name, summary.frames) == ("D5_all_spots", 9)
    assert sorted(path.name for path in Path("results").iterdir()) == ["D5_all_spots.slp", "D5_all_spots.txt"]


# --- what cannot be used ---

TEST = "dataset.test_dataset"
ERRORS = {
    "tracker.iou=giou": "tracker.iou should be 'mult' or 'max'; got 'giou'",
    "tracker.window_size=0": "tracker.window_size should be greater than or equal to 1; got 0",
    "tracker.decay_time=0": "tracker.decay_time should be greater than 0; got 0",
    "tracker.max_tracks=0": "tracker.max_tracks should be greater than or equal to 1; got 0",
    "tracker.mult_thresh=1": "tracker.mult_thresh should be",
    "tracker.windowsize=3": "tracker.windowsize: unknown key; did you mean 'window_size'?",
    "dataset.anchors=nosuch": "anchors must name nodes of the skeleton (",
    "dataset.anchors=50": "anchors must be at most the skeleton's 24 nodes; got 50",
    "dataset.anchors=[head, thorax]": "anchors must be 1 for this model",
    "dataset.handle_missing=maybe": f"{TEST}.handle_missing should be 'drop', 'ignore' or 'centroid'; got 'maybe'",
    "dataset.crop_size=0": f"{TEST}.crop_size must be a whole number of pixels",
    "dataset.padding=-1": f"{TEST}.padding should be greater than or equal to 0; got -1",
    "dataset.n_chunks=0": f"{TEST}.n_chunks must be a fraction of the clips",
    "dataset.clip_length=0": f"{TEST}.clip_length should be greater than or equal to 1; got 0",
    "dataset.mode=testing": f"{TEST}.mode should be 'train', 'val' or 'test'; got 'testing'",
    "dataset.augmentations={Rotated: {p: 1}}": "no such augmentation; did you mean 'Rotate'",
    "dataset.augmentations={Rotate: {limits: 4}}": "Rotate.limits: unknown key; did you mean 'limit'",
    "dataset.slp_files=none.slp": f"{TEST}.slp_files: no such file: none.slp",
    "dataset.video_files=[a.mp4, b.mp4]": "video_files must name one video for each of slp_files (1, not 2)",
    "dataset.video_files=none.mp4": f"{TEST}.video_files: no such file: none.mp4",
    "dataset.dir={path: sessions, vid_suffix: .avi}": ".avi",
    "dataset.dir={path: sessions, labels_suffix: .h5}": f"{TEST}.dir.labels_suffix must end in one of",
    "dataset.source=imaris": f"{TEST}.source must be one of",
    "dataloader.num_workers=-1": "num_workers should be greater than or equal to 0; got -1",
    "ckpt_path=none.ckpt": "ckpt_path: no such file: none.ckpt",
}


@pytest.mark.parametrize("setting", ERRORS)
def test_a_value_that_cannot_be_used_is_one_line_and_exit_code_2(user: User, setting: str) -> None:
    # A folder is read only where no file is named, and a checkpoint is loaded only where the error needs it.
    others = ["dataset.slp_files=[]", "dataset.video_files=[]"] if "dir=" in setting else []
    others += [] if "model" in ERRORS[setting] or "ckpt" in setting else ["ckpt_path=null"]
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- of several types; the exit code tells which are meant
        user.track("flies", *others, setting)
    assert exit_code(caught.value) == 2
    assert ERRORS[setting] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_training_parts_of_a_file_are_one_warning_that_names_them(user: User) -> None:
    keys = {
        "trainer": "{max_epochs: 1}",
        "optimizer": "{lr: 1e-3}",
        "save_frame_meta": "false",
        "model": "{d_model: 8}",
    }
    assert keys.keys() - TRAINING_ONLY == {"model"}
    run = user.track("spots", *(f"{key}={value}" for key, value in keys.items()))
    (line,) = [line for line in run.warnings if "does not train" in line]
    assert all(key in line for key in ("trainer", "optimizer", "save_frame_meta", "model.d_model"))


def test_every_key_has_a_case() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("*dreem*.py"))
    keys = {key for part in (TrackerConfig, TestDataset, Dataloader, Folder) for key in part.model_fields}
    elsewhere = {
        "divisions",
        "det_files",
        "encode_change",
        "encode_every",
        "gallery",
        "gt_files",
        "learn_identities",
        "min_hits",
        "pixel_size",
        "track_files",
        "use_scores",
    }  # trackd's own, with tests of their own
    assert [key for key in sorted(keys - elsewhere) if not re.search(rf'\b{key}[=:."]', text)] == []
