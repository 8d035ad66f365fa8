import numpy as np
import pytest
import tifffile
from recording_files import blocks, shared_data, write_labels

from trackd_client.configuration import ConfigError, validate
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.label_images import detections_of, shaped
from trackd_client.recordings.man_track import read_man_track
from trackd_client.recordings.recording import Clip, RecordingError

FOLDER = {"path": ".", "labels_suffix": ".tif", "vid_suffix": ".tif"}


def recordings(base, **keys):
    return open_recordings(validate(DatasetConfig, {"test_dataset": keys}).test_dataset, DataloaderConfig(), base)


def sequence(place, name="01", start=150, digits=3, table="7 150 151 0\n9 152 152 7\n11 152 152 7\n", n_images=3):
    """Cell 7 divides into 9 and 11; all three are squares of 10 × 10."""
    labels = [blocks(_7=(5, 5, 15, 15)), blocks(_7=(8, 5, 18, 15)), blocks(_9=(2, 5, 12, 15), _11=(20, 5, 30, 15))]
    named = {f"man_track{start + i:0{digits}d}.tif": image for i, image in enumerate(labels)}
    truth = write_labels(place / f"{name}_GT" / "TRA", named)
    images = {f"t{start + i:0{digits}d}.tif": np.full((30, 40), i + 1, np.uint16) for i in range(n_images)}
    raw = write_labels(place / name, images)
    (place / f"{name}_GT" / "TRA" / "man_track.txt").write_text(table)
    return raw, truth, str(place / f"{name}_GT" / "TRA" / "man_track.txt")


def test_every_label_is_a_detection_with_mask_box_and_centre(tmp_path):
    sequence(tmp_path)
    (recording,) = recordings(tmp_path, dir=FOLDER)
    frames = list(recording.frames())
    assert [frame.frame_index for frame in frames] == [150, 151, 152]
    assert [frame.detections.gt_ids.tolist() for frame in frames] == [[7], [7], [9, 11]]
    last = frames[2].detections
    assert last.boxes.tolist() == [[2, 5, 12, 15], [20, 5, 30, 15]]
    assert last.keypoints.tolist() == [[[6.5, 9.5]], [[24.5, 9.5]]]
    assert [(last.masks == i).sum() for i in (1, 2)] == [100, 100]
    assert last.masks.dtype == np.uint16
    assert last.masks[10, 5] == 1
    assert last.masks[10, 25] == 2
    assert [int(frame.image[0, 0]) for frame in frames] == [1, 2, 3]
    assert frames[0].t_ns == 5_000_000_000
    assert (recording.name, recording.source.name, recording.frame_shape) == ("01", "01", (30, 40))


def test_parents_are_the_lineage(tmp_path):
    sequence(tmp_path)
    (recording,) = recordings(tmp_path, dir=FOLDER)
    assert recording.lineage == {9: 7, 11: 7}


def test_lists_of_files_give_the_same_recording_as_the_folder(tmp_path):
    raw, truth, table = sequence(tmp_path, digits=4)
    (folder,) = recordings(tmp_path, dir=FOLDER)
    (lists,) = recordings(tmp_path, raw_images=[raw[::-1]], gt_images=[truth], gt_list=[table])
    for a, b in zip(folder.frames(), lists.frames(), strict=True):
        assert a.frame_index == b.frame_index
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.detections.masks, b.detections.masks)
    assert lists.lineage == folder.lineage
    assert lists.name == "01"


def test_the_lists_within_a_recordings_list_are_one_recording(tmp_path):
    raw, truth, table = sequence(tmp_path)
    (plain,) = recordings(tmp_path, raw_images=[raw], gt_images=[truth], gt_list=[table])
    (nested,) = recordings(
        tmp_path, raw_images=[[raw[:1], raw[1:]]], gt_images=[[truth[:2], truth[2:]]], gt_list=[table]
    )
    for a, b in zip(plain.frames(), nested.frames(), strict=True):
        assert a.frame_index == b.frame_index
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.detections.masks, b.detections.masks)
    with pytest.raises(ConfigError, match=r"raw_images should name for each recording .* such as \[\[t000.tif, t001"):
        recordings(tmp_path, raw_images=[[3]], gt_images=[truth])


def test_label_images_alone_are_played_without_images_and_lineage(tmp_path):
    _, truth, _ = sequence(tmp_path)
    (recording,) = recordings(tmp_path, gt_images=[truth])
    assert [frame.image for frame in recording.frames()] == [None] * 3
    assert (recording.frame_shape, recording.source, dict(recording.lineage)) == ((30, 40), None, {})


