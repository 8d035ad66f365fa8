"""What it costs to keep what a stream has learnt of its animals over a restart (`daemon.state_dir`).

    python benchmarks/looks.py [--animals N …] [--repeats N]

Recordings of the demo with N fish, 20 seconds, `motion` with images. The times are medians of processor time. *step*:
in the step of one frame; *copy*: on the thread that learns, and its part of the learning of the five seconds between
two files; *write*: on the thread that writes; *read*: at the start of the next daemon.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import identities
from trackd.commands.demo.recording import make_recording
from trackd.config import TrackerConfig
from trackd.engine.identification import LOOKS_NS, Identification
from trackd.identity.looks import Looks
from trackd.models.motion.scorer import MotionScorer
from trackd.store.looks_folder import LooksFolder
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.recordings.config import LiveDataset
from trackd_client.recordings.recording import Recording


def learnt(recording: Recording) -> Identification:
    """What is learnt of a recording."""
    scorer, found = MotionScorer(), Identification()
    tracker = Tracker(TrackerConfig(), scorer)
    for position, frame in enumerate(recording.frames()):
        assert frame.image is not None
        shape = (frame.image.shape[0], frame.image.shape[1])
        instances = Instances.of(frame.detections, LiveDataset(), recording.skeleton, scorer.boxes_from, shape)
        t_ns = round(position * 1e9 / recording.fps)
        features = scorer.encode(frame.image, instances)
        assignment = tracker.step(frame.frame_index, t_ns, instances, features, position)
        found.observe(tracker, frame.frame_index, t_ns, frame.image, instances, assignment)
    found.copy_now().result(60)  # so that the thread that learns is idle
    return found


def median_ms(repeats: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """The median of the processor time of a call in this thread, and its last result."""
    times, result = [], None
    for _ in range(repeats):
        began = time.thread_time()
        result = call()
        times.append(1000 * (time.thread_time() - began))
    return float(np.median(times)), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--animals", type=int, nargs="+", default=[2, 5, 20, 60], help="fish of each recording")
    parser.add_argument("--repeats", type=int, default=20, help="measurements of each time")
    options = parser.parse_args()
    print(f"{'animals':>8}{'KiB':>8}{'step ms':>10}{'copy ms':>10}{'of learning':>13}{'write ms':>10}{'read ms':>10}")
    for n in options.animals:
        with tempfile.TemporaryDirectory() as folder:
            files = make_recording(Path(folder), n_animals=n)
            recording = identities._opened(files.slp, files.video)
            identities.learning_s = 0.0
            found = learnt(recording)
            learning_ms = 1000 * identities.learning_s * recording.fps / len(recording) * LOOKS_NS / 1e9
            step_ms, now = median_ms(options.repeats, found.learnt)
            copy_ms, arrays = median_ms(options.repeats, now.arrays)
            looks, kept = Looks("cam", 1, 0, None, 0, arrays), LooksFolder(Path(folder))
            write_ms, size = median_ms(options.repeats, lambda: kept.write(looks))  # noqa: B023
            read_ms, _ = median_ms(
                options.repeats, lambda: Identification.continued(None, kept.read("cam", 1) or looks, 0)  # noqa: B023
            )  # fmt: skip
            print(
                f"{n:>8}{size / 1024:>8.0f}{step_ms:>10.3f}{copy_ms:>10.2f}{copy_ms / learning_ms:>12.1%}"
                f"{write_ms:>11.2f}{read_ms:>10.1f}"
            )


if __name__ == "__main__":
    main()
