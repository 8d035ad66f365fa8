"""The bytes of every kind of message: a change here needs another protocol version.

A golden file holds the message's parts, each after its length as 4 bytes, big endian. `TRACKD_WRITE_GOLDEN=1 pytest
tests/unit/protocol/test_protocol_golden.py` writes the files again.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from trackd_client.detections import Detections, Skeleton
from trackd_client.protocol import (
    REPLY_LIMITS,
    Ack,
    Close,
    Closed,
    EncodedImage,
    Error,
    ErrorCode,
    Event,
    EventName,
    Frame,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Reply,
    Request,
    SharedImage,
    Status,
    Timing,
    Tracks,
    decode,
    encode,
)
from trackd_client.protocol.decode import _DECODERS

GOLDEN = Path(__file__).parent / "golden"
T_NS = 1_700_000_000_123_456_789
# The header of a 3 × 2 PNG. The decoder reads no more of it.
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 3, 2) + b"\x08\x00\x00\x00\x00"
JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 2, 3) + b"\x01\x01\x11\x00\xff\xd9"

BOXES = np.array([[1, 2, 3, 4], [5.5, 6.5, 7.5, np.nan]], "<f4")
KEYPOINTS = np.array([[[1, 2], [np.nan, np.nan], [3, 4]], [[5, 6], [7, 8], [9, 10]]], "<f8")
EVERYTHING = Detections(
    boxes=BOXES,
    keypoints=KEYPOINTS,
    scores=np.array([0.5, 1.0], "<f4"),
    keypoint_scores=np.ones((2, 3), "<f4"),
    classes=np.array([0, 7], "<i4"),
    masks=np.array([[0, 1, 1], [0, 2, 2]], "<u2"),
    gt_ids=np.array([3, -1], "<i8"),
)
RAW = np.arange(18, dtype="|u1").reshape(2, 3, 3)
ENDPOINTS = {"ingest": "tcp://10.0.0.2:5570", "tracks": "tcp://10.0.0.2:5571", "control": "tcp://10.0.0.2:5572"}
SHM = SharedImage("trackd-123-ab", 64, (2, 3), "<u2", 5)

MESSAGES: dict[str, Message] = {
    "open": Open(
        "cam-1", {"tracker": {"max_gap": 5}}, (480, 640, 3), Skeleton(("nose", "tail"), ((0, 1),)),
        "flies", "tracks", True, "/data/a.mp4",
    ),
    "open_plain": Open("cam-1"),
    "open_member": Open("cam-1", takeover=True, member="rack2-a"),
    "open_session": Open("cam-1", session="5f0c2a9be71d4380"),
    "frame": Frame("cam-1", 7, 70, T_NS, EVERYTHING, RAW),
    "frame_plain": Frame("cam-1", 0, 0, 0, Detections.empty()),
    "frame_u2": Frame("cam-1", 1, 1, 1, Detections(keypoints=KEYPOINTS), np.full((2, 3), 65535, "<u2")),
    "frame_jpeg": Frame("cam-1", 2, 2, 2, Detections(boxes=BOXES), EncodedImage("jpeg", JPEG)),
    "frame_png": Frame("cam-1", 3, 3, 3, Detections(boxes=BOXES), EncodedImage("png", PNG)),
    "frame_shm": Frame("cam-1", 4, 4, 4, Detections(boxes=BOXES), SHM),
    "close": Close("cam-1"),
    "ping": Ping(T_NS),
    "opened": Opened("cam-1", 3, 42, 32, {"stream": {"on_overload": "block"}}),
    "opened_continued": Opened("cam-1", 3, 0, 32, first_track_id=12),
    "ack": Ack("cam-1", 41, 1),
    "error_forbidden": Error(ErrorCode.FORBIDDEN, "key 'cam1' has no right to publish", "cam-1", 3),
    "error": Error(ErrorCode.SEQ_GAP, "seq must be 3; got 5", "cam-1", 5, 3),
    "error_fatal": Error(ErrorCode.STREAM_BUSY, "another connection has it", "cam-1", fatal=True),
    "error_moved": Error(
        ErrorCode.MOVED, "stream 'cam-1' is at member 'rack2-a'", "cam-1", 5, None, False, "rack2-a", ENDPOINTS, 7
    ),
    "error_away": Error(ErrorCode.MOVED, "this member has no contact to the fleet's store", "cam-1"),
    "error_plain": Error(ErrorCode.BAD_MESSAGE, "the header is not MessagePack"),
    "closed": Closed("cam-1", 3, -1),
    "pong": Pong(T_NS, T_NS + 1),
    "tracks": Tracks(
        "cam-1", 3, 7, 70, T_NS, Status.TRACKED, None, np.array([4, -1], "<i4"), np.array([0.75, np.nan], "<f4"),
        BOXES, KEYPOINTS, np.array([0.5, 1.0], "<f4"), (4,), (1,), (2,), (0, 3), ("invalid_detection",),
        Timing(1, 2, 3, 4, 10), True,
    ),
    "tracks_named": Tracks(
        "cam-1", 3, 9, 90, T_NS, Status.TRACKED, None, np.array([4, -1], "<i4"), np.array([0.75, np.nan], "<f4"), BOXES,
        names=("Änne", None),
        corrections=({"number": 1, "action": "end", "author": "ada", "t_ns": T_NS, "tracks": [0]},),
    ),
    "tracks_dropped": Tracks("cam-1", 3, 8, 80, T_NS, Status.DROPPED, "overload"),
    "event": Event("cam-1", EventName.HEARTBEAT, 3, 41),
    "event_detail": Event("cam-1", EventName.CLOSED, 3, 41, {"reason": "closed by its owner"}),
    "event_moved": Event(
        "cam-1", EventName.MOVED, 3, 41, {"member": "rack2-a", "endpoints": ENDPOINTS, "term": 7}
    ),
    "event_corrected": Event(
        "cam-1", EventName.CORRECTED, 3, 41,
        {"number": 2, "action": "merge", "author": "ada", "t_ns": T_NS, "tracks": [4], "into": 1},
    ),
    "request": Request(1, "history", {"stream": "cam-1", "from_seq": 3}),
    "reply": Reply(1, [{"id": 0}]),
    "reply_error": Reply("a", error=(ErrorCode.UNKNOWN_STREAM, "stream 'x' is not open")),
}  # fmt: skip


def packed(parts: list[bytes | memoryview]) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + bytes(part) for part in parts)


def unpacked(data: bytes) -> list[bytes]:
    parts = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_encodes_to_its_golden_bytes(name):
    path = GOLDEN / f"{name}.bin"
    if os.environ.get("TRACKD_WRITE_GOLDEN"):
        path.write_bytes(packed(encode(MESSAGES[name])))
    assert packed(encode(MESSAGES[name])) == path.read_bytes()


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_decode_to_the_message(name):
    assert decode(unpacked((GOLDEN / f"{name}.bin").read_bytes()), REPLY_LIMITS) == MESSAGES[name]


def test_every_kind_has_a_golden_file_and_every_file_a_message():
    assert {message.kind for message in MESSAGES.values()} == set(_DECODERS)
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(MESSAGES)
