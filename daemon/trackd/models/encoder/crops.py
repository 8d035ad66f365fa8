"""Crops: their boxes, and cutting them out of a frame.

Letters: n instances, A anchors, k nodes, H x W frame, h x w crop, C channels of one anchor.
Boxes are x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.encoder.upload import to_device


def crop_boxes(centres: NDArray[np.floating], crop_size: Sequence[int], padding: int) -> NDArray[np.float32]:
    """Boxes around centres, as in DREEM's `get_bbox` and its padding.

    A box that would start left of or above the image is shifted to start at 0; it may extend beyond the right and the
    bottom edge. The padding is then added on all sides, so a box may start at -padding. Coordinates are not rounded.

    Args:
        centres: (n, A, 2) x y in pixels, NaN for a missing anchor.
        crop_size: width and height in pixels, without padding.
        padding: pixels on each side.

    Returns:
        (n, A, 4) x1 y1 x2 y2, NaN where the centre is.
    """
    size = np.asarray(crop_size, dtype=np.int64)  # (2,) w h
    low = centres + (-size) // 2  # an odd size extends one pixel further to the left and top
    clipped = np.maximum(low, 0.0)
    high = np.where(clipped == 0.0, size, centres + size // 2)
    return np.concatenate((clipped - padding, high + padding), axis=-1).astype(np.float32)


def crop_shape(crop_size: Sequence[int], padding: int) -> tuple[int, int]:
    """Height and width in pixels of every crop of a config, for `crop_size` as (width, height)."""
    width, height = crop_size
    return height + 2 * padding, width + 2 * padding


def cut_crops(
    frame: Tensor, boxes_px: NDArray[np.float32], shape: tuple[int, int], channels: int, *, unit_range: bool
) -> Tensor:
    """Cut the crops of all instances out of one frame, on the frame's device.

    A crop starts at the box's corner, rounded half to even. Its height is `round(y2 - y1)`, not the difference of two
    rounded edges: for boxes from `crop_boxes` that is `crop_shape` at every position, so one shape serves all.
    Pixels outside the frame are 0; a NaN box gives a crop of zeros.

    Args:
        frame: (H, W) or (H, W, channels of the image), uint8 or uint16.
        boxes_px: (n, A, 4), on the host: the padding is then computed without waiting for the device.
        shape: (h, w) from `crop_shape`.
        channels: C per anchor. An image of one channel is repeated; if C is 1, the image's first channel is used.
        unit_range: divide by 255, as DREEM does for SLEAP recordings; else pixel values are unchanged.

    Returns:
        (n, A C, h, w) float32, anchors one after the other.

    Raises:
        ValueError: the frame's type or shape isn't one of these.
    """
    pixels = _pixels(frame, channels)  # (H, W, C or 1)
    n, anchors = boxes_px.shape[:2]
    h, w = shape
    H, W, _ = pixels.shape
    if n == 0:
        return torch.zeros((0, anchors * channels, h, w), dtype=torch.float32, device=frame.device)
    corners = np.rint(boxes_px[..., :2].reshape(-1, 2))  # (n A, 2) left, top
    corners = np.nan_to_num(np.clip(corners, (-w, -h), (W, H)), nan=np.inf, posinf=np.inf)
    corners = np.minimum(corners, (W, H)).astype(np.int64)
    before = np.maximum(-corners.min(axis=0), 0)  # (2,) left, top
    after = np.maximum(corners.max(axis=0) - (W - w, H - h), 0)
    if before.any() or after.any():
        pixels = F.pad(pixels, (0, 0, int(before[0]), int(after[0]), int(before[1]), int(after[1])))
        corners += before
    crops = _select(pixels, corners, h, w)  # (n A, h, w, C or 1)
    crops = _as_float(crops).permute(0, 3, 1, 2).reshape(n, anchors, -1, h, w)
    if unit_range:
        crops = crops / 255.0
    return crops.expand(-1, -1, channels, -1, -1).reshape(n, anchors * channels, h, w)


def keep_near(
    crops: Tensor, boxes_px: NDArray[np.float32], keypoints_px: NDArray[np.floating], radius_px: int
) -> Tensor:
    """Set all pixels of a crop to 0 that are not near its own instance: DREEM's `dilation_radius_px`.

    As in DREEM, distances are measured from the box's corner before rounding.

    Args:
        crops: (n, A C, h, w), anchors one after the other.
        boxes_px: (n, A, 4) of the crops.
        keypoints_px: (n, k, 2) x y, NaN for a missing node: no pixel is near it.
        radius_px: a pixel is near if its distance to some node is less than this.

    Returns:
        (n, A C, h, w).
    """
    n, anchors = boxes_px.shape[:2]
    h, w = crops.shape[2:]
    places = np.asarray(keypoints_px[:, None] - boxes_px[:, :, None, :2], np.float32)  # (n, A, k, 2) in each crop
    nodes = to_device(places, crops.device)
    columns = torch.arange(w, device=crops.device) - nodes[..., 0, None]  # (n, A, k, w)
    rows = torch.arange(h, device=crops.device) - nodes[..., 1, None]  # (n, A, k, h)
    near = torch.zeros((n, anchors, h, w), dtype=torch.bool, device=crops.device)
    for node in range(nodes.shape[2]):  # not all nodes at once: that would be k masks
        distance = rows[:, :, node, :, None] ** 2 + columns[:, :, node, None, :] ** 2
        near |= distance < radius_px**2
    by_anchor = crops.reshape(n, anchors, -1, h, w)
    return torch.where(near.unsqueeze(2), by_anchor, 0.0).reshape(crops.shape)


def _pixels(frame: Tensor, channels: int) -> Tensor:
    if frame.dtype not in (torch.uint8, torch.uint16):
        raise ValueError(f"a frame must be uint8 or uint16; got {frame.dtype}")
    if frame.ndim not in (2, 3):
        raise ValueError(f"a frame must have shape (H, W) or (H, W, channels); got {tuple(frame.shape)}")
    pixels = frame if frame.ndim == 3 else frame.unsqueeze(2)
    if channels == 1:
        pixels = pixels[..., :1]
    if pixels.shape[2] not in (1, channels):
        raise ValueError(f"a frame must have 1 or {channels} channels for this checkpoint; got {pixels.shape[2]}")
    # torch has few operations on uint16: the bits are kept as int16.
    return pixels.contiguous().view(torch.int16) if pixels.dtype is torch.uint16 else pixels.contiguous()


def _select(pixels: Tensor, corners: NDArray[np.int64], h: int, w: int) -> Tensor:
    """Crops that lie completely inside the frame, (k, h, w, C) for corners (k, 2).

    Each row of a crop is one run of w C numbers in memory. In a view of the frame with one row for every such run, a
    single `index_select` copies all crops, ten times as fast as indexing pixel by pixel.
    """
    _, W, C = pixels.shape
    starts = (corners[:, 1, None] + np.arange(h)) * W + corners[:, 0, None]  # (k, h) in pixels
    runs = pixels.as_strided((pixels.numel() - w * C + 1, w * C), (1, 1))
    index = to_device((starts * C).ravel(), pixels.device)
    return runs.index_select(0, index).view(-1, h, w, C)


def _as_float(crops: Tensor) -> Tensor:
    if crops.dtype is torch.int16:
        return (crops.to(torch.int32) & 0xFFFF).float()
    return crops.float()


def stretched(frame: Tensor) -> Tensor:
    """Convert a 16-bit frame to 8 bits, darkest pixel 0 and brightest 255, as DREEM's label-image data set.

    Args:
        frame: (h, w) or (h, w, c), uint16; a frame of equal values becomes 0.
    """
    values = frame.to(torch.float32)
    low = values.amin()
    span = (values.amax() - low).clamp_min(1)
    return ((values - low) / span * 255).to(torch.uint8)
