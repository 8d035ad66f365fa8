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
_MIDDLE = slice(SIDE // 4, SIDE - SIDE // 4)

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
    n, channels = len(crops), crops.shape[3]
    found = np.empty((n, GRID * GRID + BINS * channels), np.float32)
    for i, crop in enumerate(crops):
        grey = crop.mean(axis=2, dtype=np.float32)
        places = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA)
        if not directed[i]:
            places = (places + places[::-1, ::-1]) / 2
        found[i, : GRID * GRID] = places.ravel() * (GRID_WEIGHT / 255)
        ranked = np.sort(crop[_MIDDLE].reshape(-1, channels), axis=0).reshape(BINS, -1, channels)
        found[i, GRID * GRID :] = ranked.mean(axis=1, dtype=np.float32).ravel() / 255
    return found


def _axis(nodes: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], float] | None:
    """The centre of a pose, and the angle of the line from its last visible node to its first; None with fewer."""
    seen = nodes[np.isfinite(nodes).all(axis=1)].astype(np.float64)
    if len(seen) < 2:
        return None
    along = seen[0] - seen[-1]
    return seen.mean(axis=0), float(np.arctan2(along[1], along[0]))


def _brightness_axis(crop: NDArray[np.uint8]) -> float:
    """The axis of the pixels that differ from the crop's edge, by their second moments; radians."""
    grey = crop.reshape(SIDE, SIDE, -1).mean(axis=2)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    weight = np.abs(grey - np.median(edge))
    at = np.arange(SIDE) - (SIDE - 1) / 2
    weight *= np.hypot(*np.meshgrid(at, at)) < SIDE / 2
    total = weight.sum()
    if total <= 0:
        return 0.0
    x, y = (weight.sum(axis=0) @ at) / total, (weight.sum(axis=1) @ at) / total
    u, v = np.meshgrid(at - x, at - y)
    return float(0.5 * np.arctan2(2 * (weight * u * v).sum(), (weight * (u * u - v * v)).sum()))


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
