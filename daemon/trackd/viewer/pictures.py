"""The picture of a frame for a page: a JPEG or PNG file whose longest side is at most what the page asked for.

Letters: h × w × c the image. OpenCV runs all of it without the interpreter lock.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd.engine.image import image_shape
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage, SharedImage
from trackd_client.protocol.image_header import chunks_end, image_size

AnyImage = Image | EncodedImage | SharedImage

PASSED_BYTES = 393_216  # a file of at most so many bytes is sent as it is, if its size fits
_QUALITY = 80  # of a JPEG, 0 to 100
_CUT = 0.001  # of the pixels of a 16-bit image become black, and as many white
_HEAD_BYTES = 65_536  # the marker of an orientation is in the first segment of a JPEG
# Decoding a JPEG at a half, a quarter or an eighth of its size skips most of the work.
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


class PictureError(ValueError):
    """An image that cannot be decoded."""


def full_size(image: AnyImage | None) -> list[int] | None:
    """Return [w, h] of the whole image in pixels; None where there is none."""
    shape = image_shape(image)
    return None if shape is None else [shape[1], shape[0]]


def picture(image: AnyImage, longest: int) -> bytes:
    """Return a JPEG or PNG file of 8 bits per channel.

    Args:
        image: raw pixels (h, w) or (h, w, c) in RGB order, or a JPEG or PNG file.
        longest: the longest side of the result is at most this many pixels. Images are not enlarged.

    Raises:
        PictureError: the file is damaged, or its pixels cannot be shown.
    """
    if isinstance(image, SharedImage):  # the IO thread has copied the pixels of every shared image
        raise PictureError("a shared image was not copied")
    try:
        if not isinstance(image, EncodedImage):
            shown = eight_bits(_channels(_scaled(image, longest)))
            if shown.ndim == 3:
                shown = cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
        elif _passes(image, longest):
            return bytes(image.data)
        else:
            shown = eight_bits(_channels(_scaled(_decoded(image, longest), longest)))
        done, file = cv2.imencode(".jpg", shown, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    except cv2.error as error:
        raise PictureError(f"the image cannot be decoded or encoded: {error}") from None
    if not done:
        raise PictureError(f"an image of {shown.shape} cannot be encoded")
    encoded: bytes = file.tobytes()
    return encoded


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels of 8 bits.

    16 bits are stretched: the darkest 0.1 % of the values of this image become 0, the brightest 0.1 % become 255, and
    the values between follow linearly. An image of one value becomes 0.
    """
    if pixels.dtype == np.uint8:
        return pixels
    counts = cv2.calcHist([pixels.reshape(-1, 1)], [0], None, [65_536], [0, 65_536]).ravel()
    below = np.cumsum(counts)
    low = int(np.searchsorted(below, _CUT * pixels.size, side="right"))
    high = int(np.searchsorted(below, (1 - _CUT) * pixels.size))
    above = np.zeros_like(pixels)
    cv2.subtract(pixels, (low,) * 4, dst=above)
    stretched: NDArray[np.uint8] = cv2.convertScaleAbs(above, alpha=255 / max(high - low, 1))
    return stretched


def _passes(image: EncodedImage, longest: int) -> bool:
    """Whether a browser shows a file as it is: small, of 8 bits, and not turned by its own metadata."""
    size = image_size(image.encoding, image.data)
    if size is None or len(image.data) > PASSED_BYTES or max(size[:2]) > longest:
        return False
    if image.encoding == "png":
        return len(image.data) > 24 and image.data[24] <= 8
    return b"Exif\0\0" not in bytes(image.data[:_HEAD_BYTES])


def _decoded(image: EncodedImage, longest: int) -> NDArray[Any]:
    """Return (h, w) or (h, w, 3) pixels in BGR order, of 8 or 16 bits; a JPEG may be reduced already."""
    size = image_size(image.encoding, image.data)
    if size is None or not chunks_end(image.data):
        raise PictureError(f"the image is not a readable {image.encoding}")
    flags = cv2.IMREAD_UNCHANGED
    if image.encoding == "jpeg":
        largest = max(size[:2])
        flags = next((flag for by, flag in _REDUCED if largest >= by * longest), flags)
        if flags != cv2.IMREAD_UNCHANGED:
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"the image is not a readable {image.encoding} of 8 or 16 bits per channel")
    decoded: NDArray[Any] = pixels
    return decoded


def _channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (h, w) or (h, w, 3): of one or two channels the first, of four the first three."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] < 3:
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, :3])


def _scaled(pixels: NDArray[Any], longest: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled: NDArray[Any] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return scaled
