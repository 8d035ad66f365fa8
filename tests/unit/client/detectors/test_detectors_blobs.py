"""Blobs of drawn ellipses: their places, sizes and directions, and their parts where they touch."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from trackd_client.detectors.blobs import measured, pixels_of
from trackd_client.detectors.outline import Heads, Outline
from trackd_client.detectors.regions import Regions
from trackd_client.detectors.splitting import Splitter, fit, shares


def mask_of(*ellipses: tuple[float, float, float, float, float], size: tuple[int, int] = (200, 150)) -> np.ndarray:
    """Draw ellipses (x, y, length, width, degrees)."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    for x, y, length, width, degrees in ellipses:
        cv2.ellipse(mask, ((x, y), (length, width), degrees), 255, -1)
    return mask


def blobs_of(mask: np.ndarray, low: float = 1, high: float = 1e9):
    return measured(pixels_of(mask, low, high))


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 120, 150])
def test_an_ellipse_has_its_centre_direction_and_length(degrees):
    blobs = blobs_of(mask_of((90, 70, 60, 20, degrees)))
    assert np.abs(blobs.centroids - [90, 70]).max() < 0.6
    assert blobs.half_lengths[0] == pytest.approx(30, abs=1)
    wanted = [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
    assert abs(blobs.axes[0] @ wanted) > 0.999


def test_boxes_hold_whole_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 10:17] = 255
    blobs = blobs_of(mask)
    assert blobs.boxes.tolist() == [[9.5, 4.5, 16.5, 8.5]]
    assert blobs.areas.tolist() == [28]


def test_regions_that_are_too_small_or_too_large_are_left_out():
    mask = mask_of((30, 30, 10, 10, 0), (90, 70, 60, 20, 0), (150, 120, 4, 4, 0))
    assert len(blobs_of(mask)) == 3
    assert len(blobs_of(mask, low=40)) == 2
    assert len(blobs_of(mask, low=40, high=500)) == 1
    assert len(blobs_of(np.zeros_like(mask))) == 0


def test_a_region_holds_as_many_animals_as_its_area_tells():
    assert shares(np.array([100.0, 210.0]), 100, 3).tolist() == [1, 2]
    assert shares(np.array([330.0]), 100, 3).tolist() == [3]
    assert shares(np.array([100.0, 105.0]), 100, 3).tolist() == [1, 1]  # one is out of view


SMALL = [(200 * k, 300, 30, 9, 0) for k in (1, 2, 3)]  # animals of 212 pixels in an image of two megapixels
ARENA = (1600, 1250)


def test_the_smallest_area_is_learnt_where_all_animals_are_smaller_than_a_share_of_the_image():
    regions = Regions(3)
    mask = mask_of(*SMALL, size=ARENA)
    found = [len(regions.detections(mask)) for _ in range(20)]
    assert found == [0] * 15 + [3] * 5
    assert len(regions.detections(mask_of(*SMALL, (800, 800, 12, 5, 0), size=ARENA))) == 3


@pytest.mark.parametrize(
    ("regions", "ellipses"),
    [
        (Regions(), SMALL),  # the number is not known
        (Regions(3, min_area=400), SMALL),  # it was said
        (Regions(3), [*SMALL[:2], (900, 300, 90, 40, 0)]),  # one animal, and two of something else
        (Regions(4), SMALL),  # not all are seen
    ],
)
def test_the_smallest_area_stays_where_nothing_tells_that_the_animals_are_smaller(regions, ellipses):
    found = [len(regions.detections(mask_of(*ellipses, size=ARENA))) for _ in range(20)]
    assert found == [sum(length > 30 for _, _, length, _, _ in ellipses)] * 20


def test_a_detector_that_finds_nothing_says_which_limit_the_largest_region_exceeds():
    small, large = Regions(min_area=400), Regions(min_area=10, max_area=100)
    for regions in (small, large):
        assert regions.why_none() is None
        regions.detections(mask_of((200, 300, 30, 9, 0), size=ARENA))
    assert re.fullmatch(r"the largest region had 2\d\d pixels, and min_area is 400", str(small.why_none()))
    assert re.fullmatch(r"the largest region had 2\d\d pixels, and max_area is 100", str(large.why_none()))
    small.detections(mask_of((200, 300, 60, 20, 0), size=ARENA))
    assert small.why_none() is None


