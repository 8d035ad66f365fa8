"""Decoding a `frame` message: first its head, then its arrays, each after a check against the limits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

from trackd_client.detections import Detections, Image
from trackd_client.protocol import fields as read
from trackd_client.protocol.arrays import Part, part_at, read_array, shape_of
from trackd_client.protocol.errors import ErrorCode, FrameHead, ProtocolError, bad_message
from trackd_client.protocol.image_header import image_size
from trackd_client.protocol.limits import Limits
from trackd_client.protocol.messages import EncodedImage, Frame, SharedImage

Header = dict[str, Any]
_FLOATS = ("<f4", "<f8")
_PIXELS = ("|u1", "<u2")
_MOST_CONTEXT = 128  # characters of `traceparent`; version 00 of the format has 55
_ARRAYS: dict[str, tuple[Sequence[str], int]] = {  # the arrays of detections: dtypes, number of axes
    "boxes": (_FLOATS, 2),
    "keypoints": (_FLOATS, 3),
    "scores": (_FLOATS, 1),
    "keypoint_scores": (_FLOATS, 2),
    "classes": (("<i4",), 1),
    "gt_ids": (("<i8",), 1),
}


def read_frame_head(header: Header) -> FrameHead:
    """The identity of a frame that is rejected. A `frame_index` that cannot be read is −1, a `t_ns` is 0.

    Raises:
        ProtocolError: `bad_message` if `stream` or `seq` is invalid.
    """
    head = FrameHead(read.stream_name(header), read.integer(header, "seq", 0), -1, 0)
    with suppress(ProtocolError):
        head.frame_index = read.integer(header, "frame_index")
    with suppress(ProtocolError):
        head.t_ns = read.integer(header, "t_ns")
    head.traceparent = _traceparent(header)
    return head


def read_frame(header: Header, parts: Sequence[Part], limits: Limits) -> Frame:
    """A frame from its header and parts.

    Raises:
        ProtocolError: `bad_message` without a `head` if `stream` or `seq` is invalid. Else with the frame's `head`, so
            that the frame can be settled: `bad_message` if `frame_index` or `t_ns` is invalid, `invalid_frame` or
            `too_large` if the rest is.
    """
    stream = read.stream_name(header)
    seq = read.integer(header, "seq", 0)
    code = ErrorCode.BAD_MESSAGE
    try:
        frame_index = read.integer(header, "frame_index")
        t_ns = read.integer(header, "t_ns")
        code = ErrorCode.INVALID_FRAME
        image = _image(header, parts, limits)
        detections = _detections(header, parts, limits)
    except ProtocolError as error:
        if error.code is ErrorCode.TOO_LARGE:
            code = ErrorCode.TOO_LARGE
        raise ProtocolError(code, error.message, head=read_frame_head(header)) from None
    traceparent = _traceparent(header) if "traceparent" in header else None
    return Frame(stream, seq, frame_index, t_ns, detections, image, traceparent)


def _traceparent(header: Header) -> str | None:
    """The sender's trace context; None if it cannot be one, which is no reason to reject a frame."""
    value = header.get("traceparent")
    return value if isinstance(value, str) and len(value) <= _MOST_CONTEXT else None


def _image(header: Header, parts: Sequence[Part], limits: Limits) -> Image | EncodedImage | SharedImage | None:
    if header.get("image") is None:
        return None
    image = read.mapping(header, "image")
    encoding = read.text(image, "encoding")
    if encoding == "raw":
        data = read.mapping(image, "data")
        shape = shape_of(data, "image.data")
        _check_image_shape(shape, limits)
        array: Image = read_array(data, parts, "image.data", _PIXELS)  # a view of its part
        if array.nbytes > limits.image_bytes:
            _check_image_bytes(array.nbytes, (*shape[:2], array.nbytes // prod(shape[:2])), limits)
        return array
    if encoding in ("jpeg", "png"):
        part = part_at(image.get("part"), parts, "image")
        size = image_size(encoding, part)
        if size is None:
            raise bad_message(f"image of encoding {encoding} has no {encoding} header")
        _check_image_shape(size[:2], limits)
        decoded_bytes = prod(size)
        _check_image_bytes(decoded_bytes, size, limits)
        return EncodedImage(encoding, part, decoded_bytes)
    if encoding == "shm":
        shape = shape_of(image, "image")
        _check_image_shape(shape, limits)
        dtype = read.text(image, "dtype")
        if dtype not in _PIXELS:
            raise bad_message(f"image.dtype must be one of {', '.join(_PIXELS)}; got {dtype[:60]!r}")
        itemsize = 1 if dtype == "|u1" else 2
        _check_image_bytes(prod(shape) * itemsize, (*shape[:2], prod(shape[2:]) * itemsize), limits)
        offset = read.integer(image, "offset", 0)
        generation = read.integer(image, "generation", 0)
        return SharedImage(read.text(image, "name"), offset, shape, dtype, generation)
    raise bad_message(f"image.encoding must be one of raw, jpeg, png, shm; got {encoding[:60]!r}")


def _check_image_shape(shape: tuple[int, ...], limits: Limits) -> None:
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] > 4):
        raise bad_message(f"an image must be [h, w] or [h, w, c] with c from 1 to 4; got {list(shape)}")
    if prod(shape[:2]) > limits.image_pixels:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"an image has at most {limits.image_pixels} pixels; got {shape[0]} x {shape[1]}",
        )


