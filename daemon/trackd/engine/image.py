"""Decode the image of a frame to an array."""

from __future__ import annotations

import cv2
import numpy as np

from trackd.engine.step_cost import LARGE_IMAGE_BYTES
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage, ErrorCode, ProtocolError, SharedImage
from trackd_client.protocol.image_header import chunks_end, image_size

_STRIP_BYTES = 1 << 18


def decode_image(image: Image | EncodedImage | SharedImage) -> Image:
    """Return (h, w) or (h, w, c) pixels, uint8 or uint16. Colour is RGB, as in raw images.

    Raises:
        ProtocolError: `invalid_frame`, if the encoded file is damaged.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, SharedImage):  # the IO thread copies them on receipt, before the producer overwrites them
        raise ProtocolError(ErrorCode.INTERNAL, "a shared image reached the engine")
    whole = chunks_end(image.data)
    pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_UNCHANGED) if whole else None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ProtocolError(
            ErrorCode.INVALID_FRAME, f"image is not a readable {image.encoding} of 8 or 16 bits per channel"
        )
    if pixels.ndim == 3:
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        if pixels.nbytes <= LARGE_IMAGE_BYTES:
            pixels = cv2.cvtColor(pixels, code)
        else:  # in strips: a second whole image would double the memory
            rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
            for first in range(0, len(pixels), rows):
                pixels[first : first + rows] = cv2.cvtColor(pixels[first : first + rows], code)
    decoded: Image = pixels
    return decoded


def is_jpeg(image: Image | EncodedImage | SharedImage) -> bool:
    """Return whether an image is a JPEG file, whole as far as its ends show."""
    if not isinstance(image, EncodedImage) or image.encoding != "jpeg":
        return False
    return bytes(image.data[:2]) == b"\xff\xd8" and b"\xff\xd9" in bytes(image.data[-64:])


def image_shape(image: Image | EncodedImage | SharedImage | None) -> tuple[int, int] | None:
    """Return (h, w) in pixels, without decoding; None without an image."""
    if image is None:
        return None
    if isinstance(image, EncodedImage):
        size = image_size(image.encoding, image.data)
        return None if size is None else size[:2]
    return image.shape[0], image.shape[1]
