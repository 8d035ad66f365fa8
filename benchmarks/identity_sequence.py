"""A sequence of detections with its ground truth: its harder variants, its file for the peers' processes, its scores.

Tables have the columns of `$TRACKD_SHARED/peers/score.py`: frame from 1, id, x, y, width, height, considered, class,
visibility. Letters: n detections of a frame, r rows of a table.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

SHARED = Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve()
sys.path.insert(0, str(SHARED / "peers"))

import score  # noqa: E402

Found = tuple[NDArray[np.int64], NDArray[np.float64]]  # ids (n,), boxes (n, 4) x1 y1 x2 y2
PEDESTRIAN = 1
NODE_MISSED = 0.1  # share of the nodes that are left out where poses are jittered
UNKNOWN, UNKNOWN_FROM = (
    -2,
    0.1,
)  # the owner of a detection that overlaps a true box by more than this, yet is not its own


def table(frames: Iterable[Found]) -> NDArray[np.float64]:
    """Return ids and boxes by frame as a table (r, 9)."""
    rows = [np.empty((0, 9))]
    for number, (ids, boxes) in enumerate(frames, 1):
        one = np.ones((len(ids), 9))
        one[:, 0], one[:, 1] = number, ids
        one[:, 2:4], one[:, 4:6] = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        rows.append(one)
    return np.concatenate(rows)


@dataclass(frozen=True, slots=True)
class Variant:
    """What is done to a recording to make it harder."""

    stride: int = 1  # every so many frames are kept
    drop: float = 0.0  # share of the detections that are left out
    jitter: float = 0.0  # standard deviation of each side's place, in sides


VARIANTS = {
    "plain": Variant(),
    "s3": Variant(stride=3),
    "s5": Variant(stride=5),
    "drop": Variant(drop=0.1, jitter=0.03),
}


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """Detections by frame, in an order that says nothing of their identities, and the ground truth."""

    boxes: list[NDArray[np.float32]]  # each (n, 4) x1 y1 x2 y2
    scores: list[NDArray[np.float32]]  # each (n,)
    owners: list[NDArray[np.int64]]  # each (n,), the true id, −1 for a false detection, UNKNOWN
    truth: NDArray[np.float64]  # (r, 9)
    poses: list[NDArray[np.float32]] | None = None  # each (n, k, 2), NaN for a missing node; then the boxes are theirs

    @classmethod
    def of_truth(cls, frames: list[Found], variant: Variant, rng: np.random.Generator) -> Sequence:
        """Return the truth's own boxes as detections."""
        boxes = [place.astype(np.float32) for _, place in frames]
        whole = cls(
            boxes, [np.full(len(each), 0.9, np.float32) for each in boxes], [ids for ids, _ in frames], table(frames)
        )
        return whole.varied(variant, rng)

    @classmethod
    def of_detector(
        cls, boxes: list[NDArray[np.float32]], scores: list[NDArray[np.float32]], truth: NDArray[np.float64]
    ) -> Sequence:
        """Return a detector's boxes, each with the true object of its own that it overlaps by 0.5 or more."""
        owners = []
        counted = _counted(truth)
        for number, found in enumerate(boxes, 1):
            here = truth[:, 0] == number
            sides = np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1)
            overlap = score.iou_xywh(truth[here, 2:6], sides)
            ids = np.where((overlap > UNKNOWN_FROM).any(axis=0), UNKNOWN, -1)
            close = np.where(overlap >= 0.5, overlap, 0) * counted[here, None]
            rows, columns = linear_sum_assignment(-close)
            matched = close[rows, columns] > 0
            ids[columns[matched]] = truth[here, 1][rows[matched]]
            owners.append(ids)
        return cls(boxes, scores, owners, truth)

    def varied(self, variant: Variant, rng: np.random.Generator) -> Sequence:
        """Return the sequence made harder, and each frame's detections in another order."""
        boxes, scores, owners, poses = [], [], [], []
        for number in range(0, len(self.boxes), variant.stride):
            order = rng.permutation(len(self.boxes[number]))
            order = order[rng.random(len(order)) >= variant.drop]
            place = self.boxes[number][order]
            sides = np.tile(place[:, 2:] - place[:, :2], 2)
            boxes.append((place + rng.normal(0, variant.jitter, place.shape) * sides).astype(np.float32))
            scores.append(self.scores[number][order])
            owners.append(self.owners[number][order])
            if self.poses is not None:
                poses.append(_jittered(self.poses[number][order], variant.jitter, rng))
                boxes[-1] = extents(poses[-1])
        truth = self.truth[(self.truth[:, 0] - 1) % variant.stride == 0].copy()
        truth[:, 0] = (truth[:, 0] - 1) // variant.stride + 1
        return Sequence(boxes, scores, owners, truth, None if self.poses is None else poses)

    def first(self, frames: int) -> Sequence:
        """Return the first frames."""
        truth = self.truth[self.truth[:, 0] <= frames]
        poses = None if self.poses is None else self.poses[:frames]
        return Sequence(self.boxes[:frames], self.scores[:frames], self.owners[:frames], truth, poses)

    @property
    def n_true(self) -> int:
        """The number of true identities that count."""
        return len(np.unique(self.truth[_counted(self.truth), 1]))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return what peers see and are scored against."""
        return {
            "boxes": np.concatenate([np.empty((0, 4), np.float32), *self.boxes]),
            "scores": np.concatenate([np.empty(0, np.float32), *self.scores]),
            "counts": np.array([len(each) for each in self.boxes]),
            "truth": self.truth,
        }


def extents(poses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the boxes (n, 4) x1 y1 x2 y2 about the visible nodes; each pose has one."""
    if not len(poses):
        return np.empty((0, 4), np.float32)
    return np.concatenate([np.nanmin(poses, axis=1), np.nanmax(poses, axis=1)], axis=1)