def test_frames_without_an_image_or_without_a_label_image_are_played(tmp_path):
    sequence(tmp_path / "a", n_images=1)
    sequence(tmp_path / "b", n_images=5)
    (few,) = recordings(tmp_path / "a", dir=FOLDER)
    assert [frame.image is not None for frame in few.frames()] == [True, False, False]
    (many,) = recordings(tmp_path / "b", dir=FOLDER)
    assert [len(frame.detections) for frame in many.frames()] == [1, 1, 2, 0, 0]


def test_the_table_determines_the_identities(tmp_path, caplog):
    sequence(tmp_path, table="7 150 150 0\n9 152 152 7\n")
    (recording,) = recordings(tmp_path, dir=FOLDER)
    assert [frame.detections.gt_ids.tolist() for frame in recording.frames()] == [[7], [-1], [9, -1]]
    assert caplog.text.count("get no identity") == 1


def test_several_rows_of_a_label_are_one_track_with_a_warning(tmp_path, caplog):
    path = tmp_path / "man_track.txt"
    path.write_text("1 0 0 0\n2 0 9 0\n1 2 3 0\n1 6 6 2\n\n")
    table = read_man_track(path)
    assert (table.tracks[1].begin, table.tracks[1].end, table.lineage) == (0, 6, {1: 2})
    assert "several rows of one label" in caplog.text
    assert "labels=[1]" in caplog.text


