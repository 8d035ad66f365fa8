from pathlib import Path

import pytest
from recording_files import make_skeleton, make_slp, make_stack, make_trackmate, make_video, shared_data, spot, user

from trackd_client.configuration import ConfigError, load_yaml, validate
from trackd_client.recordings.config import Dataloader, DataloaderConfig, DatasetConfig
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.named_files import unique_names
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.transforms.augmentations import AugmentedRecording


def recordings(base, **keys):
    dataset = validate(DatasetConfig, {"test_dataset": keys}).test_dataset
    return open_recordings(dataset, DataloaderConfig(), base)


def fill(folder, *stems):
    folder.mkdir(exist_ok=True)
    worm = make_skeleton()
    for stem in stems:
        make_video(folder / f"{stem}.mp4", 3)
        make_slp(folder / f"{stem}.slp", {0: [user(worm, [[1, 1], [2, 2]])]}, video="missing.mp4")
    return folder


def test_a_folder_is_paired_by_stem_and_sorted(tmp_path):
    fill(tmp_path / "one", "b", "a10", "a9")
    found = recordings(tmp_path, dir={"path": "one"})
    assert [r.name for r in found] == ["a10", "a9", "b"]
    assert [r.source.name for r in found] == ["a10.mp4", "a9.mp4", "b.mp4"]


def test_several_folders_are_read_in_order_and_equal_names_get_their_folders_name(tmp_path):
    fill(tmp_path / "two", "a")
    fill(tmp_path / "one", "a", "b")
    found = recordings(tmp_path, dir={"path": ["two", "one"]})
    assert [r.name for r in found] == ["two_a", "one_a", "b"]


def test_an_unpaired_file_is_an_error_that_names_it(tmp_path):
    fill(tmp_path, "a", "b")
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(ConfigError, match=r"b\.slp has no partner b\.mp4"):
        recordings(tmp_path, dir={"path": "."})
    (tmp_path / "b.slp").unlink()
    (tmp_path / "a.slp").unlink()
    with pytest.raises(ConfigError, match=r"a\.mp4 has no partner a\.slp"):
        recordings(tmp_path, dir={"path": "."})


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no \*\.slp in"):
        recordings(tmp_path, dir={"path": "."})


def test_a_relative_path_is_tried_beside_the_file_then_in_the_working_and_the_shared_folder(tmp_path, monkeypatch):
    places = [fill(tmp_path / name, "a") for name in ("yaml", "here", "shared")]
    monkeypatch.chdir(places[1])
    monkeypatch.setenv("TRACKD_SHARED", str(places[2]))
    for place in places:
        (found,) = recordings(places[0], slp_files=["a.slp"])
        assert found.path.resolve().parent == place
        (place / "a.slp").unlink()
    with pytest.raises(ConfigError, match=r"slp_files: no such file: a\.slp in .*yaml, .*here, .*shared"):
        recordings(places[0], slp_files=["a.slp"])


def test_named_videos_are_paired_with_the_labels_by_position(tmp_path):
    fill(tmp_path, "a", "b")
    found = recordings(tmp_path, slp_files=["a.slp", "b.slp"], video_files=["b.mp4", "a.mp4"])
    assert [r.source.name for r in found] == ["b.mp4", "a.mp4"]


def test_detections_are_paired_with_ground_truth_by_position(tmp_path):
    for name in ("x", "y"):
        (tmp_path / f"{name}.txt").write_text("1,-1,1,1,10,10,1\n")
        (tmp_path / f"{name}_gt.txt").write_text(f"1,{len(name) + ord(name)},1,1,10,10,1,-1,-1,-1\n")
    found = recordings(tmp_path, det_files=["x.txt", "y.txt"], gt_files=["x_gt.txt", "y_gt.txt"])
    assert [next(r.frames()).detections.gt_ids.tolist() for r in found] == [[121], [122]]


def test_microscopy_labels_are_paired_with_their_images_by_position(tmp_path):
    make_trackmate(tmp_path / "a.xml", {0: [spot(1, 1, 1, 0)]}, {})
    make_trackmate(tmp_path / "b.xml", {0: [spot(1, 1, 1, 0)]}, {})
    for i in range(3):
        make_stack(tmp_path / f"{i}.tif", 1)
    make_stack(tmp_path / "a.tif", 4)
    found = recordings(tmp_path, tracks=["b.xml", "a.xml"], videos=[["2.tif", "0.tif", "1.tif"], "a.tif"])
    assert [r.name for r in found] == ["b", "a"]
    assert [r.source for r in found] == [tmp_path, tmp_path / "a.tif"]
    assert [len(r) for r in found] == [3, 4]
    assert [len(r) for r in recordings(tmp_path, tracks="a.xml", videos=[])] == [1]


