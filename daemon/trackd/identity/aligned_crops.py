"""Aligned crops: small images of the animals, all turned the same way, and the features that are learnt from.

An aligned crop shows one animal along the x axis, its first node to the right where a pose was sent. Without a pose
the axis is that of the brightness. It has no direction, so the features are then the mean of those of the crop and of
the crop turned by half a turn.

Letters: n instances, k nodes, S pixels of a crop's side, c channels, D features.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image

SIDE = 48  # S
GRID = 16  # the features hold the crop's brightness at GRID × GRID places
BINS = 24  # and of each channel, the sorted values of the crop's middle, in so many bins
SCALE = 1.1  # side of a crop over the diagonal of the box
GRID_WEIGHT = 0.3  # of one place against one bin
_MIDDLE = slice(SIDE // 4, SIDE - SIDE // 4, 2)  # rows and columns of it, every second one
_AT = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
_INSIDE = np.hypot(*np.meshgrid(_AT, _AT)) < SIDE / 2

Crops = NDArray[np.uint8]  # (n, S, S, c)


def aligned_crops(
    image: Image, boxes: NDArray[np.float32], keypoints: NDArray[np.floating[Any]] | None
) -> tuple[Crops, NDArray[np.bool_]]:
    """Cut the aligned crops of some instances out of one frame.

    Args:
        image: (h, w) or (h, w, c), uint8 or uint16; of 16 bits the upper 8 are used.
        boxes: (n, 4) x1 y1 x2 y2 in pixels, finite.
        keypoints: (n, k, 2), NaN for a missing node; None without poses.

    Returns:
        The crops, (n, S, S, c), and (n,) whether the direction of each is known. A pixel outside the image has the
        value of the nearest pixel of its edge.
    """
    pixels = image if image.ndim == 3 else image[:, :, None]
    crops = np.empty((len(boxes), SIDE, SIDE, min(pixels.shape[2], 3)), np.uint8)
    directed = np.zeros(len(boxes), bool)
    for i, box in enumerate(boxes):
        low, high = box[:2].astype(float), box[2:].astype(float)
        centre, angle = (low + high) / 2, 0.0
        axis = None if keypoints is None else _axis(keypoints[i])
        if axis is not None:
            centre, angle, directed[i] = axis[0], axis[1], True
        scale = max(float(np.hypot(*(high - low))), 2.0) * SCALE / SIDE
        crop = _cut(pixels, centre, angle, scale)
        if axis is None:
            crop = _cut(pixels, centre, _brightness_axis(crop), scale)
        crops[i] = crop
    return crops, directed


def features(crops: Crops, directed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Compute the features (n, D) of aligned crops: the brightness by place, and the colours of the middle by rank."""
    n, channels, cell = len(crops), crops.shape[3], SIDE // GRID
    grey = crops.mean(axis=3, dtype=np.float32)
    places = grey.reshape(n, GRID, cell, GRID, cell).mean(axis=(2, 4))
    places = np.where(directed[:, None, None], places, (places + places[:, ::-1, ::-1]) / 2)
    ranked = np.sort(crops[:, _MIDDLE, _MIDDLE].reshape(n, -1, channels), axis=1)
    bins = ranked.reshape(n, BINS, -1, channels).mean(axis=2, dtype=np.float32)
    columns = [places.reshape(n, -1) * GRID_WEIGHT, bins.reshape(n, -1)]
    return (np.concatenate(columns, axis=1) / 255).astype(np.float32)


def _axis(nodes: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float] | None:
    """The centre of a pose, and the angle of the line from its last visible node to its first; None with fewer."""
    seen = nodes[np.isfinite(nodes).all(axis=1)].astype(np.float64)
    if len(seen) < 2:
        return None
    along = seen[0] - seen[-1]
    return seen.mean(axis=0), float(np.arctan2(along[1], along[0]))


def _brightness_axis(crop: NDArray[np.uint8]) -> float:
    """The axis of the pixels that differ from the crop's edge, by their second moments; radians."""
    grey = crop.mean(axis=2, dtype=np.float32)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    weight = np.abs(grey - np.median(edge)) * _INSIDE
    total = float(weight.sum())
    if total <= 0:
        return 0.0
    columns, rows = weight.sum(axis=0), weight.sum(axis=1)
    x, y = float(columns @ _AT) / total, float(rows @ _AT) / total
    cross = float(_AT @ weight @ _AT) / total - x * y
    spread = float((columns - rows) @ (_AT * _AT)) / total - x * x + y * y
    return 0.5 * float(np.arctan2(2 * cross, spread))


def _cut(pixels: Image, centre: NDArray[np.float64], angle: float, scale: float) -> NDArray[np.uint8]:
    """Cut a turned square out of the image; (S, S, c)."""
    # Only the part of the image that the square may cover is turned: a whole image of 16 bits is not converted.
    reach = int(np.ceil(SIDE * scale * 0.75)) + 2
    height, width = pixels.shape[:2]
    x0, y0 = (int(np.clip(c - reach, 0, size - 1)) for c, size in zip(centre, (width, height), strict=True))
    x1, y1 = (int(np.clip(c + reach, 0, size - 1)) + 1 for c, size in zip(centre, (width, height), strict=True))
    part = pixels[y0:y1, x0:x1, :3]
    if part.dtype == np.uint16:
        part = (part >> 8).astype(np.uint8)
    along, across = np.cos(angle) * scale, np.sin(angle) * scale
    half = (SIDE - 1) / 2
    to_image = np.array(
        [
            [along, -across, centre[0] - x0 - (along - across) * half],
            [across, along, centre[1] - y0 - (across + along) * half],
        ]
    )
    crop = cv2.warpAffine(
        np.ascontiguousarray(part), to_image, (SIDE, SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(crop).reshape(SIDE, SIDE, -1)