def _jittered(poses: NDArray[np.float32], jitter: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Move each node by a share of its box's diagonal; at a jitter above 0, leave out a tenth of the nodes."""
    if jitter == 0 or not len(poses):
        return poses
    boxes = extents(poses)
    diagonals = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    moved = (poses + rng.normal(0, jitter, poses.shape) * diagonals[:, None, None]).astype(np.float32)
    missing = rng.random(poses.shape[:2]) < NODE_MISSED
    missing[(~missing & np.isfinite(poses[..., 0])).sum(axis=1) < 2] = False
    moved[missing] = np.nan
    return moved


def _counted(truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    kept = truth[:, 6] != 0
    classes = truth[:, 7]  # in MOT15 a coordinate
    if np.isin(classes, range(1, 14)).all() and (classes != PEDESTRIAN).any():
        kept &= classes == PEDESTRIAN
    return kept


def save(sequences: list[Sequence], path: Path) -> str:
    """Write sequences for `load`, and return a digest of their content."""
    named = {f"{name}_{i}": array for i, each in enumerate(sequences) for name, array in each.arrays().items()}
    np.savez(path, **named)
    digest = hashlib.sha256()
    for name, array in named.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load(path: Path) -> list[tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]]:
    """Return boxes and scores by frame, and the truth, of each sequence of a file."""
    found = []
    with np.load(path) as file:
        for i in range(sum(name.startswith("truth_") for name in file.files)):
            ends = np.cumsum(file[f"counts_{i}"])[:-1]
            frames = list(zip(np.split(file[f"boxes_{i}"], ends), np.split(file[f"scores_{i}"], ends), strict=True))
            found.append((frames, file[f"truth_{i}"]))
    return found


@dataclass(frozen=True, slots=True)
class Figures:
    """The scores of a tracker on a set: its sequences are pooled, as TrackEval does."""

    hota: float  # these three in percent
    assa: float
    idf1: float
    switches: int
    ids: tuple[int, ...]  # made in each sequence


def figures(pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figures:
    """Return the scores of pairs of a truth and a tracker's table."""
    total, _ = score.score(pairs)
    ids = tuple(len(np.unique(found[:, 1])) for _, found in pairs)
    return Figures(total.hota, total.assa, total.idf1, total.idsw, ids)
