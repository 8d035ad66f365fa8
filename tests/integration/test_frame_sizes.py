"""An image or a mask of another size than the stream's frames is rejected, and changes no track."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from daemon_process import DaemonProcess
from raw_client import RawClient, walking_boxes

WRONG = "must have the frame's size, which is 640 × 480 pixels; got 100 × 64"


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess() as daemon:
        yield daemon


def image_of(encoding: str, height: int, width: int) -> tuple[dict[str, Any], Any]:
    pixels = np.zeros((height, width), np.uint8)
    if encoding == "raw":
        return {"encoding": "raw", "data": {"dtype": "|u1", "shape": [height, width], "part": 2}}, pixels
    return {"encoding": encoding, "part": 2}, cv2.imencode(f".{encoding}", pixels)[1].tobytes()


def header(seq: int, boxes: np.ndarray, **fields: Any) -> dict[str, Any]:
    detections = {"boxes": {"dtype": "<f4", "shape": list(boxes.shape), "part": 1}, **fields.pop("detections", {})}
    return {
        "kind": "frame", "stream": "cam", "seq": seq, "frame_index": seq, "t_ns": seq, "image": None,
        "detections": detections, **fields,
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_an_image_of_another_size_than_frame_shape_is_rejected(daemon, encoding):
    with RawClient(daemon.addresses) as client:
        client.open("cam", frame_shape=[480, 640])
        for seq, (height, width) in enumerate([(480, 640), (64, 100), (480, 640)]):
            image, part = image_of(encoding, height, width)
            client.send(header(seq, walking_boxes(seq), image=image), walking_boxes(seq), part)
        error = client.recv_kind("error")
        assert (error["code"], error["seq"], error["message"]) == ("invalid_frame", 1, f"image {WRONG}")
        client.send({"kind": "close", "stream": "cam"})
        assert client.recv_kind("closed")["last_seq"] == 2


def test_masks_of_another_size_are_rejected_without_an_image_too(daemon):
    with RawClient(daemon.addresses) as client:
        client.open("cam", frame_shape=[480, 640])
        for seq, (height, width) in enumerate([(480, 640), (64, 100)]):
            masks = {"masks": {"labels": {"dtype": "<u2", "shape": [height, width], "part": 2}}}
            boxes = walking_boxes(seq)
            client.send(header(seq, boxes, detections=masks), boxes, np.zeros((height, width), np.uint16))
        error = client.recv_kind("error")
        assert (error["code"], error["seq"], error["message"]) == ("invalid_frame", 1, f"masks {WRONG}")
        client.send({"kind": "close", "stream": "cam"})
        client.recv_kind("closed")
