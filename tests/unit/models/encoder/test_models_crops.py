from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackd.models.encoder.crops import crop_boxes, crop_shape, cut_crops, keep_near, stretched


def slow_crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A crop cut pixel by pixel: (h, w, C) float32."""
    x1, y1, x2, y2 = (float(value) for value in box)
    top, left = round(y1), round(x1)
    height, width = round(y2 - y1), round(x2 - x1)
    out = np.zeros((height, width, frame.shape[2]), np.float32)
    for i in range(height):
        for j in range(width):
            if 0 <= top + i < frame.shape[0] and 0 <= left + j < frame.shape[1]:
                out[i, j] = frame[top + i, left + j]
    return out


def slow_box(x: float, y: float, size: tuple[int, int], padding: int) -> list[float]:
    """One box, coordinate by coordinate, written as in DREEM's `get_bbox`."""
    low, high = [], []
    for centre, side in ((x, size[0]), (y, size[1])):
        start = max(0.0, centre + (-side) // 2)
        end = side if start == 0 else centre + side // 2
        low.append(start - padding)
        high.append(end + padding)
    return [*low, *high]


def random_frame(height: int, width: int, channels: int, dtype: type = np.uint8) -> NDArray[np.integer]:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype, endpoint=True)


coordinate = st.floats(-200, 300, width=32)


@settings(max_examples=60, deadline=None)
@given(
    centres=st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 4),
)
def test_crops_equal_those_cut_pixel_by_pixel_at_any_position(centres, size, padding):
    frame = random_frame(40, 30, 3)
    boxes = crop_boxes(np.array(centres)[:, None], size, padding)
    crops = cut_crops(torch.from_numpy(frame), boxes, crop_shape(size, padding), 3, unit_range=False)
    for crop, box in zip(crops, boxes[:, 0], strict=True):
        np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), slow_crop(frame, box))