def test_two_animals_that_cross_are_two_blobs_at_their_places_where_their_number_is_known():
    splitter = Splitter(2)
    merged = 0
    for step in range(30):
        ellipses = [(40 + 4 * step, 75, 50, 14, 30), (160 - 4 * step, 75, 50, 14, -30)]
        mask = mask_of(*ellipses)
        merged += len(blobs_of(mask)) == 1
        blobs = splitter.split(pixels_of(mask, 20, 1e9))
        assert len(blobs) == 2
        centres = [np.array(each[:2]) for each in ellipses]
        errors = np.linalg.norm(blobs.centroids[:, None] - centres, axis=2)
        assert min(errors.trace(), np.fliplr(errors).trace()) < 12, step
    assert 5 < merged < 25


def test_an_animal_that_is_covered_is_where_it_was_expected():
    splitter = Splitter(2)
    for step in range(20):
        mask = mask_of((40 + 5 * step, 75, 40, 14, 0), (140 - 5 * step, 75, 40, 14, 0))
        found = len(splitter.split(pixels_of(mask, 20, 1e9)))
        assert found == 2, step


def test_an_animal_in_a_region_of_several_stays_in_it_after_a_false_region_elsewhere():
    """A false region far away for two images gives a high velocity, which no pixel of the next images confirms."""
    splitter = Splitter(2)
    together = [(50, 40, 40, 14, 0), (62, 46, 40, 14, 20)]
    for step in range(40):
        if step < 10:
            ellipses = [(50, 40, 40, 14, 0), (120, 40, 40, 14, 0)]
        elif step < 12:
            ellipses = [(50, 40, 40, 14, 0), (160, 130, 40, 14, 0)]
        else:
            ellipses = together
        mask = mask_of(*ellipses)
        blobs = splitter.split(pixels_of(mask, 20, 1e9))
        assert len(blobs) == 2
        if ellipses is together:
            (x1, y1, x2, y2) = blobs_of(mask).boxes[0]
            assert ((blobs.centroids > [x1, y1]) & (blobs.centroids < [x2, y2])).all(), step


def test_more_regions_than_animals_are_the_largest_ones():
    mask = mask_of((40, 75, 40, 14, 0), (120, 75, 40, 14, 0), (160, 20, 12, 12, 0))
    assert len(Splitter(2).split(pixels_of(mask, 20, 1e9))) == 2


def test_animals_that_touch_stay_one_blob_where_their_number_is_not_known():
    found = Regions(None, 20, 1e5).detections(mask_of((80, 75, 50, 14, 0), (100, 80, 50, 14, 60)))
    assert len(found) == 1


def test_gaussians_are_fitted_to_the_pixels_of_each_animal():
    pixels = pixels_of(mask_of((60, 75, 40, 14, 0), (90, 75, 40, 14, 0)), 20, 1e9)
    covariance = np.array([[100.0, 0], [0, 12]])
    centres, covariances = fit(
        pixels.points, np.array([[64.0, 77], [86, 77]]), np.stack([covariance] * 2), np.full(2, 34.6), 440
    )
    assert np.abs(centres - [[60, 75], [90, 75]]).max() < 4
    assert np.linalg.det(covariances) == pytest.approx([34.6**2] * 2)


def test_the_head_is_the_end_towards_which_an_animal_moves():
    heads = Heads()
    for step in range(12):
        blobs = blobs_of(mask_of((150 - 4 * step, 75, 40, 12, 0)))
        directions = heads.directions(blobs)
    assert directions[0] == pytest.approx([-1, 0], abs=0.05)


def test_the_direction_of_an_animal_that_turns_does_not_flip():
    heads, before = Heads(), None
    for degrees in range(0, 360, 10):
        radians = np.radians(degrees)
        x, y = 100 + 40 * np.sin(radians), 75 - 40 * np.cos(radians)
        direction = heads.directions(blobs_of(mask_of((x, y, 40, 12, degrees))))[0]
        if degrees >= 60:
            assert direction @ [np.cos(radians), np.sin(radians)] > 0.9
            assert before is None or before @ direction > 0.9
            before = direction


def test_an_axis_is_head_and_tail_and_a_centroid_one_node():
    blobs = blobs_of(mask_of((90, 70, 60, 20, 0)))
    axis = Outline("axis")
    assert axis.skeleton.nodes == ("head", "tail")
    assert np.abs(axis.detections(blobs).keypoints[0] - [[120, 70], [60, 70]]).max() < 1.5
    assert Outline("centroid").detections(blobs).keypoints.shape == (1, 1, 2)
    assert Outline("none").detections(blobs).keypoints is None
