"""Aligned crops: the same animal gives the same crop, wherever it points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trackd.identity.aligned_crops import SIDE, aligned_crops, features

PATTERN = np.random.default_rng(0).integers(20, 120, (5, 12)).astype(np.uint8)  # of an animal that points to the right


def picture(angle: float, channels: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (200, 200, channels) of the animal turned by an angle, its box (4,), and its nodes (2, 2)."""
    large = cv2.resize(PATTERN, (96, 40), interpolation=cv2.INTER_NEAREST)
    canvas = np.full((200, 200), 200, np.uint8)
    canvas[80:120, 52:148] = large
    turn = cv2.getRotationMatrix2D((99.5, 99.5), -np.degrees(angle), 1.0)
    image = cv2.warpAffine(canvas, turn, (200, 200), flags=cv2.INTER_LINEAR, borderValue=200)
    corners = np.array([[52, 80], [148, 80], [148, 120], [52, 120]]) @ turn[:, :2].T + turn[:, 2]
    nodes = np.array([[147, 99.5], [52, 99.5]]) @ turn[:, :2].T + turn[:, 2]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)
    return np.repeat(image[:, :, None], channels, axis=2), box, nodes


def found(angle: float, with_pose: bool, channels: int = 1) -> np.ndarray:
    image, box, nodes = picture(angle, channels)
    crops, directed = aligned_crops(image, box[None], nodes[None] if with_pose else None)
    assert crops.shape == (1, SIDE, SIDE, channels)
    assert directed.tolist() == [with_pose]
    return features(crops, directed)[0]


@pytest.mark.parametrize("angle", [0.4, np.pi / 2, 2.0, np.pi, -1.2])
def test_a_pose_turns_the_crop(angle):
    image, box, nodes = picture(angle)
    turned, _ = aligned_crops(image, box[None], nodes[None])
    straight, _ = aligned_crops(*(each[None] if i else each for i, each in enumerate(picture(0.0))))
    middle = np.s_[0, SIDE // 2 - 2 : SIDE // 2 + 2, SIDE // 2 - 6 : SIDE // 2 + 6]
    # The box of a turned animal has another diagonal, so only the middle is at the same place.
    assert np.abs(turned[middle].astype(float) - straight[middle]).mean() < 60


def test_half_a_turn_changes_the_features_without_a_pose_little():
    straight, turned = found(0.0, False), found(np.pi, False)
    assert np.abs(straight - turned).mean() < 0.01


def test_two_animals_differ_more_than_one_in_two_places():
    image, box, nodes = picture(0.0)
    moved = np.roll(image, (7, 11), axis=(0, 1))
    other = image.copy()
    other[80:120, 52:148] = 140 - other[80:120, 52:148]
    rows = [
        features(*aligned_crops(each, (box + shift)[None].astype(np.float32), (nodes + shift[:2])[None]))[0]
        for each, shift in ((image, np.zeros(4)), (moved, np.array([11, 7, 11, 7])), (other, np.zeros(4)))
    ]
    assert np.linalg.norm(rows[0] - rows[1]) < 0.2 * np.linalg.norm(rows[0] - rows[2])


@pytest.mark.parametrize("box", [[-500, -500, -450, -450], [190, 190, 260, 260], [50, 50, 50, 50], [0, 0, 200, 200]])
def test_a_box_beyond_the_image_or_without_a_side_gives_a_crop(box):
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    crops, _ = aligned_crops(image, np.array([box], np.float32), None)
    assert crops.shape == (1, SIDE, SIDE, 3)
    assert np.isfinite(features(crops, np.zeros(1, bool))).all()


def test_of_16_bits_the_upper_ones_count_and_of_four_channels_the_first_three():
    image, box, nodes = picture(0.3)
    low, _ = aligned_crops(image, box[None], nodes[None])
    high, _ = aligned_crops(image.astype(np.uint16) << 8, box[None], nodes[None])
    four, _ = aligned_crops(np.repeat(image, 4, axis=2), box[None], nodes[None])
    np.testing.assert_array_equal(low, high)
    assert four.shape[3] == 3


def test_a_pose_with_one_visible_node_has_no_direction():
    image, box, nodes = picture(0.0)
    nodes[1] = np.nan
    assert not aligned_crops(image, box[None], nodes[None])[1].any()


def test_an_even_image_has_an_axis_too():
    crops, _ = aligned_crops(np.full((50, 50), 7, np.uint8), np.array([[10, 10, 30, 20]], np.float32), None)
    assert (crops == 7).all()
