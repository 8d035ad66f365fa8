"""Drawn scenes of articulated animals in contact: they court, chase, pass over each other, mount and circle.

    scene = draw(Scene(animals=2, nodes=13), frames=600, seed=0)

An animal is a bent midline with pairs of legs, which it moves. Of pairs, one animal acts on the other for a while, then
both walk. What is detected is jittered; nodes and animals are missed, more often where animals lie on each other, and
some poses have head and tail, or left and right, exchanged. Lengths are in pixels, times in frames, angles in radians.

Letters: a animals, k nodes, n detections of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTS = ("court", "chase", "pass", "mount", "circle")
LENGTH, ARENA = 60.0, 700.0


@dataclass(frozen=True, slots=True)
class Scene:
    animals: int = 2
    nodes: int = 13
    acts: tuple[str, ...] = ACTS
    stride: int = 1  # every so many frames are kept
    speed: float = 0.08  # greatest, of a walk, in lengths a frame
    turn: float = 0.2  # greatest, per frame
    jitter: float = 0.02  # of each node, in lengths
    node_missed: float = 0.1
    missed: float = 0.02  # share of the animals that are not detected; 5 times as many, and 2.5 times as many nodes,
    covered: float = 0.25  # within this distance of another animal, in lengths
    flipped: float = 0.01  # share of poses with head and tail exchanged, and of those with left and right


@dataclass(frozen=True, slots=True)
class Frame:
    poses: Floats  # (n, k, 2) as detected, NaN for a missing node
    owners: NDArray[np.int64]  # (n,) from 1
    true_poses: Floats  # (a, k, 2)


def _layout(nodes: int) -> tuple[Floats, Floats, Floats]:
    """Return the place along the body (−0.5 tail, 0.5 head), the side of each node, and how far it moves; each (k,)."""
    spine = nodes if nodes <= 5 else 3 + (nodes - 3) % 2
    along = list(np.linspace(0.5, -0.5, spine))
    side, free = [0.0] * spine, [0.0] * spine
    pairs = (nodes - spine) // 2
    for place in np.linspace(0.35, -0.35, pairs) if pairs > 1 else np.zeros(pairs):
        along += [place, place]
        side += [0.3, -0.3]
        free += [0.1, 0.1]
    return np.array(along), np.array(side), np.array(free)


def _wrapped(angle: Floats | float) -> Floats:
    return np.asarray((np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi)


class _Animals:
    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        a = scene.animals
        self.place = rng.uniform(0.3 * ARENA, 0.7 * ARENA, (a, 2))
        self.heading = rng.uniform(-np.pi, np.pi, a)
        self.length = LENGTH * rng.uniform(0.9, 1.1, a)
        self.turning, self.pace, self.bend = np.zeros(a), np.full(a, 0.5), np.zeros(a)
        self.phase = rng.uniform(0, 2 * np.pi, a)
        self.along, self.side, self.free = _layout(scene.nodes)
        self.act: dict[tuple[int, int], tuple[str, int, float]] = {}  # actor and partner: act, frames left, angle

    def step(self) -> None:
        rng, scene = self.rng, self.scene
        a = scene.animals
        self.turning = 0.9 * self.turning + rng.normal(0, 0.03, a)
        self.pace = np.clip(self.pace + rng.normal(0, 0.05, a), 0.05, 1.0)
        self._choose()
        goal = np.full((a, 2), np.nan)
        facing = self.heading + self.turning
        for (actor, other), (act, left, angle) in list(self.act.items()):
            self.act[actor, other] = (act, left - 1, angle + 0.06)
            if left <= 0:
                del self.act[actor, other]
                continue
            goal[actor], facing[actor] = self._aim(act, actor, other, angle)
            if act == "circle":
                goal[other], facing[other] = self._aim("chase", other, actor, angle)
            elif act in ("court", "mount"):
                self.pace[other] = min(self.pace[other], 0.3)
        acting = np.isfinite(goal).all(axis=1)
        middle = np.full(2, ARENA / 2) - self.place
        outside = ~acting & (np.hypot(*middle.T) > 0.4 * ARENA)
        facing = np.where(outside, np.arctan2(middle[:, 1], middle[:, 0]), facing)
        limit = np.where(acting, 1.0, 0.5) * scene.turn
        turn = np.clip(_wrapped(facing - self.heading), -limit, limit)
        self.heading = _wrapped(self.heading + turn)
        self.bend = 0.8 * self.bend + 0.2 * np.clip(3 * turn, -1, 1) + rng.normal(0, 0.03, a)
        ahead = np.stack([np.cos(self.heading), np.sin(self.heading)], axis=1)
        move = ahead * (self.pace * scene.speed * self.length)[:, None]
        wanted = np.where(acting[:, None], goal - self.place, 0.0)
        far = np.hypot(*wanted.T)[:, None]
        most = (1.6 * scene.speed * self.length)[:, None]
        self.place = self.place + np.where(acting[:, None], wanted * np.minimum(1, most / np.maximum(far, 1e-9)), move)
        self.phase += 2.5 * self.pace

    def _choose(self) -> None:
        busy = {one for pair in self.act for one in pair}
        free = [one for one in range(self.scene.animals) if one not in busy]
        for one, other in combinations(free, 2):
            if self.rng.random() < 0.03 and not {one, other} & busy:
                actor, partner = (one, other) if self.rng.random() < 0.5 else (other, one)
                act = str(self.rng.choice(self.scene.acts))
                self.act[actor, partner] = act, int(self.rng.integers(30, 90)), self.rng.uniform(-np.pi, np.pi)
                busy |= {one, other}

    def _aim(self, act: str, actor: int, other: int, angle: float) -> tuple[Floats, float]:
        """Return where the actor wants to be, and its heading there."""
        there, length, heading = self.place[other], self.length[other], self.heading[other]
        ahead = np.array([np.cos(heading), np.sin(heading)])
        if act == "court":
            around = np.array([np.cos(angle), np.sin(angle)])
            return there + 0.45 * length * around, float(angle + np.pi)
        if act == "mount":
            return there - 0.1 * length * ahead, float(heading + 0.5 * np.sin(3 * angle))
        if act == "pass":
            away = np.array([np.cos(angle), np.sin(angle)])
            goal = there + 3 * length * away
            return goal, float(np.arctan2(*(goal - self.place[actor])[::-1]))
        behind = there - 0.5 * length * ahead
        return behind, float(np.arctan2(*(there - self.place[actor])[::-1]))

    def poses(self) -> Floats:
        swing = self.free * np.sin(self.phase[:, None] + np.pi * (np.arange(len(self.along)) % 2) + 4 * self.along)
        along, side = self.along + swing, self.side + 0.5 * self.bend[:, None] * self.along**2
        x, y = along * self.length[:, None], side * self.length[:, None]
        cos, sin = np.cos(self.heading)[:, None], np.sin(self.heading)[:, None]
        return self.place[:, None] + np.stack([cos * x - sin * y, sin * x + cos * y], axis=2)

    def detect(self, true: Floats) -> Frame:
        scene, rng = self.scene, self.rng
        a, k = true.shape[:2]
        apart = np.hypot(*(self.place[:, None] - self.place[None]).transpose(2, 0, 1)) + np.diag(np.full(a, np.inf))
        covered = apart.min(axis=1) < scene.covered * self.length
        found = true + rng.normal(0, scene.jitter, true.shape) * self.length[:, None, None]
        for animal in np.flatnonzero(rng.random(a) < scene.flipped):
            found[animal] = found[animal, np.argsort(np.argsort(-self.along, kind="stable")[::-1], kind="stable")]
        for animal in np.flatnonzero(rng.random(a) < scene.flipped):
            spine = int((self.side == 0).sum())
            found[animal, spine::2], found[animal, spine + 1 :: 2] = (
                found[animal, spine + 1 :: 2].copy(),
                found[animal, spine::2].copy(),
            )
        gone = rng.random((a, k)) < scene.node_missed * np.where(covered, 2.5, 1.0)[:, None]
        gone[(~gone).sum(axis=1) < 2, :2] = False
        found[gone] = np.nan
        seen = np.flatnonzero(rng.random(a) >= scene.missed * np.where(covered, 5.0, 1.0))
        seen = rng.permutation(seen)
        return Frame(found[seen], seen + 1, true)


def draw(scene: Scene, frames: int, seed: int) -> list[Frame]:
    """Return the frames of a scene; the same seed gives the same ones."""
    animals = _Animals(scene, np.random.default_rng(seed))
    found = []
    for _ in range(frames):
        for _ in range(scene.stride):
            animals.step()
        found.append(animals.detect(animals.poses()))
    return found
