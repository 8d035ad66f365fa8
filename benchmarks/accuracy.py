"""Accuracy of the `motion` scorer and of its peers: HOTA, AssA, IDF1, MOTA, id switches.

    TRACKD_SHARED=../shared python benchmarks/accuracy.py [NAME ...]

Sequences, seeds and scoring are those of `$TRACKD_SHARED/peers/PEERS.md`. The peers' figures are the best of each
column there, not those of one peer. "two or more" excludes tracks with a single observation, as do peers that confirm
tracks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sleap_io

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SHARED = Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve()
sys.path.insert(0, str(SHARED / "peers"))

import bounce  # noqa: E402
import gen  # noqa: E402
import score  # noqa: E402

Frames = list[tuple[np.ndarray, np.ndarray]]  # boxes (n, 4), scores (n,)


@dataclass(frozen=True)
class Best:
    """The best peer's figure in each column of PEERS.md."""

    hota: float
    assa: float
    idf1: float
    mota: float


PEERS = {
    "easy": Best(93.3, 91.5, 95.1, 95.9),
    "default": Best(75.8, 70.7, 83.6, 87.8),
    "hard": Best(45.5, 36.9, 56.4, 68.1),
    "dance": Best(67.8, 58.3, 75.3, 87.3),
    "lowfps": Best(51.6, 35.2, 49.2, 82.7),
    # PEERS.md has these sequences only as parts of larger sets. These figures are of bench_peers.py on each sequence,
    # with trackers 2.6.1 and ultralytics 8.4.190.
    "tud_campus": Best(53.4, 56.0, 74.5, 63.2),
    "mot17_09": Best(50.1, 50.2, 60.6, 55.0),
    "mot17_10": Best(42.7, 38.5, 48.1, 51.7),
    "flies": Best(91.2, 91.2, 100.0, 100.0),  # motpy, which invents boxes in missed frames; otherwise 89.7 and 97.5
    "two_flies_noisy": Best(99.6, 100.0, 99.6, 99.2),
}
LEVEL_SIZES = {"easy": 50, "default": 50, "hard": 50, "dance": 12, "lowfps": 30}


