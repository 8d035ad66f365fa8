"""Boxes as the transformer takes them."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise_boxes(boxes_px: Tensor, width: int, height: int) -> Tensor:
    """Pixel boxes x1 y1 x2 y2 to the transformer's y1 x1 y2 x2.

    DREEM's `get_boxes` divides the y's by the WIDTH and the x's by the HEIGHT, and its checkpoints were trained so:
    on images that aren't square a coordinate may exceed 1.

    Args:
        boxes_px: (..., 4), NaN where an anchor wasn't seen.
        width: of the image in pixels.
        height: of the image in pixels.

    Returns:
        (..., 4) float32, -1 where the input was NaN.
    """
    x1, y1, x2, y2 = boxes_px.to(torch.float32).unbind(-1)
    yxyx = torch.stack((y1 / width, x1 / height, y2 / width, x2 / height), dim=-1)
    return torch.nan_to_num(yxyx, nan=-1.0)
