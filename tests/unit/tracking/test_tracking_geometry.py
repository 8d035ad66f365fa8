from __future__ import annotations

import numpy as np
import pytest

from trackd.tracking.geometry import box_points, crop_boxes
from trackd.tracking.posed import read_poses
from trackd_client.detections import Skeleton
from trackd_client.recordings.config import LiveDataset

SKELETON = Skeleton(("head", "thorax", "tail"))
POSE = np.array([[[10.0, 20.0], [30.0, 40.0], [np.nan, np.nan]], [[1.0, 1.0], [2.0, 2.0], [6.0, 3.0]]])


def points(anchors, handle_missing="centroid", seed=0, pose=POSE):
    dataset = LiveDataset(anchors=anchors, handle_missing=handle_missing, seed=seed)
    return read_poses(pose, None, dataset, SKELETON, 1e7).points


def test_a_crop_extends_half_its_side_and_the_padding_from_the_centre() -> None:
    assert crop_boxes([[[200.0, 300.5]]], 128, 5).tolist() == [[[131.0, 231.5, 269.0, 369.5]]]


def test_half_of_an_odd_side_is_rounded_as_by_integer_division() -> None:
    assert crop_boxes([[[50.0, 50.0]]], 7, 0).tolist() == [[[46.0, 46.0, 53.0, 53.0]]]


def test_a_crop_clipped_at_the_top_left_moves_inside_and_one_at_the_bottom_right_does_not() -> None:
    assert crop_boxes([[[10.0, 10.0]]], 64, 5).tolist() == [[[-5.0, -5.0, 69.0, 69.0]]]
    assert crop_boxes([[[5000.0, 5000.0]]], 64, 0).tolist() == [[[4968.0, 4968.0, 5032.0, 5032.0]]]


def test_width_and_height_of_a_crop_may_differ() -> None:
    assert crop_boxes([[[100.0, 100.0]]], [40, 20], 0).tolist() == [[[80.0, 90.0, 120.0, 110.0]]]


def test_a_missing_centre_has_a_missing_box() -> None:
    assert np.isnan(crop_boxes([[[np.nan, np.nan]]], 64, 5)).all()


@pytest.mark.parametrize("anchors", ["", "centroid", "midpoint"])
def test_the_centroid_is_the_mean_of_the_visible_nodes(anchors: str) -> None:
    assert points(anchors).tolist() == [[[20.0, 30.0]], [[3.0, 2.0]]]


def test_a_named_anchor_is_that_node() -> None:
    assert points("thorax").tolist() == [[[30.0, 40.0]], [[2.0, 2.0]]]


def test_a_missing_anchor_becomes_the_centroid_or_stays_missing() -> None:
    assert points("tail")[0].tolist() == [[20.0, 30.0]]
    assert np.isnan(points("tail", "ignore")[0]).all()
    assert points(["head", "tail"], "drop")[1].tolist() == [[1.0, 1.0], [6.0, 3.0]]


def test_random_anchors_are_the_same_nodes_for_every_instance_and_seed() -> None:
    whole = np.arange(12.0).reshape(2, 3, 2)
    first = points(2, seed=3, pose=whole)
    assert first.shape == (2, 2, 2)
    assert np.array_equal(first, points(2, seed=3, pose=whole))
    assert np.array_equal(first[1] - first[0], np.full((2, 2), 6.0))
    assert any(not np.array_equal(first, points(2, seed=seed, pose=whole)) for seed in range(9))


def test_an_unknown_anchor_is_an_error_that_names_the_nodes() -> None:
    with pytest.raises(ValueError, match="unknown node 'nose'; the skeleton's nodes are head, thorax, tail"):
        points("nose")


def test_more_random_anchors_than_nodes_is_an_error() -> None:
    with pytest.raises(ValueError, match="between 1 and the number of nodes, 3; got 4"):
        points(4)


def test_boxes_alone_are_anchored_at_their_centres() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 20.0]])
    assert box_points(boxes, "thorax").tolist() == [[[5.0, 10.0]]]
    assert box_points(boxes, ["head", "tail"]).tolist() == [[[5.0, 10.0], [5.0, 10.0]]]
    assert box_points(boxes, 3).shape == (1, 3, 2)
