from dataclasses import replace

import numpy as np
import pytest
from test_recordings_augmentations import Squares

from trackd_client.configuration import validate
from trackd_client.detections import Detections, Skeleton
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.transforms.pruning import PrunedRecording, crop_boxes, kept_rows

NAN = float("nan")


def rows(*boxes, thresh=0.5, keypoints=None):
    found = Detections(boxes=np.array(boxes, np.float32), keypoints=keypoints)
    return kept_rows(found, TestDataset(max_detection_overlap=thresh), None).tolist()


def test_of_two_boxes_that_overlap_too_much_the_first_is_kept():
    assert rows([0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]) == [0, 2]
    assert rows([0, 0, 10, 10], [6, 0, 16, 10]) == [0, 1]


def test_the_overlap_is_relative_to_the_smaller_box():
    assert rows([0, 0, 100, 100], [10, 10, 20, 20]) == [0]
    assert rows([10, 10, 20, 20], [0, 0, 100, 100]) == [0]


def test_an_overlap_equal_to_the_threshold_is_allowed():
    assert rows([0, 0, 10, 10], [5, 0, 15, 10]) == [0, 1]


def test_the_instance_with_more_visible_key_points_is_kept():
    keypoints = np.array([[[1, 1], [NAN, NAN]], [[1, 1], [2, 2]]])
    assert rows([0, 0, 10, 10], [0, 0, 10, 10], keypoints=keypoints) == [1]


def test_a_removed_instance_removes_no_other():
    assert rows([0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]) == [0, 2]


def test_missing_boxes_overlap_nothing():
    assert rows([NAN] * 4, [NAN] * 4, [0, 0, 0, 0], [0, 0, 0, 0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("anchors", "expected"), [("", [0]), ("head", [0, 1]), (["head", "tail"], [0, 1]), (1, [0])])
def test_poses_are_compared_by_the_crops_around_their_anchors(anchors, expected):
    # The same centre, 100 pixels between the heads.
    keypoints = np.array([[[100, 100], [200, 100]], [[200, 100], [100, 100]]], float)
    dataset = TestDataset(max_detection_overlap=0.5, crop_size=60, padding=0, anchors=anchors)
    skeleton = Skeleton(("head", "tail"))
    assert kept_rows(Detections(keypoints=keypoints), dataset, skeleton).tolist() == expected


def test_crops_have_the_corners_of_dreems_crops():
    points = np.array([[[3.5, 100.0]]])
    assert crop_boxes(points, TestDataset(crop_size=20, padding=5)).tolist() == [[[-5, 85, 25, 115]]]


class WithoutBoxes(Squares):
    def frames(self, clips=None):
        for frame in super().frames(clips):
            yield replace(frame, detections=replace(frame.detections, boxes=None))


def test_the_same_rows_of_all_arrays_are_removed():
    frame = next(PrunedRecording(Squares(), TestDataset(max_detection_overlap=0.01)).frames())
    assert len(frame.detections) == 4  # they do not overlap
    poses = PrunedRecording(WithoutBoxes(), TestDataset(max_detection_overlap=0.5, crop_size=40, padding=0)).frames()
    for frame in poses:
        kept = frame.detections.gt_ids
        assert 0 < len(kept) < 4
        np.testing.assert_array_equal(frame.detections.scores, kept / 4)
        np.testing.assert_array_equal(frame.detections.keypoints[:, 1, 0][kept > 0], 8 + 12 * kept[kept > 0])
    near = Detections(boxes=np.array([[0, 0, 9, 9]] * 3, np.float32), scores=np.arange(3), gt_ids=np.arange(3))
    assert kept_rows(near, TestDataset(max_detection_overlap=0.9), None).tolist() == [0]


def test_recordings_are_pruned_if_an_overlap_is_configured(tmp_path):
    (tmp_path / "a.txt").write_text("1,7,1,1,10,10,1\n1,8,2,1,10,10,1\n1,9,50,1,10,10,1\n")

    def ids(**keys):
        dataset = validate(DatasetConfig, {"test_dataset": {"det_files": "a.txt", **keys}}).test_dataset
        (recording,) = open_recordings(dataset, DataloaderConfig(), tmp_path)
        return next(recording.frames()).detections.gt_ids.tolist()

    assert ids() == [7, 8, 9]
    assert ids(max_detection_overlap=0.5) == [7, 9]