def table(rows: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return ids and boxes per frame as MOTChallenge rows."""
    out = [np.empty((0, 9))]
    for number, (ids, boxes) in enumerate(rows, 1):
        one = np.ones((len(ids), 9))
        one[:, 0], one[:, 1] = number, ids
        one[:, 2:4], one[:, 4:6] = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        out.append(one)
    return np.concatenate(out)


def synthetic(level: str) -> list[tuple[Frames, np.ndarray]]:
    pairs = []
    for seed in (10, 11, 12):
        sequence = gen.generate(LEVEL_SIZES[level], 300, seed, level)
        truth = table([(frame.gt_ids + 1, frame.gt_boxes) for frame in sequence.frames])
        pairs.append(([(frame.boxes, frame.scores) for frame in sequence.frames], truth))
    return pairs


def closed(kind: str, n: int) -> list[tuple[Frames, np.ndarray]]:
    """Small fast boxes that bounce off walls; none is missed, and none is ever new."""
    pairs = []
    for seed in (10, 11, 12):
        order = np.random.default_rng(seed)
        boxes = bounce.scene(n, 600, seed, kind)
        truth = table([(np.arange(n) + 1, row) for row in boxes])
        pairs.append(([(row[order.permutation(n)], np.full(n, 0.9, np.float32)) for row in boxes], truth))
    return pairs


def mot(name: str) -> list[tuple[Frames, np.ndarray]]:
    folder = SHARED / "data" / name
    truth, detections = score.read_mot(folder / "gt.txt"), score.read_mot(folder / "det.txt")
    frames = []
    for number in range(1, int(max(truth[:, 0].max(), detections[:, 0].max())) + 1):
        rows = detections[detections[:, 0] == number]
        boxes = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1).astype(np.float32)
        frames.append((boxes, np.clip(rows[:, 6], 0, 1).astype(np.float32)))
    return [(frames, truth)]


def boxes_of(path: Path) -> dict[int, np.ndarray]:
    """Return rows of track, x1 y1 x2 y2, score of every instance with a pose, by frame."""
    labels = sleap_io.load_slp(str(path), open_videos=False)
    by_frame = {}
    for frame in labels.labeled_frames:
        rows = []
        for instance in frame.instances:
            points = instance.numpy()
            points = points[np.isfinite(points).all(1)]
            if len(points):
                track = labels.tracks.index(instance.track) if instance.track else -1
                rows.append((track, *points.min(0), *points.max(0), getattr(instance, "score", 1.0) or 1.0))
        by_frame[frame.frame_idx] = np.array(rows, float).reshape(-1, 6)
    return by_frame


def poses(truth_name: str, found_name: str | None = None, drop: float = 0.05) -> list[tuple[Frames, np.ndarray]]:
    truth = boxes_of(SHARED / "data" / truth_name)
    rng = np.random.default_rng(0)
    if found_name:
        found = boxes_of(SHARED / "data" / found_name)
    else:
        found = {}
        for number, rows in truth.items():
            kept = rows[rng.random(len(rows)) >= drop].copy()
            sides = np.tile(kept[:, 3:5] - kept[:, 1:3], 2)
            kept[:, 1:5] += rng.normal(0, 0.03, kept[:, 1:5].shape) * sides
            found[number] = kept[rng.permutation(len(kept))]
    frames, wanted = [], []
    none = np.empty((0, 6))
    for number in range(max(truth) + 1):
        rows = found.get(number, none)
        frames.append((rows[:, 1:5].astype(np.float32), np.full(len(rows), 0.9, np.float32)))
        rows = truth.get(number, none)
        wanted.append((rows[:, 0].astype(int) + 1, rows[:, 1:5]))
    return [(frames, table(wanted))]


SETS: dict[str, Callable[[], list[tuple[Frames, np.ndarray]]]] = {
    **{level: (lambda level=level: synthetic(level)) for level in LEVEL_SIZES},
    "wire6": lambda: closed("wire", 6),
    "bounce6": lambda: closed("bounce", 6),
    "bounce20": lambda: closed("bounce", 20),
    "tud_campus": lambda: mot("mot15_TUD-Campus"),
    "mot17_09": lambda: mot("mot17_09"),
    "mot17_10": lambda: mot("mot17_10"),
    "flies": lambda: poses("sleap_clip_pair/clip.slp"),
    "two_flies_noisy": lambda: poses("dreem_two_flies/two_flies.slp", "dreem_two_flies/two_flies_noisy_detections.slp"),
    "three_flies": lambda: poses("dreem_three_flies/three_flies.slp"),
}


def track(frames: Frames) -> list[tuple[np.ndarray, np.ndarray]]:
    tracker, dataset = Tracker(TrackerConfig(), MotionScorer()), LiveDataset()
    rows = []
    for number, (boxes, scores) in enumerate(frames):
        instances = Instances.of(Detections(boxes=boxes, scores=scores), dataset)
        ids = tracker.step(number, number * 33_000_000, instances, None, number).track_ids
        rows.append((ids[ids >= 0] + 1, boxes[ids >= 0]))
    return rows


def observed_twice(results: np.ndarray) -> np.ndarray:
    """Return the results without tracks that have only one row."""
    ids, counts = np.unique(results[:, 1], return_counts=True)
    return results[np.isin(results[:, 1], ids[counts > 1])]


def main() -> None:
    names = sys.argv[1:] or list(SETS)
    print(f"{'':18}  HOTA  DetA  AssA  IDF1  MOTA  IDSW     FP     FN")
    for name in names:
        pairs = [(truth, table(track(frames))) for frames, truth in SETS[name]()]
        again = [(truth, observed_twice(found)) for truth, found in pairs]
        for label, scored in ((name, pairs), ("  two or more", again)):
            total, _ = score.score(scored)
            print(
                f"{label:18} {total.hota:5.1f} {total.deta:5.1f} {total.assa:5.1f} {total.idf1:5.1f} "
                f"{total.mota:5.1f} {total.idsw:5d} {total.fp:6d} {total.fn:6d}"
            )
        if name in PEERS:
            best = PEERS[name]
            print(f"{'  best peer':18} {best.hota:5.1f}       {best.assa:5.1f} {best.idf1:5.1f} {best.mota:5.1f}")


if __name__ == "__main__":
    main()
