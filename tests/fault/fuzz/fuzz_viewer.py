"""Fuzz target: what the viewer reads: messages of pages, the headers of their handshake, and the pictures of frames."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import msgpack
import numpy as np
from fuzz_harness import check_text

from trackd.viewer.messages import decode
from trackd.viewer.pictures import PictureError, picture
from trackd.viewer.same_site import refusal
from trackd_client.protocol import EncodedImage, ProtocolError
from trackd_client.protocol.image_header import image_size

PACKAGES = ["trackd.viewer"]
MOST_MS = 200
MOST_MB = 64
MOST_PIXELS = 1_000_000  # as `limits.image_pixels`, which is checked before an image reaches the viewer
WORDS = (
    b"\xa4type", b"\xa5hello", b"\xa5watch", b"\xa7request", b"\xa7streams", b"\xa5token", b"\xa6params", b"\xa3fps",
    b"\xa5width", b"\x80", b"\x90", b"\xdf\xff\xff\xff\xff", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"Exif\0\0",
    b"\xff\xe1", b"\xff\xc0", b"IHDR", b"IDAT", b"IEND", b"localhost", b"127.0.0.1:9570", b"http://", b"[::1]",
    b"\n",
)  # fmt: skip
MESSAGE, JPEG, PNG, HEADERS = range(4)  # by the first byte


def seeds() -> Iterator[bytes]:
    """A message of each kind, files of each kind, and the headers of the daemon's own page."""
    wish = {"fps": 15, "width": 640, "image": True}
    for message in (
        {"type": "hello", "token": None},
        {"type": "hello", "token": "abc"},
        {"type": "watch", "streams": {"cam": wish}},
        {"type": "request", "id": 1, "method": "history", "params": {"stream": "cam", "limit": 3}},
    ):
        yield bytes([MESSAGE]) + msgpack.packb(message)
    for kind, name in ((JPEG, ".jpg"), (PNG, ".png")):
        for image in (np.arange(600, dtype=np.uint8).reshape(20, 30), np.full((90, 200, 3), 7, np.uint8)):
            yield bytes([kind]) + cv2.imencode(name, image)[1].tobytes()
    yield bytes([PNG]) + cv2.imencode(".png", np.arange(600, dtype=np.uint16).reshape(20, 30))[1].tobytes()
    yield bytes([HEADERS]) + b"127.0.0.1:9570\nhttp://127.0.0.1:9570"


def run(data: bytes) -> None:
    """Read a message of a page, a picture, or a handshake."""
    choice, data = (data[0] % 4, data[1:]) if data else (0, data)
    try:
        if choice == MESSAGE:
            decode(data)
        elif choice == HEADERS:
            host, _, origin = data.decode("latin-1").partition("\n")
            refusal(host, origin, "127.0.0.1", ["rig.example"])
        else:
            image = EncodedImage("jpeg" if choice == JPEG else "png", data)
            size = image_size(image.encoding, data)
            if size is not None and size[0] * size[1] <= MOST_PIXELS:
                picture(image, 64)
    except ProtocolError as error:
        check_text(error)
    except PictureError:
        return
