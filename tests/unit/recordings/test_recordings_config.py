import pytest

from trackd_client.configuration import ConfigError, load_yaml, validate
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig, LiveDataset, TestDataset

DREEM_2024 = {
    "slp_files": ["a.slp", "b.slp"],
    "video_files": ["a.mp4", "b.mp4"],
    "padding": 5,
    "crop_size": 128,
    "chunk": True,
    "clip_length": 32,
    "anchors": "centroid",
    "handle_missing": "drop",
    "augmentations": {"Rotate": {"limit": 45, "p": 0.3}, "NodeDropout": {"p": 0.1, "n": 2}},
}


def dataset(**keys):
    return validate(DatasetConfig, {"test_dataset": keys}, "dataset").test_dataset


def test_a_dreem_dataset_section_is_read_unchanged():
    read = dataset(**DREEM_2024)
    assert read.slp_files == ["a.slp", "b.slp"]
    assert read.handle_missing == "drop"
    assert read.augmentations["NodeDropout"] == {"p": 0.1, "n": 2}


def test_an_absent_key_has_its_documented_default():
    read = dataset()
    assert (read.padding, read.crop_size, read.anchors, read.handle_missing) == (5, 128, "", "centroid")
    assert (read.chunk, read.clip_length, read.n_chunks, read.seed, read.mode) == (True, 32, 1.0, None, "val")
    assert (read.augmentations, read.max_detection_overlap, read.dilation_radius_px, read.fps) == ({}, 0, 0, None)


def test_the_keys_for_live_frames_are_the_same_in_both_sections():
    for name, field in LiveDataset.model_fields.items():
        assert TestDataset.model_fields[name].annotation == field.annotation


def test_a_crop_may_be_wider_than_high():
    assert dataset(crop_size=[60, 20]).crop_width_height == (60, 20)
    assert dataset(crop_size=70).crop_width_height == (70, 70)


def test_a_source_is_the_same_in_upper_and_lower_case():
    assert dataset(source="TrackMate").source == "trackmate"


def test_a_pixel_may_be_wider_than_high():
    assert dataset(pixel_size=0.5).pixel_size == [0.5, 0.5]
    assert dataset(pixel_size=[0.5, 2]).pixel_size == [0.5, 2.0]


def test_two_kinds_of_labels_at_once_are_an_error():
    with pytest.raises(ConfigError, match="slp_files and tracks are 2 kinds of recording"):
        dataset(slp_files=["a.slp"], tracks=["a.xml"])


def test_training_sections_are_accepted_and_named_as_ignored():
    read = validate(DatasetConfig, {"train_dataset": {"slp_files": ["x.slp"]}, "test_dataset": None})
    assert read.ignored == ["train_dataset"]
    loader = validate(DataloaderConfig, {"test_dataloader": {"shuffle": True, "pin_memory": True, "batch_size": 1}})
    assert loader.test_dataloader.shuffle
    assert loader.ignored == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("crop_size", 0, "crop_size must be a whole number of pixels"),
        ("crop_size", [1, 2, 3], "or two of them"),
        ("crop_size", True, "crop_size must be"),
        ("anchors", [], "anchors must be a node's name"),
        ("anchors", 0, "anchors must be"),
        ("n_chunks", 0, "n_chunks must be a fraction"),
        ("n_chunks", 1.5, "whole number of clips"),
        ("clip_length", 0, "clip_length should be greater than or equal to 1"),
        ("handle_missing", "skip", "'drop', 'ignore' or 'centroid'"),
        ("mode", "predict", "'train', 'val' or 'test'"),
        ("fps", 0, "fps should be greater than 0"),
        ("seed", -1, "seed should be greater than or equal to 0"),
        ("video_files", ["a.mp4"], "one video for each of slp_files"),
        ("gt_files", ["gt.txt"], "one file for each of det_files"),
        ("augmentations", ["Rotate"], "must map augmentation names"),
        ("source", "trackmat", "must be one of trackmate, isbi, icy, imagej, trex, btrack, or null"),
        ("pixel_size", 0, "must be a pixel's side in the labels' unit, > 0"),
        ("pixel_size", [1, 2, 3], "or two of them: [x, y]"),
        ("pixel_size", "small", "must be a pixel's side"),
        ("max_detection_overlap", 1.5, "max_detection_overlap should be less than or equal to 1"),
        ("dilation_radius_px", -1, "dilation_radius_px should be greater than or equal to 0"),
        ("videos", ["a.tif"], "videos must name one stack or list of images for each of tracks (0, not 1)"),
        ("raw_images", [["t000.tif"]], "for each of gt_images (0, not 1)"),
        ("gt_list", ["man_track.txt"], "one man_track.txt for each of gt_images (0, not 1)"),
        ("cropsize", 3, "unknown key; did you mean 'crop_size'"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_valid_values(key, value, message):
    with pytest.raises(ConfigError, match=r"^dataset\.test_dataset") as raised:
        dataset(**{key: value})
    assert message in str(raised.value)


@pytest.mark.shared
def test_every_shared_dreem_file_has_a_valid_dataset_section():
    from recording_files import shared_data

    files = sorted((shared_data().parent / "dreem_yaml").glob("*.yaml"))
    assert len(files) == 3
    for file in files:
        tree = load_yaml(file)
        validate(DatasetConfig, tree["dataset"])
        validate(DataloaderConfig, tree.get("dataloader", {}))
