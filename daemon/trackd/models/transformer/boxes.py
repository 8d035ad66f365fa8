"""Boxes in the transformer's format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def normalise_boxes(boxes_px: NDArray[np.floating], width: int, height: int) -> NDArray[np.float32]:
    """Pixel boxes x1 y1 x2 y2 to the transformer's y1 x1 y2 x2.

    DREEM's `get_boxes` divides the y's by the WIDTH and the x's by the HEIGHT, and its checkpoints were trained so:
    on images that are not square a coordinate may exceed 1. This runs on the host: for few boxes numpy takes a third of
    torch's time, and one transfer then copies everything to the device.

    Args:
        boxes_px: (..., 4), NaN for a missing anchor.
        width: of the image in pixels.
        height: of the image in pixels.

    Returns:
        (..., 4) float32, -1 where the input was NaN.
    """
    sides = np.array([width, height, width, height], np.float32)
    yxyx: NDArray[np.float32] = np.asarray(boxes_px, np.float32)[..., [1, 0, 3, 2]]  # a copy
    yxyx /= sides
    yxyx[np.isnan(yxyx)] = -1.0
    return yxyx
