"""The sets of identity.py: drawn scenes, and every recording of `$TRACKD_SHARED/data` with true identities.

Drawn scenes have the seeds 10 to 12, those of poses 10 to 17, with which nothing was developed. Where a recording has
only tracks, their boxes are the detections; where it has points, they are squares about the points. Sets named `posed`
have keypoints, which trackd gets in place of boxes, and their boxes are those about the nodes that are seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import sleap_io
from scipy.ndimage import find_objects

from identity_sequence import SHARED, VARIANTS, Found, Sequence, Variant, extents, score, table
from posed import Scene, draw
from static_spots import scene
from trackd_client.recordings.config import Dataloader, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.labels.label_files import read_spots

import bounce  # isort: skip  # of $TRACKD_SHARED/peers, as gen
import gen  # isort: skip

DATA = SHARED / "data"
SEEDS = (10, 11, 12)
POSED_SEEDS = range(10, 18)  # of two animals one swap decides over a whole sequence: these sets have more of them
VARIANT_SEED = 10
FEWEST_FRAMES = 20  # of a variant
PLAIN = VARIANTS["plain"]
Read = Callable[[], list[Sequence]]


@dataclass(frozen=True, slots=True)
class IdentitySet:
    """Sequences that are scored together."""

    read: Read
    n: int | None = None  # the number of objects, where none comes or leaves
    varied: bool = True  # whether its harder variants are also measured
    whole: bool = False  # whether all frames are measured, not only the first

    def sequences(self, variant: str, frames: int) -> list[Sequence]:
        """Return the sequences of a variant, at most so many frames of each; [] if the variant is too short."""
        rng = np.random.default_rng(VARIANT_SEED)
        made = [each.varied(VARIANTS[variant], rng) if self.varied else each for each in self.read()]
        if variant != "plain" and min(len(each.boxes) for each in made) < FEWEST_FRAMES:
            return []
        return made if self.whole else [each.first(frames) for each in made]


def drawn(level: str, n: int) -> IdentitySet:
    def read() -> list[Sequence]:
        found = []
        for seed in SEEDS:
            frames = gen.generate(n, 300, seed, level).frames
            truth = table([(frame.gt_ids + 1, frame.gt_boxes) for frame in frames])
            owners = [np.where(frame.ids >= 0, frame.ids + 1, -1) for frame in frames]
            found.append(Sequence([frame.boxes for frame in frames], [frame.scores for frame in frames], owners, truth))
        return found

    return IdentitySet(read, varied=False)


def bounced(kind: str, n: int) -> IdentitySet:
    """Small fast boxes that bounce off walls; none is missed, and none is ever new."""

    def read() -> list[Sequence]:
        found = []
        for seed in SEEDS:
            truth = [(np.arange(n) + 1, boxes) for boxes in bounce.scene(n, 600, seed, kind)]
            found.append(Sequence.of_truth(truth, PLAIN, np.random.default_rng(seed)))
        return found

    return IdentitySet(read, n, varied=False)


def posed(scene: Scene) -> IdentitySet:
    """Drawn animals in contact, whose poses are the detections."""

    def read() -> list[Sequence]:
        return [
            _of_poses([(each.poses, each.owners, each.true_poses) for each in draw(scene, 500, s)]) for s in POSED_SEEDS
        ]

    return IdentitySet(read, scene.animals, varied=False)


def posed_recording(labels: str, n: int) -> IdentitySet:
    """A recording whose true poses are the detections."""

    def read() -> list[Sequence]:
        read = sleap_io.load_slp(str(DATA / labels), open_videos=False)
        frames = []
        for frame in sorted(read.labeled_frames, key=lambda each: each.frame_idx):
            owners = [read.tracks.index(each.track) for each in frame.instances]
            found = np.array([each.numpy() for each in frame.instances], float)
            truth = np.full((len(read.tracks), *found.shape[1:]), np.nan)
            truth[owners] = found
            frames.append((found, np.array(owners) + 1, truth))
        return [_of_poses(frames)]

    return IdentitySet(read, n)


def _of_poses(frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Sequence:
    """Return a sequence of poses, their true ids, and all true poses by id; a true box is that of its detection."""
    poses = [found.astype(np.float32) for found, _, _ in frames]
    boxes, truth = [extents(each) for each in poses], []
    for (_, owners, true_poses), box in zip(frames, boxes, strict=True):
        there = np.flatnonzero(np.isfinite(true_poses).any(axis=(1, 2)))
        places = np.full((len(true_poses), 4), np.nan)
        places[there] = extents(true_poses[there])
        places[owners - 1] = box
        truth.append((there + 1, places[there]))
    scores = [np.full(len(each), 0.9, np.float32) for each in boxes]
    return Sequence(boxes, scores, [owners for _, owners, _ in frames], table(truth), poses)


def with_spots(**options: bool | float) -> IdentitySet:
    """Animals that walk through static false detections."""
    return IdentitySet(lambda: [scene(seed, **options) for seed in SEEDS], varied=False)


def true(frames: Callable[[], list[Found]], n: int | None = None, noise: Variant | None = None) -> IdentitySet:
    """A recording whose true boxes are the detections; `noise` takes the place of its variants."""

    def read() -> list[Sequence]:
        return [Sequence.of_truth(frames(), noise or PLAIN, np.random.default_rng(0))]

    return IdentitySet(read, n, varied=noise is None)


def squares(points: np.ndarray, side: float) -> np.ndarray:
    return np.concatenate([points - side / 2, points + side / 2], axis=1)


def poses(labels: str, margin: float = 0.0, nodes: tuple[str, ...] = ()) -> list[Found]:
    """Return the boxes about the visible keypoints of each instance, and its track from 1, or −1."""
    read = sleap_io.load_slp(str(DATA / labels), open_videos=False)
    names = read.skeletons[0].node_names
    chosen = [names.index(node) for node in nodes] or slice(None)
    frames: dict[int, Found] = {}
    for frame in read.labeled_frames:
        ids, boxes = [], []
        for instance in frame.instances:
            points = instance.numpy()[chosen]
            points = points[np.isfinite(points).all(axis=1)]
            if len(points):
                ids.append(read.tracks.index(instance.track) + 1 if instance.track else -1)
                boxes.append([*points.min(axis=0) - margin, *points.max(axis=0) + margin])
        frames[frame.frame_idx] = np.array(ids, np.int64), np.array(boxes).reshape(-1, 4)
    nothing = np.empty(0, np.int64), np.empty((0, 4))
    return [frames.get(number, nothing) for number in range(max(frames) + 1)]


def detected(truth: Callable[[], list[Found]], found: Callable[[], list[Found]], n: int | None = None) -> IdentitySet:
    """A recording with other detections than its truth."""

    def read() -> list[Sequence]:
        boxes = [place.astype(np.float32) for _, place in found()]
        return [Sequence.of_detector(boxes, [np.full(len(each), 0.9, np.float32) for each in boxes], table(truth()))]

    return IdentitySet(read, n)


def corners(rows: np.ndarray) -> np.ndarray:
    """Return the boxes (n, 4) x1 y1 x2 y2 of MOTChallenge rows."""
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)


def pedestrians(folder: str) -> IdentitySet:
    def read() -> list[Sequence]:
        truth, found = (score.read_mot(DATA / folder / name) for name in ("gt.txt", "det.txt"))
        frames = range(1, int(max(truth[:, 0].max(), found[:, 0].max())) + 1)
        rows = [found[found[:, 0] == number] for number in frames]
        boxes = [corners(each).astype(np.float32) for each in rows]
        scores = [np.clip(each[:, 6], 0, 1).astype(np.float32) for each in rows]
        return [Sequence.of_detector(boxes, scores, truth)]

    return IdentitySet(read)


def true_pedestrians(folder: str) -> list[Found]:
    rows = score.read_mot(DATA / folder / "gt.txt")
    if (rows[:, 7] == 1).any():  # a class; in MOT15 a coordinate
        rows = rows[(rows[:, 6] > 0) & (rows[:, 7] == 1)]
    frames = [rows[rows[:, 0] == number] for number in range(1, int(rows[:, 0].max()) + 1)]
    return [(each[:, 1].astype(int), corners(each)) for each in frames]


def points(labels: str, side: float) -> list[Found]:
    """Return the spots that have an identity; `side` is of those that have no radius."""
    spots = read_spots(DATA / labels)
    frames = []
    for number in range(spots.stop):
        here = spots.at(number)
        half = np.where(np.isfinite(spots.radii[here]), spots.radii[here], side / 2)
        boxes = np.concatenate([spots.points[here] - half, spots.points[here] + half], axis=1)
        known = spots.gt_ids[here] >= 0
        frames.append((spots.gt_ids[here][known] + 1, boxes[known]))
    return frames


def cells(folder: str) -> list[Found]:
    """Return the boxes of the label images of a Cell Tracking Challenge folder."""
    dataset = TestDataset.model_validate(
        {"dir": {"path": [str(DATA / folder)], "labels_suffix": ".tif", "vid_suffix": ".tif"}}
    )
    (recording,) = open_recordings(dataset, Dataloader(), DATA)
    recording.reads_images = False
    frames = []
    for frame in recording.frames():
        masks, ids = frame.detections.masks, frame.detections.gt_ids
        assert masks is not None
        assert ids is not None
        places = [place for place in find_objects(masks) if place is not None]
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
        frames.append((ids + 1, np.array(boxes, float).reshape(-1, 4)))
    return frames


def zebrafish(side: float) -> list[Found]:
    """Return idtracker.ai's trajectories, a pickle that is trusted because MD5SUMS names it."""
    file = np.load(DATA / "idtracker_fish8" / "test_trajectories_idtrackerai.npy", allow_pickle=True)
    seen = [np.isfinite(place).all(axis=1) for place in file.item()["trajectories"]]
    return [
        (np.flatnonzero(here) + 1, squares(place[here], side))
        for place, here in zip(file.item()["trajectories"], seen, strict=True)
    ]