def test_a_parent_without_a_row_is_left_out(tmp_path, caplog):
    (tmp_path / "t.txt").write_text("5 3 9 4\n")
    assert read_man_track(tmp_path / "t.txt").lineage == {}
    assert "parents without a row" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 0 3", "row 2: must hold four whole numbers, label begin end parent; got '1 0 3'"),
        ("1 0 x 0", "row 2: must hold four whole numbers"),
        ("0 0 3 0", "row 2: label must be ≥ 1"),
        ("1 4 3 0", "end ≥ begin"),
        ("3 0 3 3", "parent another label or 0"),
    ],
)
def test_an_error_in_the_table_names_the_row(tmp_path, row, message):
    path = tmp_path / "man_track.txt"
    path.write_text(f"8 0 3 0\n{row}\n")
    with pytest.raises(RecordingError) as raised:
        read_man_track(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_shapes_are_those_of_full_masks_and_identities_those_of_markers(tmp_path):
    sequence(tmp_path)
    grown = {
        "man_seg150.tif": blocks(_3=(4, 4, 16, 16)),
        "man_seg152.tif": blocks(_1=(19, 4, 31, 16), _2=(0, 20, 9, 29)),
    }
    write_labels(tmp_path / "01_ST" / "SEG", grown)
    (recording,) = recordings(tmp_path, dir=FOLDER)
    frames = [frame.detections for frame in recording.frames()]
    assert frames[0].boxes.tolist() == [[4, 4, 16, 16]]
    assert frames[1].boxes.tolist() == [[8, 5, 18, 15]]  # no full masks in this frame
    assert frames[2].boxes.tolist() == [[2, 5, 12, 15], [19, 4, 31, 16]]  # 9 has no full mask
    assert [found.gt_ids.tolist() for found in frames] == [[7], [7], [9, 11]]


def test_a_mask_under_two_markers_gets_the_label_of_the_larger_overlap():
    markers = blocks(_4=(0, 0, 6, 6), _5=(10, 0, 20, 6))
    shapes = blocks(_1=(0, 0, 25, 8))
    labels = shaped(markers, shapes)
    assert (labels == 5).sum() == 25 * 8 - 36
    assert (labels == 4).sum() == 36


def test_an_image_without_labels_is_a_frame_without_detections():
    found = detections_of(np.zeros((4, 5), np.uint16))
    assert (len(found), found.boxes.shape, found.keypoints.shape) == (0, (0, 4), (0, 1, 2))
    everywhere = detections_of(np.full((4, 5), 3, np.uint16))
    assert (everywhere.gt_ids.tolist(), everywhere.boxes.tolist()) == ([3], [[0, 0, 5, 4]])


def test_a_label_image_of_another_size_is_an_error(tmp_path):
    raw, *_ = sequence(tmp_path)
    tifffile.imwrite(raw[1], np.zeros((31, 40), np.uint16))
    (recording,) = recordings(tmp_path, dir=FOLDER)
    with pytest.raises(RecordingError, match=r"frame 151: the label image must be as large as the image"):
        list(recording.frames())


def test_sequences_of_a_folder_are_sorted_and_other_folders_are_ignored(tmp_path):
    for name in ("02", "01"):
        sequence(tmp_path, name)
    (tmp_path / "01_RES").mkdir()
    (tmp_path / "notes").mkdir()
    assert [recording.name for recording in recordings(tmp_path, dir=FOLDER)] == ["01", "02"]


def test_a_sequence_without_its_partner_is_an_error_that_names_it(tmp_path):
    sequence(tmp_path)
    (tmp_path / "03").mkdir()
    tifffile.imwrite(tmp_path / "03" / "t000.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"03 has no partner .*03_GT/TRA"):
        recordings(tmp_path, dir=FOLDER)
    (tmp_path / "03" / "t000.tif").unlink()
    (tmp_path / "04_GT" / "TRA").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"04_GT/TRA has no partner .*04"):
        recordings(tmp_path, dir=FOLDER)


def test_a_folder_without_sequences_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no Cell Tracking Challenge sequence in"):
        recordings(tmp_path, dir=FOLDER)


def test_a_gt_list_that_names_images_is_an_error(tmp_path):
    _, truth, _ = sequence(tmp_path)
    with pytest.raises(ConfigError, match=r"gt_list must name one man_track\.txt for each recording"):
        recordings(tmp_path, gt_images=[truth], gt_list=[truth])


def test_two_iterations_over_a_stack_are_independent(tmp_path):
    labels = np.stack([blocks(_7=(5, 5, 15 + i, 15)) for i in range(5)])
    tifffile.imwrite(tmp_path / "labels.tif", labels, compression="zlib", photometric="minisblack")
    (recording,) = recordings(tmp_path, gt_images="labels.tif", raw_images="labels.tif")
    for a, b in zip(recording.frames(), recording.frames(), strict=True):
        assert recording.frame_shape == (30, 40)
        np.testing.assert_array_equal(a.image, b.image)
        assert len(a.detections) == len(b.detections) == 1


def test_stacks_of_labels_and_images_count_frames_from_zero(tmp_path):
    labels = np.stack([blocks(_7=(5, 5, 15, 15))] * 5)
    tifffile.imwrite(tmp_path / "labels.tif", labels, compression="zlib", photometric="minisblack")
    tifffile.imwrite(tmp_path / "images.tif", labels + 3, compression="lzw", photometric="minisblack")
    (recording,) = recordings(tmp_path, gt_images="labels.tif", raw_images="images.tif")
    frames = list(recording.frames())
    assert [frame.frame_index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(frame.detections.gt_ids.tolist() == [7] and frame.image.shape == (30, 40) for frame in frames)


@pytest.mark.parametrize("name", ["ctc_DIC-C2DH-HeLa_01", "ctc_Fluo-N2DL-HeLa_01"])
def test_dir_and_gt_images_differ_by_the_full_masks_alone_and_a_line_says_so(tmp_path, caplog, name):
    place = shared_data(name)
    named = {"raw_images": [str(place / "01")], "gt_images": [str(place / "01_GT" / "TRA")]}
    (markers,) = recordings(tmp_path, **named)
    (line,) = [r.getMessage() for r in caplog.records if "gt_images reads" in r.getMessage()]
    assert f"the full masks of {place / '01_ST' / 'SEG'}" in line
    assert f"the identities and parents of {place / '01_GT' / 'TRA' / 'man_track.txt'}" in line
    (whole,) = recordings(tmp_path, dir={**FOLDER, "path": str(place)})
    for part in ("01", "01_GT"):  # the same sequence without its full masks
        (tmp_path / part).symlink_to(place / part)
    caplog.clear()
    (without,) = recordings(tmp_path, dir=FOLDER)
    clips = [Clip(2, 5)]
    differ = 0
    for a, b, c in zip(markers.frames(clips), without.frames(clips), whole.frames(clips), strict=True):
        np.testing.assert_array_equal(a.detections.boxes, b.detections.boxes)
        np.testing.assert_array_equal(a.detections.gt_ids, b.detections.gt_ids)
        differ += not np.array_equal(a.detections.boxes, c.detections.boxes)
    assert differ == 3
    named |= {"gt_list": [str(tmp_path / "01_GT" / "TRA" / "man_track.txt")]}
    named |= {"gt_images": [str(tmp_path / "01_GT" / "TRA")]}
    caplog.clear()
    recordings(tmp_path, **named)
    assert "gt_images reads" not in caplog.text
