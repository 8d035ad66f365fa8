"""Scenes in which a detector returns one box for animals that touch, as background subtraction does.

Animals walk in a square field. `pass`: through each other; `bounce`: they push each other off; `mixed`: half of the
pairs do; `follow`: every second one follows another. Boxes that overlap by a tenth of the smaller one are replaced by
their hull. `guppies` is a recording whose detector does this.

Letters: n boxes of a frame, N animals.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

SIDE, SPEED, MAX_SPEED = 40.0, 3.5, 8.0  # pixels, pixels per frame
SHARE = 0.1  # of the smaller box: overlap from which two boxes are one
JITTER = 0.015  # std of an edge over the side
NEAR_PX = 12.0  # of a guppy from a box that it is not in
FRAMES = 400


@dataclass(frozen=True, slots=True, eq=False)
class MergedFrame:
    """The boxes of a frame, in random order, and the animals that are in each."""

    boxes: NDArray[np.float32]  # (n, 4) x1 y1 x2 y2
    animals: tuple[tuple[int, ...], ...]  # (n,) none for a false detection


@dataclass(frozen=True, slots=True)
class Scene:
    """How a scene is drawn."""

    n: int  # animals
    kind: str = "mixed"
    is_unequal: bool = False  # sizes between 0.64 and 1.57 of the mean
    stride: int = 1  # every so many frames are kept
    missed: float = 0.0  # share of the boxes
    false: float = 0.0  # false detections per animal and frame

    def frames(self, seed: int) -> list[MergedFrame]:
        rng = np.random.default_rng(seed)
        walked = _walk(self, FRAMES * self.stride, rng)
        return [self._detected(row, rng) for row in walked[:: self.stride]]

    def _detected(self, boxes: Boxes, rng: np.random.Generator) -> MergedFrame:
        found, animals = merged(boxes)
        kept = np.flatnonzero(rng.random(len(found)) >= self.missed)
        found, animals = found[kept], [animals[k] for k in kept]
        found = found + rng.normal(0, JITTER, found.shape) * np.tile(np.minimum(found[:, 2:] - found[:, :2], 45), 2)
        places = rng.uniform(30, _field(self.n) - 30, (rng.poisson(self.false * self.n), 2))
        found = np.concatenate([found, np.concatenate([places - 18, places + 18], axis=1)])
        animals += [()] * len(places)
        order = rng.permutation(len(found))
        return MergedFrame(found[order].astype(np.float32), tuple(animals[k] for k in order))


def _field(n: int) -> float:
    return SIDE * np.sqrt(n) * 3.2


def _walk(scene: Scene, frames: int, rng: np.random.Generator) -> Boxes:
    """The animals' own boxes, (frames, N, 4)."""
    n, field = scene.n, _field(scene.n)
    spread = 0.45 if scene.is_unequal else 0.05
    half = SIDE / 2 * np.exp(rng.uniform(-spread, spread, n))[:, None] * rng.uniform(0.95, 1.05, (n, 2))
    places, speeds = rng.uniform(60, field - 60, (n, 2)), rng.normal(0, SPEED, (n, 2))
    rows = []
    for _ in range(frames):
        speeds = 0.98 * speeds + rng.normal(0, 0.9, speeds.shape)
        speeds *= np.minimum(1, MAX_SPEED / np.maximum(np.linalg.norm(speeds, axis=1, keepdims=True), 1e-9))
        if scene.kind in ("bounce", "mixed"):
            _push_off(places, speeds, half, every_pair=scene.kind == "bounce")
        if scene.kind == "follow":
            for i in range(1, n, 2):
                way = places[i - 1] - places[i]
                if (distance := np.linalg.norm(way)) > 30:
                    speeds[i] += 0.6 * way / distance
        places = places + speeds
        speeds[(places < 30) | (places > field - 30)] *= -1
        places = np.clip(places, 30, field - 30)
        rows.append(np.concatenate([places - half, places + half], axis=1))
    return np.array(rows)


def _push_off(places: Boxes, speeds: Boxes, half: Boxes, every_pair: bool) -> None:
    for i in range(len(places)):
        for j in range(i + 1, len(places)):
            way = places[j] - places[i]
            distance = max(float(np.linalg.norm(way)), 1e-6)
            if (every_pair or (i + j) % 2 == 0) and distance < 0.75 * (half[i].mean() + half[j].mean()):
                towards = min(float((speeds[j] - speeds[i]) @ way) / distance, 0.0)
                speeds[i] += towards * way / distance
                speeds[j] -= towards * way / distance


def merged(boxes: Boxes) -> tuple[Boxes, list[tuple[int, ...]]]:
    """Replace boxes that overlap by their hull, until none do; also return the rows of each."""
    found, rows = [np.array(each) for each in boxes], [(k,) for k in range(len(boxes))]
    again = True
    while again:
        again = False
        for i in range(len(found)):
            for j in range(len(found) - 1, i, -1):
                low, high = np.maximum(found[i][:2], found[j][:2]), np.minimum(found[i][2:], found[j][2:])
                smaller = min((each[2:] - each[:2]).prod() for each in (found[i], found[j]))
                if np.clip(high - low, 0, None).prod() > SHARE * smaller:
                    lows, highs = np.minimum(found[i][:2], found[j][:2]), np.maximum(found[i][2:], found[j][2:])
                    found[i] = np.concatenate([lows, highs])
                    rows[i] += rows.pop(j)
                    found.pop(j)
                    again = True
    return np.array(found).reshape(-1, 4), rows


def guppies(shared: Path) -> list[MergedFrame]:
    """The recording trex_guppies8: boxes of background subtraction, and the animals by TRex that are in each."""
    folder = shared / "data" / "trex_guppies8"
    with (folder / "detections.csv").open() as found, (folder / "tracks_trex.csv").open() as known:
        rows, tracks = list(csv.DictReader(found)), list(csv.DictReader(known))
    frames = []
    for t in range(max(int(row["frame"]) for row in rows) + 1):
        sides = [
            [float(row[key]) for key in ("left", "top", "width", "height")] for row in rows if int(row["frame"]) == t
        ]
        boxes = np.array(sides).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        animals: list[tuple[int, ...]] = [()] * len(boxes)
        for row in tracks:
            place = np.array([float(row["x"]), float(row["y"])])
            if int(row["frame"]) == t and np.isfinite(place).all():
                outside = np.maximum(boxes[:, :2] - place, place - boxes[:, 2:]).max(axis=1)
                if outside.min() < NEAR_PX:
                    animals[int(outside.argmin())] += (int(row["id"]),)
        frames.append(MergedFrame(boxes.astype(np.float32), tuple(animals)))
    return frames


SCENES: dict[str, Scene] = {}
for _n in (2, 5, 8, 20):
    for _kind in ("pass", "bounce", "mixed", "follow"):
        SCENES[f"{_kind}{_n}"] = Scene(_n, _kind)
    SCENES[f"mixed{_n}_unequal"] = Scene(_n, is_unequal=True)
    SCENES[f"mixed{_n}_s3"] = Scene(_n, stride=3)
    SCENES[f"mixed{_n}_unequal_s3"] = Scene(_n, is_unequal=True, stride=3)
    SCENES[f"mixed{_n}_noisy"] = Scene(_n, missed=0.03, false=0.02)
