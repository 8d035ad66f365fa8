"""The messages of the nodes in bonsai_workflow.bonsai, byte for byte, by pyzmq and without trackd's client.

It stands in for Bonsai: it draws three red discs, sends them as a Push node does, and receives as Subscriber nodes do,
from the relay and from the daemon itself.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time

import cv2
import numpy as np
import zmq

STATUS = b"\x84\xa1v\x01\xa4kind\xa7request\xa2id\x01\xa6method\xa6status"  # MessagePack of a request for the status
READY = b"\xa5ready\xc3"  # in its reply: "ready" is true

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--tracks", default="tcp://127.0.0.1:5571", help="the daemon's address of published tracks")
options.add_argument("--control", default="tcp://127.0.0.1:5572", help="the daemon's address for requests")
options.add_argument("--images", default="tcp://127.0.0.1:5580", help="of the relay, for images")
options.add_argument("--ids", default="tcp://127.0.0.1:5581", help="of the relay, for ids")
options.add_argument("--frames", type=int, default=60, help="end when the ids of so many frames have come")


def drawn(frame: int) -> bytes:
    """Return a JPEG image of three red discs that move in circles, as the node EncodeImage makes it."""
    image = np.full((240, 320, 3), 90, np.uint8)
    for disc in range(3):
        angle = frame / 15 + disc
        centre = (60 + 100 * disc + round(25 * np.cos(angle)), 120 + round(25 * np.sin(angle)))
        cv2.circle(image, centre, 12, (40, 40, 230), -1)
    return bytes(cv2.imencode(".jpg", image)[1])


def main(given: argparse.Namespace) -> None:
    def node(kind: int, address: str, topic: str | None = None) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        socket.linger, socket.rcvtimeo = 0, 10_000
        if topic is not None:
            socket.subscribe(topic)
        socket.connect(address)
        return socket

    request = node(zmq.REQ, given.control)  # Request
    request.send(STATUS)
    print("the daemon is ready:", READY in request.recv())
    push = node(zmq.PUSH, given.images)
    subscriber = node(zmq.SUB, given.ids, "cam/0/")
    of_daemon = node(zmq.SUB, given.tracks, "tracks/cam/")
    received, until = 0, time.monotonic() + 60
    for frame in range(10_000):
        push.send(drawn(frame))  # one part: the bytes of the JPEG file
        time.sleep(1 / 30)
        while subscriber.poll(0):
            topic, text = subscriber.recv_multipart()  # two parts: b"cam/0/" and b"41 160.0 94.5"
            received += 1
            print(topic.decode(), text.decode())
        while of_daemon.poll(0):
            parts = (
                of_daemon.recv_multipart()
            )  # the topic, a MessagePack header, then arrays: the ids are the first one
            print("tracks/cam/ ids", *struct.unpack(f"<{len(parts[2]) // 4}i", parts[2]))
        if received >= given.frames:
            return
        if time.monotonic() > until:
            sys.exit(f"{options.prog}: the ids of {received} of {given.frames} frames came within 60 s")


if __name__ == "__main__":
    try:
        main(options.parse_args())
    except zmq.Again:
        sys.exit(f"{options.prog}: the daemon does not answer; is `trackd serve` running?")
