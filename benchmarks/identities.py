"""What `tracker.learn_identities` does on the demo's recordings, and on staged exchanges of real animals.

    TRACKD_SHARED=../shared python benchmarks/identities.py [--first N] [--seeds N] [--exchanges N]

Demo: recordings of five fish that cross, touch and hide, `motion` with images, without `max_tracks`. An animal's id is
wrong in a frame if it is not that of its first second. An exchange *lasts* if an animal is seen for more than 60 frames
(2 s) with a wrong id without touching another animal; so a contact may last as long as it wants.

Real: the true tracks of two courting flies. At a moment when they are near each other both are missed for four frames,
and their ids are exchanged from then on: what a tracker does that takes them for each other. The run without exchange
must change nothing.

`ms` is the processor time of the learning for each second of the recording.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from trackd.commands.demo.recording import make_recording
from trackd.config import TrackerConfig
from trackd.engine import identification
from trackd.engine.identification import AUTHOR, Identification
from trackd.identity.overlaps import TOUCH
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.correction import Action, Correction
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import DataloaderConfig, LiveDataset, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.recording import RecordedFrame, Recording

LASTING = 60  # frames without contact
FIRST = 30  # frames of which the most frequent id is an animal's own
MISSED = 4
DATA = Path(os.environ.get("TRACKD_SHARED", "../shared")) / "data"
learning_s = 0.0


def _timed(*args: object) -> list[object]:
    global learning_s
    began = time.thread_time()
    found = _learn(*args)  # type: ignore[arg-type]
    learning_s += time.thread_time() - began
    return found  # type: ignore[return-value]


_learn = identification._learn
identification._learn = _timed  # type: ignore[assignment]


@dataclass
class Ids:
    """The id of each animal in each frame, and whether it touches no other one."""

    rows: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)

    def add(self, animals: NDArray[np.integer], ids: NDArray[np.integer], boxes: NDArray[np.float32]) -> None:
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        touching = np.clip(high - low, 0, None).prod(axis=2) > TOUCH * np.minimum(area[:, None], area[None])
        np.fill_diagonal(touching, False)
        for animal, id_, touches in zip(animals.tolist(), ids.tolist(), touching.any(axis=1), strict=True):
            self.rows.setdefault(animal, []).append((id_, not touches))

    def score(self) -> tuple[int, int, float]:
        """Return the switches, the exchanges that last, and the percentage of wrong ids."""
        switches = lasting = wrong = total = 0
        for rows in self.rows.values():
            ids = [id_ for id_, _ in rows]
            own = max(set(ids[:FIRST]), key=ids[:FIRST].count)
            switches += sum(one != other for one, other in pairwise(ids))
            run = 0
            for id_, apart in rows:
                total += 1
                wrong += id_ != own
                run = 0 if id_ == own else run + apart
                lasting += run == LASTING + 1 and apart
        return switches, lasting, 100 * wrong / total


def tracked(recording: Recording, learns: bool, exchange: tuple[int, int, int] | None = None) -> Ids:
    """Track a recording; `exchange` is the frame from which the ids of two animals are exchanged, and the animals."""
    scorer = MotionScorer()
    tracker = Tracker(TrackerConfig(), scorer)
    identities = Identification() if learns else None
    found, dataset = Ids(), LiveDataset()
    last: dict[int, int] = {}  # the id of each animal
    for position, frame in enumerate(recording.frames()):
        frame = frame if exchange is None else _without(frame, exchange)
        assert frame.image is not None
        instances = Instances.of(
            frame.detections,
            dataset,
            recording.skeleton,
            scorer.boxes_from,
            (frame.image.shape[0], frame.image.shape[1]),
        )
        animals = np.asarray(frame.detections.gt_ids)
        features = scorer.encode(frame.image, instances)
        t_ns = round(position * 1e9 / recording.fps)
        assignment = tracker.step(frame.frame_index, t_ns, instances, features, position)
        found.add(animals, assignment.track_ids, instances.extents)
        if identities is not None:
            identities.observe(tracker, frame.frame_index, t_ns, frame.image, instances, assignment)
        last |= dict(zip(animals.tolist(), assignment.track_ids.tolist(), strict=True))
        if exchange is not None and frame.frame_index == exchange[0] + MISSED - 1:
            tracker.correct(Correction(Action.SWAP, (last[exchange[1]], last[exchange[2]]), author=AUTHOR))
    return found


def _without(frame: RecordedFrame, exchange: tuple[int, int, int]) -> RecordedFrame:
    """Return the frame without the two animals, if it is one in which they are missed."""
    first, *animals = exchange
    detections = frame.detections
    if not first <= frame.frame_index < first + MISSED:
        return frame
    kept = ~np.isin(np.asarray(detections.gt_ids), animals)
    assert detections.keypoints is not None
    seen = Detections(keypoints=detections.keypoints[kept], gt_ids=np.asarray(detections.gt_ids)[kept])
    return RecordedFrame(frame.frame_index, frame.t_ns, frame.image, seen)


def moments(recording: Recording, n: int) -> list[tuple[int, int, int]]:
    """Return n frames in which two animals are within a side of each other, with these animals."""
    near = []
    for frame in recording.frames():
        boxes = Instances.of(frame.detections, LiveDataset(), recording.skeleton).extents
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
        animals = np.asarray(frame.detections.gt_ids).tolist()
        near += [
            (frame.frame_index, animals[i], animals[j])
            for i in range(len(boxes))
            for j in range(i)
            if np.hypot(*(centres[i] - centres[j])) < (sides[i] + sides[j]) / 2
            and 0.3 * len(recording) < frame.frame_index < 0.8 * len(recording)
        ]
    chosen = np.random.default_rng(0).permutation(len(near))[:n]
    return [near[place] for place in sorted(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=int, default=0, help="seed of the first recording of the demo")
    parser.add_argument("--seeds", type=int, default=30, help="recordings of the demo")
    parser.add_argument("--exchanges", type=int, default=8, help="staged exchanges of the real animals")
    options = parser.parse_args()
    console = Console(width=110)
    rows: list[tuple[str, tuple[int, int, float], tuple[int, int, float], float]] = []

    def compare(name: str, recording: Recording, exchange: tuple[int, int, int] | None = None) -> None:
        global learning_s
        before = tracked(recording, learns=False, exchange=exchange).score()
        learning_s = 0.0
        after = tracked(recording, learns=True, exchange=exchange).score()
        rows.append((name, before, after, 1000 * learning_s * recording.fps / len(recording)))

    with tempfile.TemporaryDirectory() as folder:
        for seed in track(range(options.first, options.first + options.seeds), "demo", console=console, transient=True):
            files = make_recording(Path(folder) / str(seed), seed=seed)
            compare(f"demo {seed}", _opened(files.slp, files.video))
    clip = DATA / "sleap_clip_pair"
    if clip.is_dir():
        flies = _opened(clip / "clip.slp", clip / "clip.mp4")
        compare("flies", flies)
        for moment in track(moments(flies, options.exchanges), "flies", console=console, transient=True):
            compare(f"flies, exchanged at {moment[0]}", flies, moment)
    print(f"{'':26}{'without':>22}{'with learn_identities':>26}")
    print(f"{'':26}{'switches lasting wrong':>22}{'switches lasting wrong':>26}{'ms':>8}")
    for name, before, after, ms in rows:
        print(
            f"{name:26}"
            + "".join(f"{a:>{w}}{b:>8}{c:>5.1f}%" for w, (a, b, c) in ((8, before), (12, after)))
            + f"{ms:>8.1f}"
        )
    demos = [row for row in rows if row[0].startswith("demo")]
    clean = [sum(row[part][1] == 0 for row in demos) for part in (1, 2)]  # type: ignore[index]
    wrong = [np.mean([row[part][2] for row in demos]) for part in (1, 2)]  # type: ignore[index]
    print(
        f"\ndemo: {len(demos)} recordings; without an exchange that lasts {clean[0]} and {clean[1]}; "
        f"wrong ids {wrong[0]:.1f} and {wrong[1]:.1f} %"
    )


def _opened(slp: Path, video: Path) -> Recording:
    dataset = TestDataset(slp_files=[str(slp)], video_files=[str(video)])
    (recording,) = open_recordings(dataset, DataloaderConfig(), slp.parent)
    return recording


if __name__ == "__main__":
    main()
