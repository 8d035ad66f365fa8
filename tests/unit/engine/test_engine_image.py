import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from trackd.engine.image import decode_image
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
