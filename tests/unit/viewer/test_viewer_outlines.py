"""The outlines of masks."""

from __future__ import annotations

import numpy as np

from trackd.viewer.outlines import outlines_of


def test_an_instance_has_the_outline_of_its_own_label():
    masks = np.zeros((60, 80), np.int32)
    masks[10:20, 30:50] = 1
    masks[10:20, 50:60] = 2
    first, second = outlines_of(masks, np.array([[30, 10, 50, 20], [50, 10, 60, 20]], np.float32))
    (line,) = [np.frombuffer(line, "<f4").reshape(-1, 2) for line in first]
    assert sorted(map(tuple, line.tolist())) == [(30, 10), (30, 19), (49, 10), (49, 19)]
    assert len(second) == 1


def test_a_box_beyond_the_mask_or_without_numbers_has_no_outline():
    masks = np.ones((20, 20), np.uint16)
    boxes = np.array([[-500, -500, -400, -400], [np.nan, 0, 1, 1], [0, 0, np.inf, 5], [90, 90, 99, 99]], np.float32)
    assert outlines_of(masks, boxes) == [[], [], [], []]


def test_without_masks_there_are_none():
    assert outlines_of(None, np.zeros((1, 4))) is None


def test_an_outline_of_many_points_is_thinned():
    masks = (np.random.default_rng(3).random((600, 600)) < 0.6).astype(np.uint16)
    (lines,) = outlines_of(masks, np.array([[0, 0, 600, 600]], np.float32))
    assert len(lines) <= 8
    assert all(len(line) <= 256 * 8 for line in lines)


def test_the_pixels_that_are_searched_are_bounded_whatever_the_boxes():
    masks = np.ones((1000, 1000), np.uint8)
    outlines = outlines_of(masks, np.tile(np.array([[0, 0, 1000, 1000]], np.float32), (100, 1)))
    assert [len(lines) for lines in outlines] == [1] + [0] * 99
    masks[:] = 34  # after 33 boxes of a million pixels
    assert not any(outlines_of(masks, np.tile(np.array([[0, 0, 1000, 1000]], np.float32), (100, 1))))
