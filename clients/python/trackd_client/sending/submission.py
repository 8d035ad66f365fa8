"""Checks and copies of the values that a caller submits for a frame, before the frame has a seq.

A frame that the daemon cannot read would be refused, and the frames behind it would wait.
"""

from __future__ import annotations

from operator import index
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.errors import TrackdError
from trackd_client.excerpt import excerpt
from trackd_client.protocol import EncodedImage, ErrorCode, SharedImage
from trackd_client.protocol.fields import INT64_MAX

AnyImage = Image | EncodedImage | SharedImage

_FLOATS = (np.dtype("<f4"), np.dtype("<f8"))
_PIXELS = (np.dtype("|u1"), np.dtype("<u2"))
_LABELS = (np.dtype("<i4"), np.dtype("<u2"))
_CLASSES = (np.dtype("<i4"),)
_IDS = (np.dtype("<i8"),)
_ENCODINGS = ("jpeg", "png")
_SHOWN_BITS = 256  # of an integer that is too large


def whole_number(name: str, value: Any, what: str) -> int:
    """Return a value as an `int` that fits the wire; integers of numpy are accepted.

    Args:
        name: of the value.
        value: as the caller gave it.
        what: what would be right.

    Raises:
        TrackdError: it is no integer, a boolean, or beyond 64 bits.
    """
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        _refuse(f"{name} must be {what}; got {excerpt(value)}")
    if not -INT64_MAX <= number <= INT64_MAX:
        shown = str(number) if number.bit_length() <= _SHOWN_BITS else f"one of {number.bit_length()} bits"
        _refuse(f"{name} must be {what}, and must fit in 64 bits; got {shown}")
    return number


def checked_image(image: Any) -> AnyImage | None:
    """Return the image if it can be sent. The file of an `EncodedImage` becomes bytes.

    Raises:
        TrackdError: its type, dtype, number of axes or encoding is wrong.
    """
    if isinstance(image, np.ndarray):
        if image.dtype not in _PIXELS:
            _refuse(f"an image must be uint8 or uint16; got {image.dtype}")
        if image.ndim not in (2, 3):
            _refuse(f"an image must be (h, w) or (h, w, c); got {image.shape}")
        return image
    if isinstance(image, EncodedImage):
        return _checked_file(image)
    if image is not None and not isinstance(image, SharedImage):
        hint = "; read the file first, as in EncodedImage('jpeg', path.read_bytes())"
        _refuse(
            "image must be None, an array (h, w) or (h, w, c) of uint8 or uint16, or an EncodedImage; "
            f"got {excerpt(image)}{hint if isinstance(image, str | PurePath) else ''}"
        )
    return image


def _checked_file(image: EncodedImage) -> EncodedImage:
    if image.encoding not in _ENCODINGS:
        _refuse(f"the encoding of an EncodedImage must be 'jpeg' or 'png'; got {excerpt(image.encoding)}")
    if type(image.data) is bytes:
        return image
    try:
        return EncodedImage(image.encoding, bytes(memoryview(image.data)))
    except TypeError:
        _refuse(f"the data of an EncodedImage must be the bytes of a file; got {excerpt(image.data)}")


def owned(detections: Any) -> Detections:
    """Return a copy with the wire's dtypes. Later writes of the caller do not change it.

    Raises:
        TrackdError: no `Detections`, one without boxes and keypoints, or one of other values than numbers.
    """
    if not isinstance(detections, Detections):
        _refuse(
            "detections must be trackd_client.Detections, as in Detections(boxes=boxes); send Detections.empty() for a "
            f"frame without detections; got {excerpt(detections)}"
        )
    if detections.boxes is None and detections.keypoints is None:
        _refuse("detections must hold boxes, keypoints or both; send Detections.empty() for a frame without detections")
    return Detections(  # in the order of the fields
        _copied("boxes", detections.boxes, _FLOATS),
        _copied("keypoints", detections.keypoints, _FLOATS),
        _copied("scores", detections.scores, _FLOATS),
        _copied("keypoint_scores", detections.keypoint_scores, _FLOATS),
        _copied("classes", detections.classes, _CLASSES),
        _copied("masks", detections.masks, _LABELS),
        _copied("gt_ids", detections.gt_ids, _IDS),
    )


def _copied(name: str, values: Any, dtypes: tuple[np.dtype[Any], ...]) -> Any:
    if values is None:
        return None
    try:
        array = np.asarray(values)
        is_numbers = array.dtype.kind in "biuf"
    except ValueError:  # rows of different lengths
        is_numbers = False
    if not is_numbers:
        _refuse(f"detections.{name} must be an array of numbers; got {excerpt(values)}")
    return array.astype(array.dtype if array.dtype in dtypes else dtypes[0], order="C")


def _refuse(message: str) -> NoReturn:
    raise TrackdError(message, ErrorCode.INVALID_FRAME)
