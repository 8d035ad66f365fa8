"""What one frame costs the tracker with the `motion` scorer: medians in ms, one thread, no image.

    TRACKD_SHARED=../shared python benchmarks/step.py [N ...]

The sequences of `$TRACKD_SHARED/peers/PEERS.md` (level `default`, seed 1, 300 frames, the first 20 left out); a step is
`Instances.of` and `Tracker.step`. The peers' figures are that page's.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from trackd.config import TrackerConfig
from trackd.models.motion import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

sys.path.insert(0, str(Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve() / "peers"))

import gen

PEERS = {  # median ms: roboflow trackers' ByteTrack, boxmot SFSORT in Python and C++
    10: (0.34, 0.49, 0.18),
    50: (1.35, 1.04, 0.61),
    100: (2.69, 1.77, 2.66),
    500: (24.86, 11.03, 245.32),
}
REPEATS = 3


def measure(n_objects: int) -> np.ndarray:
    """Time of each step, ms: of several runs the one with the smallest median."""
    dataset = LiveDataset()
    frames = [
        Detections(boxes=frame.boxes, scores=frame.scores)
        for frame in gen.generate(n_objects, 300, seed=1, level="default").frames
    ]
    best = np.full(1, np.inf)
    for _ in range(REPEATS):
        tracker, times = Tracker(TrackerConfig(), MotionScorer()), []
        for number, detections in enumerate(frames):
            started = time.perf_counter()
            instances = Instances.of(detections, dataset, None, "detection")
            tracker.step(number, number * 33_000_000, instances, None, number)
            times.append(1e3 * (time.perf_counter() - started))
        steady = np.array(times[20:])
        best = steady if np.median(steady) < np.median(best) else best
    return best


def main() -> None:
    print("      N   median      p99   ByteTrack   SFSORT   SFSORT C++   (ms)")
    for n_objects in [int(argument) for argument in sys.argv[1:]] or list(PEERS):
        times = measure(n_objects)
        peers = "".join(f"{figure:11.2f}" for figure in PEERS.get(n_objects, ()))
        print(f"{n_objects:7d} {np.median(times):8.3f} {np.percentile(times, 99):8.3f} {peers}")


if __name__ == "__main__":
    main()
