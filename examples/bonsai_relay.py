"""Bonsai's images to trackd, and the ids back to Bonsai.

It receives what a Push node of Bonsai.ZeroMQ sends (JPEG images), finds the animals, and publishes for a Subscriber
node one message for each track of a frame: the topic `cam/ID/` and the text `FRAME X Y`.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
import zmq

from program import Options, connect, run
from trackd_client import EncodedImage
from trackd_client.detectors.named import open_detector

FIRST_S = 600.0  # how long the first image is waited for

options = Options(__doc__)
options.add_argument("--images", default="tcp://127.0.0.1:5580", help="where the Push node connects")
options.add_argument("--ids", default="tcp://127.0.0.1:5581", help="where the Subscriber node connects")
options.add_argument("--detector", default="background", help="one of those of trackd-client camera")
options.add_argument("--idle-s", type=float, default=60.0, help="end so many seconds after the last image")


def main(given: argparse.Namespace) -> None:
    detector = open_detector(given.detector)
    images: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    ids: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    images.linger = ids.linger = 0
    images.bind(given.images)
    ids.bind(given.ids)
    with connect(given) as client, client.open_stream("cam", reply="tracks", skeleton=detector.skeleton) as stream:
        print("ready", flush=True)
        count, wait_s = 0, FIRST_S
        while images.poll(round(1000 * wait_s)):
            data, wait_s = images.recv(), given.idle_s
            t_ns = time.time_ns()  # Bonsai does not send its capture time
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if image is None:
                raise ValueError(f"a Push node should send JPEG images; got {data[:8]!r}")
            tracks = stream.track(EncodedImage("jpeg", data), detector(image[..., ::-1]), t_ns=t_ns)
            count += 1
            if tracks.track_ids is None or tracks.boxes is None:
                continue
            for track, (x1, y1, x2, y2) in zip(tracks.track_ids.tolist(), tracks.boxes, strict=True):
                text = f"{tracks.frame_index} {(x1 + x2) / 2:.1f} {(y1 + y2) / 2:.1f}"
                ids.send_multipart([f"cam/{track}/".encode(), text.encode()])
        print(f"{count} images")


if __name__ == "__main__":
    run(main, options)
