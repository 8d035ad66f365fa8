import numpy as np
import pytest
from recording_files import make_video, shared_data

from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.motchallenge import MotRecording, iou, read_rows
from trackd_client.recordings.recording import RecordingError


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_frames_and_pixels_count_from_zero(tmp_path):
    path = write(tmp_path / "a.txt", "2,-1,1,1,10,20,0.5,-1,-1,-1")
    frames = list(MotRecording(path, TestDataset()).frames())
    assert [len(frame.detections) for frame in frames] == [0, 1]
    assert frames[1].frame_index == 1
    assert frames[1].detections.boxes.tolist() == [[0, 0, 10, 20]]
    assert frames[1].detections.boxes.dtype == np.float32
    assert frames[1].detections.scores.tolist() == [0.5]
    assert frames[1].detections.gt_ids.tolist() == [-1]


def test_rows_of_a_file_sorted_by_id_are_played_by_frame_in_file_order(tmp_path):
    path = write(tmp_path / "a.txt", "1,7,1,1,5,5,1", "2,7,2,2,5,5,1", "1,3,9,9,5,5,1", "2,3,8,8,5,5,1")
    frames = list(MotRecording(path, TestDataset()).frames())
    assert [frame.detections.gt_ids.tolist() for frame in frames] == [[7, 3], [7, 3]]
    assert frames[1].detections.boxes[:, 0].tolist() == [1, 7]


def test_many_boxes_of_a_frame_keep_the_files_order(tmp_path):
    rows = [f"{2 - i % 2},{i},1,1,5,5,1" for i in range(200)]
    assert read_rows(write(tmp_path / "a.txt", *rows)).ids.tolist() == [*range(1, 200, 2), *range(0, 200, 2)]


def test_only_considered_pedestrians_of_a_mot17_ground_truth_are_read(tmp_path):
    path = write(tmp_path / "gt.txt", "1,1,1,1,5,5,1,1,1", "1,2,1,1,5,5,0,1,1", "1,3,1,1,5,5,1,7,1")
    assert read_rows(path).ids.tolist() == [1]


def test_detections_get_the_identities_that_they_overlap_most(tmp_path):
    det = write(tmp_path / "det.txt", "1,-1,1,1,10,10,1", "1,-1,51,1,10,10,1", "1,-1,3,1,10,10,1")
    gt = write(tmp_path / "gt.txt", "1,5,1,1,10,10,1,-1,-1,-1", "1,6,57,1,10,10,1,-1,-1,-1")
    frame = next(MotRecording(det, TestDataset(), ground_truth=gt).frames())
    assert frame.detections.gt_ids.tolist() == [5, -1, -1]  # the IoU of the second is below 0.5


def test_the_sequence_description_gives_length_rate_and_size(tmp_path):
    path = write(tmp_path / "walk" / "det" / "det.txt", "1,-1,1,1,10,20,0.5")
    (tmp_path / "walk" / "seqinfo.ini").write_text(
        "[Sequence]\nname=walk\nframeRate=12.5\nseqLength=9\nimWidth=640\nimHeight=480\n"
    )
    recording = MotRecording(path, TestDataset())
    assert (recording.name, len(recording), recording.fps, recording.frame_shape) == ("walk", 9, 12.5, (480, 640))
    assert len(list(recording.frames())) == 9


def test_a_given_video_supplies_the_images(tmp_path):
    path = write(tmp_path / "a.txt", "1,-1,1,1,10,20,0.5")
    recording = MotRecording(path, TestDataset(), video=make_video(tmp_path / "a.mp4", 5))
    assert [frame.image is not None for frame in recording.frames()] == [True] * 5


@pytest.mark.parametrize("name", ["walk.txt", "walk/det.txt", "walk/gt.txt", "walk/gt/gt.txt"])
def test_a_recording_is_named_after_its_sequence(tmp_path, name):
    assert MotRecording(tmp_path / name, TestDataset()).name == "walk"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,-1,one,1,1,1,1", "must hold numbers"),
        ("1,-1,1", "must hold frame,id,left"),
        ("0,-1,1,1,1,1,1", "frames count from 1"),
        ("1.5,-1,1,1,1,1,1", "frames count from 1"),
        ("1,0.5,1,1,1,1,1", "an id is a whole number"),
    ],
)
def test_an_error_names_file_and_row(tmp_path, row, message):
    path = write(tmp_path / "a.txt", "1,-1,1,1,10,20,0.5", "", row)
    with pytest.raises(RecordingError, match=message) as raised:
        read_rows(path)
    assert f"{path}, row 3" in str(raised.value)


def test_iou_is_intersection_over_union():
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0], [0, 0, 0]])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "n_frames", "n_boxes", "n_ids", "fps"),
    [
        ("mot15_TUD-Campus/det.txt", 71, 321, 0, 30),
        ("mot15_TUD-Campus/gt.txt", 71, 359, 8, 30),
        ("mot15_PETS09-S2L1_detonly/det.txt", 795, 4359, 0, 30),
        ("mot17_09/gt.txt", 525, 5325, 26, 30),
        ("mot17_10/gt.txt", 654, 12839, 57, 30),
    ],
)
def test_a_real_sequence_has_the_counts_of_its_manifest(file, n_frames, n_boxes, n_ids, fps):
    path = shared_data(file)
    recording = MotRecording(path, TestDataset())
    frames = list(recording.frames())
    assert (recording.name, len(frames), recording.fps) == (path.parent.name, n_frames, fps)
    assert sum(len(frame.detections) for frame in frames) == n_boxes
    ids = {int(i) for frame in frames for i in frame.detections.gt_ids}
    assert len(ids - {-1}) == n_ids


@pytest.mark.shared
def test_most_real_detections_get_an_identity():
    folder = shared_data("mot15_TUD-Campus")
    recording = MotRecording(folder / "det.txt", TestDataset(), ground_truth=folder / "gt.txt")
    ids = np.concatenate([frame.detections.gt_ids for frame in recording.frames()])
    assert len(ids) == 321
    assert (ids >= 0).sum() > 250
