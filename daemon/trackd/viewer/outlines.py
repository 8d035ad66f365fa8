"""The outlines of a frame's masks, as lines that a page can draw."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_MOST_INSTANCES = 512  # those after it have no outline
_MOST_PIXELS = 33_554_432  # in all boxes together; instances beyond it have no outline
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
    room = _MOST_PIXELS
    outlines = []
    for number, box in enumerate(boxes[:_MOST_INSTANCES].tolist()):
        inside = _within(box, masks.shape[0], masks.shape[1])
        if inside is not None:
            x1, y1, x2, y2 = inside
            room -= (x2 - x1) * (y2 - y1)
        outlines.append([] if inside is None or room < 0 else _lines(masks, inside, number + 1))
    return outlines


def _within(box: list[float], height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return the pixels of a box with one around it, x1 y1 x2 y2; None where it has none in the image."""
    if not all(map(math.isfinite, box)):
        return None
    x1, y1 = max(0, math.floor(box[0]) - 1), max(0, math.floor(box[1]) - 1)
    x2, y2 = min(width, math.ceil(box[2]) + 2), min(height, math.ceil(box[3]) + 2)
    return None if x1 >= x2 or y1 >= y2 else (x1, y1, x2, y2)


def _lines(masks: NDArray[Any], inside: tuple[int, int, int, int], label: int) -> list[bytes]:
    x1, y1, x2, y2 = inside
    pixels = (masks[y1:y2, x1:x2] == label).astype(np.uint8)
    found, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
    lines = []
    for line in found[:_MOST_LINES]:
        points = cv2.approxPolyDP(line, _TOLERANCE_PX, True).reshape(-1, 2)
        step = math.ceil(len(points) / _MOST_POINTS)
        lines.append(points[::step].astype("<f4").tobytes())
    return lines