def guppies(side: float) -> list[Found]:
    """Return the blobs of a background subtraction, in which touching fish are one."""
    rows = np.loadtxt(DATA / "trex_guppies8" / "detections.csv", delimiter=",", skiprows=1)
    frames = [rows[rows[:, 0] == number, 1:3] for number in range(int(rows[:, 0].max()) + 1)]
    return [(np.full(len(here), -1), squares(here, side)) for here in frames]


CLIP = "sleap_clip_pair/clip.slp"
RECEPTORS = "isbi_receptors/RECEPTOR snr 7 density low.xml"
SETS: dict[str, IdentitySet] = {
    "easy": drawn("easy", 50),
    "default": drawn("default", 50),
    "hard": drawn("hard", 50),
    "dance": drawn("dance", 12),
    "lowfps": drawn("lowfps", 30),
    "wire6": bounced("wire", 6),
    "bounce6": bounced("bounce", 6),
    "bounce20": bounced("bounce", 20),
    "posed_pair": posed(Scene(2, 13)),
    "posed_pair_s3": posed(Scene(2, 13, stride=3)),
    "posed_line": posed(Scene(2, 3)),
    "posed_six": posed(Scene(6, 7)),
    "posed_six_s3": posed(Scene(6, 7, stride=3)),
    "posed_mount": posed(Scene(2, 7, acts=("mount",))),
    "spots": with_spots(),
    "spots_low": with_spots(low_scores=True),
    "spots_missed": with_spots(missed=0.1),
    "single_fly": true(lambda: poses("dreem_single_fly/single_fly.slp"), 1),
    "two_flies": true(lambda: poses("dreem_two_flies/two_flies.slp"), 2),
    "two_flies_noisy": detected(
        lambda: poses("dreem_two_flies/two_flies.slp"),
        lambda: poses("dreem_two_flies/two_flies_noisy_detections.slp"),
    ),
    "three_flies": true(lambda: poses("dreem_three_flies/three_flies.slp"), 3),
    "two_flies_posed": posed_recording("dreem_two_flies/two_flies.slp", 2),
    "three_flies_posed": posed_recording("dreem_three_flies/three_flies.slp", 3),
    "clip_pair_posed": posed_recording(CLIP, 2),
    "ten_zfish": true(lambda: poses("dreem_ten_zfish/ten_zfish.slp", 30), 10),
    "clip_pair": true(lambda: poses(CLIP), 2),
    "clip_pair_noisy": replace(true(lambda: poses(CLIP), 2, Variant(drop=0.05, jitter=0.03)), whole=True),
    "clip_pair_model": detected(
        lambda: poses(CLIP, 40, ("head", "thorax")), lambda: poses("sleap_clip_pair/clip.predictions.slp", 40)
    ),
    "fish8": true(lambda: zebrafish(40), 8),
    "guppies8": detected(lambda: points("trex_guppies8/tracks_trex.csv", 40), lambda: guppies(40), 8),
    "tud_campus": pedestrians("mot15_TUD-Campus"),
    "mot17_09": pedestrians("mot17_09"),
    "mot17_10": pedestrians("mot17_10"),
    "tud_campus_true": true(lambda: true_pedestrians("mot15_TUD-Campus")),
    "mot17_09_true": true(lambda: true_pedestrians("mot17_09")),
    "mot17_10_true": true(lambda: true_pedestrians("mot17_10")),
    "dic_hela": true(lambda: cells("ctc_DIC-C2DH-HeLa_01")),
    "fluo_hela": true(lambda: cells("ctc_Fluo-N2DL-HeLa_01")),
    "dreem_ctc": true(lambda: cells("dreem_ctc_sample")),
    "receptors": true(lambda: points(RECEPTORS, 8)),
    "icy_10cells": true(lambda: points("icy_10cells/10_cells_1_gt.xml", 12), 10),
    "airyscan": true(lambda: points("imagej_manualtracking/test_airyscan_tracks.csv", 12)),
    "trackmate_splits": true(lambda: points("trackmate_xml/laptrack_with_splitting.xml", 8)),
    "trackmate_gaps": true(lambda: points("trackmate_xml/laptrack_with_gap_closing.xml", 8)),
    "btrack": true(lambda: points("btrack_testdata/test_data.csv", 30)),
}
