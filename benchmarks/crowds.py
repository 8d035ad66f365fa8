"""The step of the `motion` scorer where all boxes are at one place: each option's time over that of the plain step.

    python benchmarks/crowds.py [N ...] [--scene NAME ...] [--option NAME ...] [--frames F]

Every figure is processor time of one thread, the median of the frames after the first, from detections to ids. Scenes:
`same`, all boxes equal; `jitter`, within one pixel; `halves`, within four pixels, every second frame of 0.7 times the
size, so that tracks could divide; `spread`, as far apart as usual. The ratio of an option is to the plain step of the
scene `jitter` of as many boxes in this run.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

PLAIN = "plain"
SCENES = ("same", "jitter", "halves", "spread")
OPTIONS: dict[str, dict[str, object]] = {
    PLAIN: {},
    "iou: max": {"iou": "max"},
    "iou: mult": {"iou": "mult"},
    "max_center_dist": {"max_center_dist": 0.1},
    "max_center_dist, 2026": {"max_center_dist": 50.0, "semantics": "2026"},
    "max_angle_diff": {"max_angle_diff": 30.0},
    "confidence_threshold": {"confidence_threshold": 0.5},
    "divisions": {"divisions": True},
    "max_tracks": {"max_tracks": None},  # of as many tracks as boxes
    "overlap_thresh: 0": {"overlap_thresh": 0.0},
}
NODES = 256  # keypoints of an instance, for `max_angle_diff`


def frame(scene: str, n: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return n boxes (n, 4) of one frame."""
    half = np.array([20.0, 15.0])
    if scene == "spread":
        centres = np.random.default_rng(n).uniform(0, 60 * np.sqrt(n), (n, 2)) + rng.normal(0, 1, (n, 2))
    else:
        reach = {"same": 0.0, "jitter": 0.5, "halves": 2.0}[scene]
        centres = 100 + rng.uniform(-reach, reach, (n, 2))
    if scene == "halves" and number % 2:
        half = half * 0.7
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def step_ms(scene: str, n: int, frames: int, option: str) -> float:
    """Return the median time of a step, ms."""
    changes = {name: n if name == "max_tracks" else value for name, value in OPTIONS[option].items()}
    config = TrackerConfig.model_validate(changes)
    tracker, dataset, rng = Tracker(config, MotionScorer()), LiveDataset(), np.random.default_rng(0)
    times = []
    for number in range(frames):
        boxes = frame(scene, n, number, rng)
        keypoints = None
        if config.max_angle_diff:
            keypoints = rng.uniform(boxes[:, None, :2], boxes[:, None, 2:], (n, NODES, 2)).astype(np.float32)
        detections = Detections(boxes=boxes, keypoints=keypoints)
        started = time.thread_time()
        tracker.step(number, number * 33_000_000, Instances.of(detections, dataset), None, number)
        times.append(1e3 * (time.thread_time() - started))
    return float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--scene", nargs="*", default=["same", "jitter", "halves"], choices=SCENES)
    parser.add_argument("--option", nargs="*", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    print("ms (ratio to the plain step of `jitter`)")
    for scene in options.scene:
        print(f"\n{scene:22}" + "".join(f"{f'N = {n}':>18}" for n in options.counts))
        for name in options.option:
            cells = []
            for n in options.counts:
                plain = step_ms("jitter", n, options.frames, PLAIN)
                found = step_ms(scene, n, options.frames, name)
                cells.append(f"{found:9.1f} ({found / plain:5.1f})")
            print(f"{name:22}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
