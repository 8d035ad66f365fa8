"""SLEAP in the loop: sleap-nn finds the poses in each image, and the daemon gives them ids.

Without `--models` a stand-in with the same interface gives the poses of the recording.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

from program import Options, connect, run
from recorded import Recorded, skeleton_of
from trackd_client import Detections

options = Options(__doc__)
options.add_argument("--models", nargs="+", metavar="FOLDER", help="of one trained model, or of a top-down pair")
options.add_argument("--device", default="cpu", help="of the models")
options.add_argument("--recording", default="demo/demo.slp", help="stands in for the camera")
options.add_argument("--frames", type=int, default=150, help="how many to track")
options.add_argument("--every", type=int, default=15, help="how many frames lie between two that are printed")


class StandIn:
    """What this example uses of sleap-nn's `Predictor`, with the poses of a recording as its predictions."""

    def __init__(self, recorded: Recorded) -> None:
        self.skeleton = recorded.labels.skeletons[0]
        self.layer = SimpleNamespace(predict=self._predict)
        self._frames = {frame.frame_idx: frame for frame in recorded.labels}
        self._seen = 0

    def _predict(self, image: Any) -> Any:
        frame = self._frames.get(self._seen)
        self._seen += 1
        labels = SimpleNamespace(labeled_frames=[] if frame is None else [frame])
        return SimpleNamespace(to_labels=lambda skeleton: labels)


def main(given: argparse.Namespace) -> None:
    camera = Recorded(given.recording)
    predictor: Any = StandIn(camera)
    if given.models:
        from sleap_nn.inference import Predictor  # sleap-nn 0.3

        predictor = Predictor.from_model_paths(given.models, device=given.device, batch_size=1)
    skeleton = skeleton_of(predictor.skeleton)
    with (
        connect(given) as client,
        client.open_stream("sleap", reply="tracks", skeleton=skeleton, config={"anchors": skeleton.nodes[0]}) as stream,
    ):
        for shot in camera.shots(given.frames):
            labels = predictor.layer.predict(shot.image).to_labels(skeleton=predictor.skeleton)
            frames = labels.labeled_frames  # none if the image has no instance
            found = Detections.from_sleap(frames[0]) if frames else Detections.empty()
            tracks = stream.track(shot.image, found, frame_index=shot.frame_index, t_ns=shot.t_ns)
            if shot.frame_index % given.every or tracks.track_ids is None or tracks.keypoints is None:
                continue
            for track, pose in zip(tracks.track_ids, tracks.keypoints, strict=True):
                nodes = (f"{name} {x:.0f},{y:.0f}" for name, (x, y) in zip(skeleton.nodes, pose, strict=True))
                print(f"frame {shot.frame_index} track {track}:", " ".join(nodes))


if __name__ == "__main__":
    run(main, options)
