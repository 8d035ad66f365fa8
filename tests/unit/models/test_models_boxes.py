from __future__ import annotations

import math

import torch

from trackd.models.boxes import normalise_boxes


def test_ys_are_divided_by_the_width_and_xs_by_the_height():
    boxes = torch.tensor([[[10.0, 20.0, 30.0, 40.0]]])  # x1 y1 x2 y2
    normalised = normalise_boxes(boxes, width=100, height=50)
    torch.testing.assert_close(normalised, torch.tensor([[[0.2, 0.2, 0.4, 0.6]]]))


def test_an_unseen_anchor_becomes_minus_one_and_its_neighbour_stays():
    boxes = torch.tensor([[[math.nan] * 4, [10.0, 10.0, 20.0, 20.0]]])
    normalised = normalise_boxes(boxes, width=100, height=100)
    assert normalised[0, 0].tolist() == [-1.0] * 4
    torch.testing.assert_close(normalised[0, 1], torch.tensor([0.1, 0.1, 0.2, 0.2]))
