from __future__ import annotations

import math

import numpy as np

from trackd.models.transformer.boxes import normalise_boxes


def test_ys_are_divided_by_the_width_and_xs_by_the_height():
    boxes = np.array([[[10.0, 20.0, 30.0, 40.0]]])  # x1 y1 x2 y2
    normalised = normalise_boxes(boxes, width=100, height=50)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, [[[0.2, 0.2, 0.4, 0.6]]], rtol=1e-6)


def test_a_missing_anchor_becomes_minus_one_and_its_neighbour_is_unchanged():
    boxes = np.array([[[math.nan] * 4, [10.0, 10.0, 20.0, 20.0]]])
    normalised = normalise_boxes(boxes, width=100, height=100)
    assert normalised[0, 0].tolist() == [-1.0] * 4
    np.testing.assert_allclose(normalised[0, 1], [0.1, 0.1, 0.2, 0.2], rtol=1e-6)