def _check_image_bytes(nbytes: int, size: tuple[int, ...], limits: Limits) -> None:
    if nbytes > limits.image_bytes:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"an image has at most {limits.image_bytes} bytes when decoded (limits.image_bytes); got {nbytes}: "
            f"{size[0]} x {size[1]} pixels of {size[2]} bytes",
        )


def _detections(header: Header, parts: Sequence[Part], limits: Limits) -> Detections:
    given = read.mapping(header, "detections")
    if given.get("boxes") is None and given.get("keypoints") is None:
        raise bad_message("detections must hold boxes, keypoints or both; got neither")
    if len(given) == 1 and "boxes" in given:  # most frames
        return Detections(_checked_boxes(_array(given["boxes"], "boxes", parts, *_ARRAYS["boxes"], limits)))
    arrays = {
        name: _array(ref, name, parts, dtypes, axes, limits)
        for name, (dtypes, axes) in _ARRAYS.items()
        if (ref := given.get(name)) is not None
    }
    boxes, keypoints, scores, keypoint_scores, classes, gt_ids = map(arrays.get, _ARRAYS)
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        if len(array) != n:
            raise bad_message(f"detections.{name} must have {n} rows, as the arrays beside it; got {len(array)}")
    if boxes is not None:
        _checked_boxes(boxes)
    if keypoints is not None and keypoints.shape[2] != 2:
        raise bad_message(f"detections.keypoints must be [n, k, 2], x y; got {list(keypoints.shape)}")
    if keypoint_scores is not None and (keypoints is None or keypoint_scores.shape != keypoints.shape[:2]):
        raise bad_message("detections.keypoint_scores must be [n, k] beside keypoints [n, k, 2]")
    return Detections(boxes, keypoints, scores, keypoint_scores, classes, _masks(given, parts, limits), gt_ids)


def _checked_boxes(boxes: Any) -> Any:
    if boxes.shape[1] != 4:
        raise bad_message(f"detections.boxes must be [n, 4], x1 y1 x2 y2; got {list(boxes.shape)}")
    return boxes


def _array(ref: Any, name: str, parts: Sequence[Part], dtypes: Sequence[str], axes: int, limits: Limits) -> Any:
    field = f"detections.{name}"
    if not isinstance(ref, dict):
        raise bad_message(f"{field} must be an array map; got {type(ref).__name__}")
    shape = shape_of(ref, field)
    if len(shape) != axes:
        raise bad_message(f"{field} must have {axes} axes; got {list(shape)}")
    if shape[0] > limits.instances:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"a frame has at most {limits.instances} instances; got {shape[0]}")
    if name in ("keypoints", "keypoint_scores") and shape[1] > limits.keypoints:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"an instance has at most {limits.keypoints} keypoints; got {shape[1]}"
        )
    return read_array(ref, parts, field, dtypes, shape)


def _masks(given: Header, parts: Sequence[Part], limits: Limits) -> Any:
    if given.get("masks") is None:
        return None
    labels = read.mapping(read.mapping(given, "masks"), "labels")
    shape = shape_of(labels, "detections.masks.labels")
    if len(shape) != 2:
        raise bad_message(f"detections.masks.labels must be [h, w]; got {list(shape)}")
    _check_image_shape(shape, limits)
    return read_array(labels, parts, "detections.masks.labels", ("<u2", "<i4"))