@given(x=st.floats(-50, 500), y=st.floats(-50, 500), size=st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_boxes_equal_dreems(x, y, size):
    box = crop_boxes(np.array([[[x, y]]]), size, 3)
    np.testing.assert_array_equal(box[0, 0], np.array(slow_box(x, y, size, 3), np.float32))
    assert box.dtype == np.float32


@given(x=st.floats(-50, 5000), y=st.floats(-50, 5000), size=st.integers(1, 256), padding=st.integers(0, 16))
def test_every_crop_of_a_config_has_the_same_shape_at_any_position(x, y, size, padding):
    x1, y1, x2, y2 = crop_boxes(np.array([[[x, y]]]), (size, size), padding)[0, 0].tolist()
    assert (round(y2 - y1), round(x2 - x1)) == crop_shape((size, size), padding)


def test_a_corner_half_way_between_pixels_is_rounded_to_even():
    frame = random_frame(20, 20, 1)
    boxes = np.array([[[2.5, 3.5, 6.5, 7.5]]], np.float32)
    crop = cut_crops(torch.from_numpy(frame), boxes, (4, 4), 1, unit_range=False)
    np.testing.assert_array_equal(crop[0, 0].numpy(), frame[4:8, 2:6, 0])


def test_an_instance_without_a_box_has_an_empty_crop_and_its_neighbour_a_full_one():
    frame = torch.full((32, 32), 255, dtype=torch.uint8)
    centres = np.array([[[math.nan, math.nan]], [[16.0, 16.0]], [[math.nan, 16.0]]])
    crops = cut_crops(frame, crop_boxes(centres, (8, 8), 0), (8, 8), 1, unit_range=True)
    assert crops.sum(dim=(1, 2, 3)).tolist() == [0.0, 64.0, 0.0]


def test_a_box_beyond_every_pixel_gives_an_empty_crop():
    frame = torch.full((32, 32), 255, dtype=torch.uint8)
    boxes = np.array([[[1e9, 1e9, 1e9, 1e9]], [[-1e9, 0, -1e9, 8]], [[np.inf, 0, np.inf, 8]]], np.float32)
    assert cut_crops(frame, boxes, (8, 8), 1, unit_range=True).count_nonzero() == 0


def test_anchors_follow_each_other_on_the_channel_axis_and_mono_is_repeated():
    frame = random_frame(40, 40, 1)
    boxes = crop_boxes(np.array([[[10.0, 10.0], [20.0, 25.0]]]), (6, 6), 1)
    crops = cut_crops(torch.from_numpy(frame[..., 0]), boxes, (8, 8), 3, unit_range=False)
    assert crops.shape == (1, 6, 8, 8)
    for anchor in range(2):
        expected = slow_crop(frame, boxes[0, anchor])[..., 0]
        for channel in range(3):
            np.testing.assert_array_equal(crops[0, 3 * anchor + channel].numpy(), expected)


def test_a_colour_frame_gives_its_first_channel_where_one_is_needed():
    frame = random_frame(20, 20, 3)
    boxes = np.array([[[2, 2, 6, 6]]], np.float32)
    crops = cut_crops(torch.from_numpy(frame), boxes, (4, 4), 1, unit_range=False)
    np.testing.assert_array_equal(crops[0, 0].numpy(), frame[2:6, 2:6, 0])


def test_sixteen_bit_pixels_keep_their_values_above_32767():
    frame = random_frame(20, 20, 1, np.uint16)
    boxes = np.array([[[-1, 2, 3, 6]]], np.float32)
    crops = cut_crops(torch.from_numpy(frame[..., 0]), boxes, (4, 4), 1, unit_range=False)
    np.testing.assert_array_equal(crops[0].permute(1, 2, 0).numpy(), slow_crop(frame, boxes[0, 0]))


def test_a_frame_without_instances_gives_no_crops():
    frame = torch.zeros((20, 20), dtype=torch.uint8)
    assert cut_crops(frame, np.zeros((0, 2, 4), np.float32), (4, 4), 3, unit_range=True).shape == (0, 6, 4, 4)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (torch.zeros((8, 8)), "uint8 or uint16; got torch.float32"),
        (torch.zeros((2, 8, 8, 3), dtype=torch.uint8), "got .2, 8, 8, 3."),
        (torch.zeros((8, 8, 4), dtype=torch.uint8), "1 or 3 channels for this checkpoint; got 4"),
    ],
)
def test_a_frame_of_another_type_or_shape_is_an_error_that_names_it(frame: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        cut_crops(frame, np.zeros((1, 1, 4), np.float32), (4, 4), 3, unit_range=True)


def test_pixels_far_from_all_visible_nodes_are_set_to_zero():
    rng = np.random.default_rng(0)
    crops = torch.from_numpy(rng.uniform(0.5, 1, (3, 4, 12, 15)).astype(np.float32))  # 2 anchors, 2 channels
    boxes = rng.uniform(0, 30, (3, 2, 4)).astype(np.float32)
    boxes[1, 0] = np.nan
    nodes = boxes[:, :1, :2] + rng.uniform(0, 15, (3, 5, 2))
    nodes[1] = boxes[1, 1, :2] + rng.uniform(0, 15, (5, 2))
    nodes[0, 3], nodes[2] = np.nan, np.nan
    kept = keep_near(crops, boxes, nodes, 4)
    for i, anchor, row, column in np.ndindex(3, 2, 12, 15):
        offsets = nodes[i] - boxes[i, anchor, :2] - (column, row)
        near = bool((np.hypot(*offsets.T) < 4).any())
        wanted = crops[i, 2 * anchor : 2 * anchor + 2, row, column] * near
        assert torch.equal(kept[i, 2 * anchor : 2 * anchor + 2, row, column], wanted)
    assert not kept[2].any()
    assert kept[0].any()


def test_a_16_bit_frame_is_stretched_to_8_bits_by_its_own_range():
    frame = np.random.default_rng(0).integers(32995, 36000, (20, 30)).astype(np.uint16)
    low, high = int(frame.min()), int(frame.max())
    expected = ((frame.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
    ours = stretched(torch.from_numpy(frame)).numpy()
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1
    assert (ours.min(), ours.max()) == (0, 255)
    assert not stretched(torch.full((4, 4), 7, dtype=torch.uint16)).any()
