"""The size of the image in a JPEG or PNG file, read from its header before a decoder allocates anything."""

from __future__ import annotations

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers hold the size (ITU-T T.81, table B.1); C4, C8 and CC in their range have other meanings.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 512
# Channels that a decoder makes of each colour type (PNG, table 11.1); a palette may hold transparency.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}


def image_size(encoding: str, data: bytes | memoryview) -> tuple[int, int, int] | None:
    """(h, w, bytes per decoded pixel), or None if the bytes do not begin like a file of `encoding`: "jpeg" or "png"."""
    return _png_size(data) if encoding == "png" else _jpeg_size(data)


def chunks_end(data: bytes | memoryview) -> bool:
    """Whether the chunks of a PNG file end within it. OpenCV allocates the length that a chunk claims, up to 4 GB.

    Other files have no chunks, so the answer is True.
    """
    if bytes(data[:8]) != _PNG:
        return True
    at = 8
    while at + 8 <= len(data):  # its length and name, which OpenCV reads before the rest
        is_last = bytes(data[at + 4 : at + 8]) == b"IEND"
        at += 12 + struct.unpack_from(">I", data, at)[0]
        if is_last:
            break
    return at <= len(data)


def _png_size(data: bytes | memoryview) -> tuple[int, int, int] | None:
    if len(data) < 24 or bytes(data[:8]) != _PNG or bytes(data[12:16]) != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    depth, colour = data[24:26] if len(data) >= 26 else (16, 6)
    return height, width, _PNG_CHANNELS.get(colour, 4) * (2 if depth > 8 else 1)


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int, int] | None:
    if len(data) < 4 or bytes(data[:2]) != b"\xff\xd8":
        return None
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width, min(data[at + 9], 3) if at + 9 < len(data) else 3
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
