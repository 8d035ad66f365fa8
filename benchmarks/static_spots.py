"""Drawn scenes with static false detections: animals that move, and places at which the detector fires again and again.

A spot is a reflection, a lamp or a stain: a box that stays where it is, found in a part of the frames, in some spans
never. Animals walk at speeds from 0.03 to 0.6 sides per frame, through spots in every second walk, and rest, some
beside a spot. An animal that covers more than half of a spot hides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from identity_sequence import Sequence, table

FIELD_PX, SIDE_PX = (600.0, 500.0), 40.0
MISSED, JITTER = 0.03, 0.02  # of animals; the jitter is of each edge, in sides
SPOT_SHOWN, SPOT_JITTER = (0.3, 0.9), (0.01, 0.02)
HIDDEN_FROM = 0.5  # share of a spot that an animal covers
ANIMAL_SCORE, LOW_SCORE, SCORE_STD = 0.85, 0.5, 0.07
SPAN = 60.0  # mean frames of a spot's dark span, and half of its other spans


@dataclass(slots=True)
class _Animal:
    """One animal: its place, and where it goes."""

    rng: np.random.Generator
    spots: NDArray[np.float64]  # (k, 2)
    place: NDArray[np.float64]
    target: NDArray[np.float64]
    speed: float = 0.0
    rest: int = 0

    def choose(self) -> None:
        """Choose the next target: through a spot, beside one, or anywhere."""
        rng, size = self.rng, np.array(FIELD_PX)
        self.speed = SIDE_PX * float(np.exp(rng.uniform(np.log(0.03), np.log(0.6))))
        kind = rng.random()
        spot = self.spots[rng.integers(len(self.spots))] if len(self.spots) else size / 2
        if kind < 0.5:
            through = spot + rng.normal(0, 0.2 * SIDE_PX, 2) - self.place
            distance = max(float(np.linalg.norm(through)), 1e-6)
            self.target = self.place + through * (1 + SIDE_PX * rng.uniform(2, 6) / distance)
        elif kind < 0.65:
            angle = rng.uniform(0, 2 * np.pi)
            self.target = spot + SIDE_PX * rng.uniform(0.4, 1.0) * np.array([np.cos(angle), np.sin(angle)])
        else:
            self.target = rng.uniform(0, size)
        self.target = np.clip(self.target, SIDE_PX, size - SIDE_PX)
        self.speed = max(self.speed, float(np.linalg.norm(self.target - self.place)) / 150)
        self.rest = int(rng.integers(10, 60)) if rng.random() < 0.5 else 0

    def walk(self) -> None:
        """Move by one frame."""
        way = self.target - self.place
        distance = float(np.linalg.norm(way))
        if distance > self.speed:
            self.place = self.place + way * self.speed / distance + self.rng.normal(0, 0.1 * self.speed, 2)
        elif self.rest > 0:
            self.place = self.target + self.rng.normal(0, 0.01 * SIDE_PX, 2)
            self.rest -= 1
        else:
            self.choose()


def _boxes(centres: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def _covered(spots: NDArray[np.float64], animals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest share of each spot that one animal covers."""
    low = np.maximum(spots[:, None, :2], animals[None, :, :2])
    high = np.minimum(spots[:, None, 2:], animals[None, :, 2:])
    area = (spots[:, 2:] - spots[:, :2]).prod(axis=1)
    return np.asarray((np.clip(high - low, 0, None).prod(axis=2) / area[:, None]).max(axis=1))


def scene(
    seed: int, n_animals: int = 8, n_spots: int = 3, frames: int = 600, low_scores: bool = False, missed: float = MISSED
) -> Sequence:
    """Return a scene; detections of spots have the owner −1.

    Args:
        seed: of all that is drawn.
        n_animals: ids 1 to n.
        n_spots: static false detections.
        frames: of the scene.
        low_scores: the spots have mostly lower scores than the animals.
        missed: share of the frames in which an animal is not found.
    """
    rng = np.random.default_rng(seed)
    size = np.array(FIELD_PX)
    spots = rng.uniform(0.15 * size, 0.85 * size, (n_spots, 2))
    spot_sides = SIDE_PX * rng.uniform(0.7, 1.1, (n_spots, 2))
    shown, spot_jitter = rng.uniform(*SPOT_SHOWN, n_spots), rng.uniform(*SPOT_JITTER, n_spots)
    sides = SIDE_PX * rng.uniform(0.9, 1.1, (n_animals, 2))
    animals = [_Animal(rng, spots, place, place) for place in rng.uniform(0.1 * size, 0.9 * size, (n_animals, 2))]
    dark = np.zeros(n_spots, bool)
    boxes, scores, owners, truth = [], [], [], []
    for _ in range(frames):
        for animal in animals:
            animal.walk()
        true = _boxes(np.array([animal.place for animal in animals]), sides)
        truth.append((np.arange(n_animals) + 1, true))
        dark = np.where(dark, rng.random(n_spots) > 1 / SPAN, rng.random(n_spots) < 0.5 / SPAN)
        fixed = _boxes(spots, spot_sides)
        seen = rng.random(n_animals) >= missed
        lit = (rng.random(n_spots) < shown) & ~dark & (_covered(fixed, true) <= HIDDEN_FROM)
        noise = np.concatenate([np.full(n_animals, JITTER), spot_jitter])[:, None]
        place = np.concatenate([true, fixed])
        place = place + rng.normal(0, 1, place.shape) * noise * np.tile(np.concatenate([sides, spot_sides]), 2)
        mean = np.concatenate(
            [np.full(n_animals, ANIMAL_SCORE), np.full(n_spots, LOW_SCORE if low_scores else ANIMAL_SCORE)]
        )
        value = np.clip(mean + rng.normal(0, SCORE_STD, len(mean)), 0.05, 0.99)
        kept = rng.permutation(np.flatnonzero(np.concatenate([seen, lit])))
        boxes.append(place[kept].astype(np.float32))
        scores.append(value[kept].astype(np.float32))
        owners.append(np.where(kept < n_animals, kept + 1, -1))
    return Sequence(boxes, scores, owners, table(truth))
