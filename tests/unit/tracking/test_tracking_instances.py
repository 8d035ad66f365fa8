from __future__ import annotations

import numpy as np
import pytest

from trackd.tracking.instances import Instances
from trackd_client.detections import Detections, Skeleton
from trackd_client.recordings.config import LiveDataset

SKELETON = Skeleton(("head", "tail"))
BOXES = np.array([[0, 0, 10, 20], [50, 50, 60, 60]], np.float32)
POSES = np.array([[[100.0, 100.0], [120.0, 110.0]], [[300.0, 300.0], [np.nan, np.nan]]])
DATASET = LiveDataset(crop_size=64, padding=5)


def test_a_clients_boxes_are_compared_and_published_unchanged() -> None:
    instances = Instances.of(Detections(boxes=BOXES), DATASET)
    assert np.array_equal(instances.boxes[:, 0], BOXES)
    assert np.array_equal(instances.extents, BOXES)
    assert instances.centres.tolist() == [[5, 10], [55, 55]]
    assert instances.all_valid
    assert np.isnan(instances.scores).all()


def test_with_boxes_from_crop_the_crop_boxes_are_centred_on_the_clients_boxes() -> None:
    instances = Instances.of(Detections(boxes=BOXES + 200), DATASET, None, "crop")
    assert instances.boxes[0, 0].tolist() == [205 - 37, 210 - 37, 205 + 37, 210 + 37]
    assert np.array_equal(instances.extents, BOXES + 200)


def test_a_pose_is_published_with_its_bounding_box_and_one_node_with_its_crop() -> None:
    instances = Instances.of(Detections(keypoints=POSES), DATASET, SKELETON)
    assert instances.extents[0].tolist() == [100, 100, 120, 110]
    assert np.array_equal(instances.extents[1], instances.boxes[1, 0])
    assert instances.centres.tolist() == [[110, 105], [300, 300]]


def test_named_anchors_have_priority_over_a_clients_boxes() -> None:
    both = Detections(boxes=BOXES, keypoints=POSES)
    named = Instances.of(both, LiveDataset(crop_size=64, padding=5, anchors="head"), SKELETON)
    assert named.boxes[0, 0].tolist() == [63, 63, 137, 137]
    assert named.centres[0].tolist() == [100, 100]
    assert np.array_equal(Instances.of(both, DATASET, SKELETON).boxes[:, 0], BOXES)


@pytest.mark.parametrize("bad", [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [5, 0, 1, 1], [0, 0, 1e9, 1e9]])
def test_a_broken_box_spoils_only_its_own_row(bad: list[float]) -> None:
    instances = Instances.of(Detections(boxes=np.array([*BOXES.tolist(), bad], np.float32)), DATASET)
    assert instances.spoiled.tolist() == [False, False, True]
    assert instances.valid.tolist() == [True, True, False]


def test_a_pose_without_a_visible_node_is_spoiled_unless_a_box_was_sent() -> None:
    nowhere = np.full_like(POSES, np.nan)
    assert Instances.of(Detections(keypoints=nowhere), DATASET, SKELETON).spoiled.all()
    assert not Instances.of(Detections(boxes=BOXES, keypoints=nowhere), DATASET, SKELETON).spoiled.any()


def test_some_missing_nodes_are_normal_and_an_infinite_one_is_not() -> None:
    poses = POSES.copy()
    assert not Instances.of(Detections(keypoints=poses), DATASET, SKELETON).spoiled.any()
    poses[0, 0, 0] = np.inf
    assert Instances.of(Detections(keypoints=poses), DATASET, SKELETON).spoiled.tolist() == [True, False]


def test_drop_leaves_out_an_instance_without_its_anchor_and_flags_nothing() -> None:
    dataset = LiveDataset(crop_size=64, anchors="tail", handle_missing="drop")
    instances = Instances.of(Detections(keypoints=POSES), dataset, SKELETON)
    assert instances.valid.tolist() == [True, False]
    assert not instances.spoiled.any()


def test_ignore_keeps_an_instance_with_a_missing_box() -> None:
    dataset = LiveDataset(crop_size=64, anchors=["head", "tail"], handle_missing="ignore")
    instances = Instances.of(Detections(keypoints=POSES), dataset, SKELETON)
    assert instances.valid.all()
    assert instances.boxes.shape == (2, 2, 4)
    assert np.isnan(instances.boxes[1, 1]).all()
    assert np.isfinite(instances.extents).all()
    assert instances.centres[1].tolist() == [300, 300]


@pytest.mark.parametrize("boxes_from", ["detection", "crop"])
def test_an_empty_frame_has_no_rows(boxes_from) -> None:
    assert len(Instances.of(Detections.empty(), DATASET, None, boxes_from)) == 0
    empty = Detections(keypoints=np.empty((0, 2, 2)))
    assert Instances.of(empty, DATASET, SKELETON, boxes_from).boxes.shape == (0, 1, 4)


def test_detections_without_boxes_and_key_points_are_an_error() -> None:
    with pytest.raises(ValueError, match="boxes or keypoints"):
        Instances.of(Detections(), DATASET)