@pytest.mark.parametrize("suffix", [".csv", ".xml"])
def test_a_folder_of_microscopy_labels_is_paired_by_stem_or_played_without_images(suffix, tmp_path, caplog):
    for name in ("a", "b"):
        if suffix == ".xml":
            make_trackmate(tmp_path / f"{name}.xml", {0: [spot(1, 1, 1, 0)]}, {})
        else:
            (tmp_path / f"{name}.csv").write_text("frame,x,y\n0,1,1\n")
    keys = {"path": ".", "labels_suffix": suffix, "vid_suffix": ".tif"}
    found = recordings(tmp_path, dir=keys)
    assert [(r.name, r.source) for r in found] == [("a", None), ("b", None)]
    assert sum("without images" in record.getMessage() for record in caplog.records) == 1
    make_stack(tmp_path / "a.tif", 3)
    with pytest.raises(ConfigError, match=rf"b\{suffix} has no partner b\.tif"):
        recordings(tmp_path, dir=keys)
    make_stack(tmp_path / "b.tif", 4)
    assert [len(r) for r in recordings(tmp_path, dir=keys)] == [3, 4]


def test_a_missing_file_of_any_kind_is_an_error_that_names_its_key(tmp_path):
    make_trackmate(tmp_path / "a.xml", {0: [spot(1, 1, 1, 0)]}, {})
    with pytest.raises(ConfigError, match=r"test_dataset\.tracks: no such file or folder: missing\.xml"):
        recordings(tmp_path, tracks="missing.xml")
    with pytest.raises(ConfigError, match=r"test_dataset\.videos: no such file: missing\.tif"):
        recordings(tmp_path, tracks="a.xml", videos=[["missing.tif"]])
    with pytest.raises(ConfigError, match=r"test_dataset\.gt_images: no such file: t0\.tif"):
        recordings(tmp_path, gt_images=[["t0.tif"]])


def test_a_dataset_that_names_nothing_is_an_error(tmp_path):
    keys = "slp_files, det_files, tracks, track_files, gt_images or dir"
    with pytest.raises(ConfigError, match=f"names no recording: set {keys}"):
        recordings(tmp_path)


def test_an_augmentations_remark_is_logged_once_for_all_recordings(tmp_path, caplog):
    fill(tmp_path, "a", "b")
    found = recordings(tmp_path, dir={"path": "."}, augmentations={"MotionBlur": {"blur_limit": [2, 5]}})
    for recording in found:
        list(recording.frames())
    assert sum("Invalid kernel size" in record.getMessage() for record in caplog.records) == 1


def test_augmentations_outside_training_cause_one_warning(tmp_path, caplog):
    fill(tmp_path, "a", "b")
    found = recordings(tmp_path, dir={"path": "."}, augmentations={"NodeDropout": {"p": 0.5, "n": 1}})
    assert all(isinstance(r, AugmentedRecording) for r in found)
    assert [record.getMessage() for record in caplog.records].count(
        "augmentations change the frames that are tracked mode=val names=NodeDropout"
    ) == 1


def test_names_are_unique_and_valid_for_streams_and_files():
    paths = [Path("p/a b.slp"), Path("p/a_b.slp"), Path("q/ä.slp")]
    assert unique_names([path.stem for path in paths], paths) == ["p_a_b", "p_a_b_2", "_"]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "names"), [("inference_2024.yaml", ["two_flies", "three_flies"]), ("inference_2026.yaml", ["three_flies"])]
)
def test_a_shared_dreem_file_finds_its_recordings(file, names, monkeypatch):
    root = shared_data().parent
    monkeypatch.setenv("TRACKD_SHARED", str(root))
    dataset = validate(DatasetConfig, load_yaml(root / "dreem_yaml" / file)["dataset"]).test_dataset
    found = open_recordings(dataset, Dataloader(), root / "dreem_yaml")
    assert [r.name for r in found] == names
    assert [len(r) for r in found] == [128] * len(names)


@pytest.mark.shared
def test_the_shared_microscopy_file_is_played(shared, monkeypatch):
    monkeypatch.setenv("TRACKD_SHARED", str(shared))
    dataset = validate(DatasetConfig, load_yaml(shared / "dreem_yaml" / "microscopy.yaml")["dataset"]).test_dataset
    (found,) = open_recordings(dataset, Dataloader(), shared / "dreem_yaml")
    assert (found.name, len(found)) == ("D5_all_spots", 9)
    assert sum(len(frame.detections) for frame in found.frames()) == 88


@pytest.mark.shared
def test_a_folder_with_a_second_labels_file_names_the_unpaired_one():
    with pytest.raises(ConfigError, match=r"two_flies_noisy_detections\.slp has no partner"):
        recordings(Path.cwd(), dir={"path": str(shared_data("dreem_two_flies"))})


def test_a_named_video_that_is_missing_is_an_error(tmp_path):
    fill(tmp_path, "a")
    with pytest.raises((ConfigError, RecordingError), match=r"missing\.mp4"):
        recordings(tmp_path, slp_files=["a.slp"], video_files=["missing.mp4"])
