"""The role of a DREEM user: each key of `dataset` and `dataloader` has an effect that can be seen."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from dreem_user import DATA, ROOT, Run, User

pytestmark = pytest.mark.shared

# --- which recordings ---


def test_a_folder_pairs_labels_with_videos_by_their_suffixes(user: User) -> None:
    run = user.track("folder")
    assert run.names == ["two_flies"]
    assert run.played[0].with_image == run.indices
    assert len(run.indices) == 8


@pytest.mark.parametrize(
    ("place", "suffix", "name"),
    [("tables", ".csv", "D5_all_spots"), ("xml", ".xml", "pytrackmate_FakeTracks_v3.7")],
)
def test_the_suffix_of_labels_selects_the_format(user: User, place: str, suffix: str, name: str) -> None:
    run = user.track("folder", f"dataset.dir.path={place}", f"dataset.dir.labels_suffix={suffix}")
    assert run.names == [name]
    assert run.n_detections > 0


def test_a_folder_of_label_images_is_a_recording_of_the_cell_tracking_challenge(user: User) -> None:
    folder = "{path: data/dreem_ctc_sample, labels_suffix: .tif, vid_suffix: .tif}"
    run = user.track("folder", f"dataset.dir={folder}", "dataset.clip_length=11")
    assert run.names == ["test_0"]
    assert run.played[0].with_image == list(range(11))


def test_files_override_the_folder_and_a_video_overrides_the_one_that_the_labels_name(user: User) -> None:
    labels = "dataset.slp_files=noisy/two_flies_noisy_detections.slp"
    blind = user.track("folder", labels)
    assert blind.names == ["two_flies_noisy_detections"]
    assert blind.played[0].with_image == []
    assert any("replaying poses without images" in line for line in blind.warnings)
    seen = user.track("folder", labels, "dataset.video_files=sessions/two_flies.mp4")
    assert seen.played[0].with_image == seen.indices == blind.indices


def test_microscopy_reads_tracks_of_a_source_and_videos(user: User) -> None:
    files = json.dumps([[str(path) for path in sorted((DATA / "isbi_receptors").glob("*.tif"))]])
    blind, seen = user.track("receptors", "dataset.source=ISBI"), user.track("receptors", f"dataset.videos={files}")
    assert len(blind.frames) == len(seen.frames) == 100
    assert blind.played[0].with_image == []
    assert seen.played[0].with_image == list(range(9))
    assert seen.scores != blind.scores


def test_crop_size_is_the_box_of_a_spot(user: User) -> None:
    for value, sides in (("20", [20, 20]), ("[30, 40]", [30, 40])):
        frames = user.track("icy", f"dataset.crop_size={value}").frames
        boxes = np.concatenate([frame.detections.boxes for frame in frames])
        np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], np.tile(sides, (len(boxes), 1)), atol=1e-3)


def test_label_images_by_folder_and_by_lists_of_lists_are_the_same_recording(user: User) -> None:
    folder = DATA / "dreem_ctc_sample"
    lists = {
        key: json.dumps([[[str(path)] for path in sorted((folder / place).glob("*.tif"))]])
        for key, place in (("raw_images", "test_0"), ("gt_images", "test_0_GT/TRA"))
    }
    by_folder = user.track("cells")
    by_list = user.track("cells", *(f"dataset.{key}={value}" for key, value in lists.items()))
    assert by_list.ids == by_folder.ids
    assert by_folder.played[0].with_image == list(range(11))
    assert user.track("cells", "dataset.raw_images=null").played[0].with_image == []


def test_gt_list_decides_which_labels_are_identities(user: User) -> None:
    rows = (DATA / "dreem_ctc_sample/test_0_GT/TRA/man_track.txt").read_text().splitlines()
    table = user.folder / "man_track.txt"
    table.write_text("\n".join(row for row in rows if not row.startswith("2 ")))
    without, listed = user.track("cells"), user.track("cells", f"dataset.gt_list={table}")
    truth = [{int(label) for frame in run.frames for label in frame.detections.gt_ids} for run in (without, listed)]
    assert truth[0] - truth[1] == {2}
    assert any("table of tracks does not list" in line for line in listed.warnings)
    assert without.ids == listed.ids  # the truth never reaches assignment


def test_fps_sets_the_capture_times(user: User) -> None:
    for fps in (10, 25):
        frames = user.track("weak", f"dataset.fps={fps}").frames
        assert [frame.t_ns for frame in frames] == [round(frame.frame_index * 1e9 / fps) for frame in frames]


# --- which clips ---


@pytest.mark.parametrize(
    ("settings", "n_frames"),
    [
        ("n_chunks=1", 20),
        ("n_chunks=2", 40),
        ("n_chunks=0.3", 60),
        ("n_chunks=1.0", 200),
        ("n_chunks=1 clip_length=7", 7),
        ("n_chunks=1 chunk=false", 200),
    ],
)
def test_the_keys_of_clips_choose_the_frames(user: User, settings: str, n_frames: int) -> None:
    run = user.track("icy", *(f"dataset.{setting}" for setting in settings.split()))
    assert len(run.indices) == run.summaries[0].frames == n_frames
    assert run.indices == sorted(set(run.indices))


def test_seed_draws_the_clips(user: User) -> None:
    drawn = [user.track("weak", f"dataset.seed={seed}", "dataset.clip_length=10").indices[0] for seed in range(4)]
    assert len(set(drawn)) > 1


def test_shuffle_plays_each_clip_as_a_recording_in_an_order_by_the_seed(user: User) -> None:
    run = user.track("weak", "dataset.clip_length=10", "dataset.n_chunks=5", "dataloader.shuffle=true")
    assert sorted(run.names) == [f"clip.predictions-clip{i:04d}" for i in range(5)]
    assert sorted(run.names) != run.names
    assert [len(played.frames) for played in run.played] == [10] * 5


def test_num_workers_are_processes_that_read_the_same_frames(user: User) -> None:
    slow = ["ckpt_path=null", "stream.queue_depth=1"]  # so that the processes have not ended at the first settlement
    plain, ahead = (user.track("flies", *slow, f"dataloader.num_workers={n}") for n in (0, 2))
    assert (plain.played[0].n_readers, ahead.played[0].n_readers) == (0, 2)
    assert ahead.scores == plain.scores


def test_keys_of_torchs_loader_are_accepted_and_described_as_ignored(user: User) -> None:
    keys = ["batch_size", "pin_memory", "drop_last", "persistent_workers", "prefetch_factor", "timeout"]
    assert user.track("weak", *(f"dataloader.{key}=2" for key in keys)).scores == user.track("weak").scores
    page = (ROOT / "docs/configuration.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| `batch_size`")]
    assert "accepted and ignored" in row
    assert all(f"`{key}`" in row for key in keys)


# --- changes of the frames ---

FLIP = "dataset.augmentations={HorizontalFlip: {p: 1}}"


def test_mode_train_shuffles_the_instances_within_a_frame(user: User) -> None:
    plain, shuffled = (user.track("cells", f"dataset.mode={mode}") for mode in ("test", "train"))
    rows = [[frame.detections.gt_ids.tolist() for frame in run.frames] for run in (plain, shuffled)]
    assert rows[0] != rows[1]
    assert [sorted(ids) for ids in rows[0]] == [sorted(ids) for ids in rows[1]]


def test_augmentations_change_poses_and_images(user: User) -> None:
    plain, flipped = user.track("flies"), user.track("flies", FLIP)
    before, after = (np.concatenate([f.detections.keypoints for f in run.frames]) for run in (plain, flipped))
    np.testing.assert_allclose(after[..., 0], 383 - before[..., 0], atol=1e-3)
    np.testing.assert_allclose(after[..., 1], before[..., 1], atol=1e-3)
    assert flipped.scores != plain.scores
    inverted = user.track("flies", "dataset.augmentations={InvertImg: {p: 1}}").played[0].brightness
    np.testing.assert_allclose(inverted, 255 - np.array(plain.played[0].brightness))


def test_augmentations_outside_of_training_are_one_warning(user: User) -> None:
    (line,) = [line for line in user.track("flies", FLIP).warnings if "augmentations change the frames" in line]
    assert "mode=val names=HorizontalFlip" in line
    trained = user.track("flies", FLIP, "dataset.mode=train")
    assert [line for line in trained.warnings if "augmentations" in line] == []


def test_an_augmentation_of_images_alone_shows_no_warning_of_python(user: User) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        user.track("flies", "ckpt_path=null", "dataset.augmentations={MotionBlur: {p: 1}}")
    assert [str(warning.message) for warning in caught if "keypoints" in str(warning.message)] == []


def test_node_and_instance_dropout(user: User) -> None:
    def visible(run: Run) -> list[int]:
        return [n for f in run.frames for n in np.isfinite(f.detections.keypoints).all(axis=2).sum(axis=1).tolist()]

    plain = user.track("flies")
    nodes = user.track("flies", "dataset.augmentations={NodeDropout: {p: 1.0, n: 2}}")
    assert visible(nodes) == [max(n - 2, 0) for n in visible(plain)]
    instances = user.track("flies", "dataset.augmentations={InstanceDropout: {p: 1.0, n: 1}}")
    assert instances.n_detections == plain.n_detections - len(plain.frames)


def test_max_detection_overlap_leaves_out_overlapping_instances(user: User) -> None:
    large = ["ckpt_path=null", "dataset.crop_size=300"]  # so that the crops of two flies overlap
    plain, pruned = (user.track("flies", *large, f"dataset.max_detection_overlap={value}") for value in (0.0, 0.1))
    assert pruned.n_detections < plain.n_detections
