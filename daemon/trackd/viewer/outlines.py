"""The outlines of a frame's masks, as lines that a page can draw."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_MOST_INSTANCES = 512  # those after it have no outline
_MOST_POINTS = 256  # of one line
_MOST_LINES = 8  # of one instance
_TOLERANCE_PX = 0.7


def outlines_of(masks: NDArray[Any] | None, boxes: NDArray[Any] | None) -> list[list[bytes]] | None:
    """Return the outer lines of each instance.

    Args:
        masks: (h, w) label image: label i + 1 is instance i.
        boxes: (n, 4) x1 y1 x2 y2, pixels; an instance is looked for in its box alone.

    Returns:
        For each instance its closed lines, each (points, 2) x y in pixels as <f4; None without masks.
    """
    if masks is None or boxes is None:
        return None
    return [_lines(masks, box, number + 1) for number, box in enumerate(boxes[:_MOST_INSTANCES].tolist())]


def _lines(masks: NDArray[Any], box: list[float], label: int) -> list[bytes]:
    if not all(map(math.isfinite, box)):
        return []
    height, width = masks.shape
    x1, y1 = max(0, math.floor(box[0]) - 1), max(0, math.floor(box[1]) - 1)
    x2, y2 = min(width, math.ceil(box[2]) + 2), min(height, math.ceil(box[3]) + 2)
    if x1 >= x2 or y1 >= y2:
        return []
    inside = (masks[y1:y2, x1:x2] == label).astype(np.uint8)
    found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
    lines = []
    for line in found[:_MOST_LINES]:
        points = cv2.approxPolyDP(line, _TOLERANCE_PX, True).reshape(-1, 2)
        step = math.ceil(len(points) / _MOST_POINTS)
        lines.append(points[::step].astype("<f4").tobytes())
    return lines
