"""YOLO in the loop: a model of ultralytics finds boxes in each image, and the daemon gives them ids.

Without `--model` a stand-in with the same interface gives boxes around the poses of the recording.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import numpy as np

from program import Options, connect, run
from recorded import Recorded
from trackd_client import Detections

options = Options(__doc__)
options.add_argument("--model", metavar="FILE", help="for ultralytics, such as my_model.pt")
options.add_argument("--recording", default="demo/demo.slp", help="stands in for the camera")
options.add_argument("--frames", type=int, default=150, help="how many to track")
options.add_argument("--every", type=int, default=15, help="how many frames lie between two that are printed")


class StandIn:
    """What this example uses of ultralytics' `YOLO`, with boxes around the poses of a recording as its results."""

    def __init__(self, recorded: Recorded) -> None:
        self._poses = {
            frame.frame_idx: np.stack([each.numpy() for each in frame.instances]) for frame in recorded.labels
        }
        self._seen = 0

    def predict(self, source: Any, verbose: bool) -> list[Any]:
        points = self._poses.get(self._seen, np.empty((0, 1, 2)))  # (n, k, 2)
        self._seen += 1
        xyxy = np.concatenate([points.min(axis=1) - 8, points.max(axis=1) + 8], axis=1)
        boxes = SimpleNamespace(xyxy=xyxy, conf=np.full(len(xyxy), 0.9), cls=np.zeros(len(xyxy)))
        return [
            SimpleNamespace(boxes=boxes, keypoints=None, masks=None, names={0: "fish"}, orig_shape=source.shape[:2])
        ]


def main(given: argparse.Namespace) -> None:
    camera = Recorded(given.recording)
    network: Any = StandIn(camera)
    if given.model:
        from ultralytics import YOLO  # ultralytics 8

        network = YOLO(given.model)
    with connect(given) as client, client.open_stream("yolo", reply="tracks") as stream:
        for shot in camera.shots(given.frames):
            (result,) = network.predict(np.ascontiguousarray(shot.image[..., ::-1]), verbose=False)  # it takes BGR
            found = Detections.from_ultralytics(result)
            tracks = stream.track(shot.image, found, frame_index=shot.frame_index, t_ns=shot.t_ns)
            if shot.frame_index % given.every or tracks.track_ids is None or tracks.boxes is None:
                continue
            # The rows of the ids are those of the detections.
            for track, box, kind in zip(tracks.track_ids, tracks.boxes, result.boxes.cls, strict=True):
                print(f"frame {shot.frame_index} track {track}:", result.names[int(kind)], *np.round(box).astype(int))


if __name__ == "__main__":
    run(main, options)
