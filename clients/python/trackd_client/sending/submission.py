"""Checks and copies of the arrays that a caller submits for a frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.errors import TrackdError
from trackd_client.protocol import EncodedImage, ErrorCode, SharedImage

AnyImage = Image | EncodedImage | SharedImage

_FLOATS = (np.dtype("<f4"), np.dtype("<f8"))
_PIXELS = (np.dtype("|u1"), np.dtype("<u2"))
_LABELS = (np.dtype("<i4"), np.dtype("<u2"))
_CLASSES = (np.dtype("<i4"),)
_IDS = (np.dtype("<i8"),)


def checked_image(image: AnyImage | None) -> AnyImage | None:
    """Return the image if it can be sent.

    Raises:
        TrackdError: the dtype or the number of axes is wrong.
    """
    if isinstance(image, np.ndarray):
        if image.dtype not in _PIXELS:
            raise TrackdError(f"an image must be uint8 or uint16; got {image.dtype}", ErrorCode.INVALID_FRAME)
        if image.ndim not in (2, 3):
            raise TrackdError(f"an image must be (h, w) or (h, w, c); got {image.shape}", ErrorCode.INVALID_FRAME)
    return image


def owned(detections: Detections) -> Detections:
    """Return a copy with the wire's dtypes. Later writes of the caller do not change it."""
    return Detections(  # in the order of the fields
        _copied(detections.boxes, _FLOATS),
        _copied(detections.keypoints, _FLOATS),
        _copied(detections.scores, _FLOATS),
        _copied(detections.keypoint_scores, _FLOATS),
        _copied(detections.classes, _CLASSES),
        _copied(detections.masks, _LABELS),
        _copied(detections.gt_ids, _IDS),
    )


def _copied(array: Any, dtypes: tuple[np.dtype[Any], ...]) -> Any:
    if array is None:
        return None
    array = np.asarray(array)
    return array.astype(array.dtype if array.dtype in dtypes else dtypes[0], order="C")
