"""Fuzz target: messages and zones. Bytes are a message or a `ProtocolError`; a message can be encoded and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fuzz_harness import check_text
from test_protocol_golden import MESSAGES

from trackd_client.protocol import REPLY_LIMITS, Limits, ProtocolError, Request, decode, encode, tracks_from_history
from trackd_client.zones import ZonesError, read_places

PACKAGES = ["trackd_client.protocol", "trackd_client.zones"]
MOST_MS = 100
MOST_MB = 32
PARTED = b"|~|"  # between the parts of a message
WORDS = (PARTED, b"\xa4kind", b"\xa4open", b"\xa5frame", b"\xa6tracks", b"\xa5dtype", b"\xa5shape", b"\xa4part", b"<f4",
         b"<f8", b"|u1", b"<u2", b"<i4", b"<i8", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xcb\x7f\xf8", b"\xc4\x00",
         b"\xa5image", b"\xa8encoding", b"\xa4jpeg", b"\xa3png", b"\xa3shm", b"\xaadetections", b"\xa5masks", b"\x90",
         b"\xdc\xff\xff", b"\xde\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff")  # fmt: skip
SMALL = Limits(header_bytes=2048, message_bytes=8192, parts=4, image_pixels=1024, instances=8, keypoints=8)
LIMITS = (Limits(), SMALL, REPLY_LIMITS)
HISTORY = 3  # as the first byte: a row of a history, as JSON
ROW = {"stream": "a", "epoch": 1, "seq": 3, "frame_index": 3, "t_ns": 5, "status": "tracked", "track_ids": [1, 2],
       "track_scores": [0.5, None], "boxes": [[0, 0, 1, 1], [2, 2, 3, 3]], "keypoints": [[[0, 1]], [[2, 3]]],
       "new_tracks": [1], "ended_tracks": [], "flags": [], "parents": {}, "reason": None}  # fmt: skip


def seeds() -> Iterator[bytes]:
    """The message of each golden file, with the default limits and with small ones; a row of a history."""
    for message in MESSAGES.values():
        parts = PARTED.join(bytes(part) for part in encode(message))
        yield b"\0" + parts
        yield b"\1" + parts
    zones = {"zones": {"feeder": [[0, 0], [9, 0], [9, 9.5]]}, "lines": {"door": [[0, 0], [9, 9]]}}
    yield b"\0" + bytes(encode(Request(1, "stream.set_zones", zones))[0])
    yield bytes([HISTORY]) + json.dumps(ROW).encode()


def run(data: bytes) -> None:
    """Decode a message with one of the limits, or a row of a history."""
    choice = data[0] % (HISTORY + 1) if data else 0
    try:
        if choice == HISTORY:
            _run_history(data[1:])
            return
        message = decode(data[1:].split(PARTED), LIMITS[choice])
    except ProtocolError as error:
        check_text(error)
        return
    decode([bytes(part) for part in encode(message)], REPLY_LIMITS)
    if isinstance(message, Request):
        try:
            read_places(message.params)
        except ZonesError as error:
            check_text(error)


def _run_history(text: bytes) -> None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(row, dict):
        tracks_from_history(row)
