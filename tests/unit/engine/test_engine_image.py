"""Encoded images become pixels: colour is RGB, whatever the size."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from trackd.engine.image import decode_image, image_shape
from trackd.engine.step_cost import LARGE_IMAGE_BYTES
from trackd_client.protocol import EncodedImage, ErrorCode, ProtocolError


def peak_mb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def test_a_png_chunk_that_claims_gigabytes_is_refused_before_they_are_allocated() -> None:
    data = bytearray(cv2.imencode(".png", np.full((4, 6, 3), 9, np.uint8))[1].tobytes())
    assert decode_image(EncodedImage("png", bytes(data))).shape == (4, 6, 3)
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = struct.pack(">I", 0x7FFF0016)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mb()
    with pytest.raises(ProtocolError) as caught:
        decode_image(EncodedImage("png", bytes(data)))
    assert caught.value.code == ErrorCode.INVALID_FRAME
    assert peak_mb() - before < 50


@pytest.mark.parametrize("shape", [(30, 50, 3), (30, 50, 4), (1700, 1701, 3), (1500, 1501, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_and_large_images_are_decoded_to_the_same_colours(shape: tuple[int, ...], dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, shape, dtype)  # compresses well
    pixels[..., 0] += 9
    code = cv2.COLOR_RGB2BGR if shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    file = cv2.imencode(".png", cv2.cvtColor(pixels, code), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    image = EncodedImage("png", file)
    assert (pixels.nbytes > LARGE_IMAGE_BYTES) == (shape[0] > 1000)
    decoded = decode_image(image)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, pixels)
    assert image_shape(image) == shape[:2]


def test_a_damaged_file_is_an_invalid_frame() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_image(EncodedImage("png", b"no image"))
    assert caught.value.code is ErrorCode.INVALID_FRAME
