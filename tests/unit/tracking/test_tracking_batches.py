"""A step's results for a stream are the same to the last bit, alone or in a batch with other streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.step import Step, step_together
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"max_tracks": 4},
    {"max_gap": 3},
    {"iou": "mult", "overlap_thresh": 0.1},
    {"max_center_dist": 80.0},
    {"confidence_threshold": 0.4},
    {"temperature": 0.5, "window_size": 3},
    {"mult_thresh": True},
)
SIZES = (0, 1, 5, 5, 9, 12, 30, 120)  # instances; the last two exceed the limit up to which all pairs are compared


class Scene:
    """A stream's frames and its tracker."""

    def __init__(self, seed: int, n: int, settings: dict[str, Any]) -> None:
        rng = np.random.default_rng(seed)
        self._image = rng.integers(0, 255, (240, 320), np.uint8)
        self.tracker = Tracker(TrackerConfig(**settings), MotionScorer())
        self.frames = []
        centres, speed = rng.uniform(20, 800, (n, 2)), rng.normal(0, 5, (n, 2))
        for index in range(0, 60, 1 + seed % 3):
            speed = speed + rng.normal(0, 1, speed.shape)
            centres = centres + speed
            visible = centres[rng.random(n) > 0.1] if seed % 4 else centres
            half = rng.uniform(8, 12, (len(visible), 1))
            boxes = np.concatenate([visible - half, visible + half], axis=1).astype(np.float32)
            if len(boxes) and rng.random() < 0.05:
                boxes[rng.integers(len(boxes))] = np.nan
            self.frames.append((index, Detections(boxes=boxes)))
        self.has_images = seed % 5 == 0
        self.done = 0
        self.found: list[Assignment] = []

    @property
    def over(self) -> bool:
        return self.done == len(self.frames)

    def step(self) -> Step:
        index, detections = self.frames[self.done]
        self.done += 1
        instances = Instances.of(detections, LiveDataset())
        features = self.tracker.scorer.encode(self._image if self.has_images else None, instances)
        return Step(self.tracker, index, index * 40_000_000, instances, features, self.done - 1)


def scenes(seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [
        Scene(100 * seed + number, int(rng.choice(SIZES)), SETTINGS[int(rng.integers(len(SETTINGS)))])
        for number in range(7)
    ]


def run(some: list[Scene], seed: int | None) -> None:
    """Run all steps: with a seed several random scenes in each step, else one scene after the other."""
    rng = np.random.default_rng(seed)
    while left := [scene for scene in some if not scene.over]:
        chosen = left[:1] if seed is None else [scene for scene in left if rng.random() < 0.6]
        for scene, found in zip(chosen, step_together([scene.step() for scene in chosen]), strict=True):
            assert isinstance(found, Assignment), found
            scene.found.append(found)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, where)
    else:
        assert one == other, where


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_gets_the_same_results_alone_or_in_any_batch(seed: int) -> None:
    alone, together = scenes(seed), scenes(seed)
    run(alone, None)
    run(together, seed)
    for one, other in zip(alone, together, strict=True):
        for frame, (ours, theirs) in enumerate(zip(one.found, other.found, strict=True)):
            for name in Assignment.__slots__:
                assert_same(getattr(ours, name), getattr(theirs, name), f"frame {frame}: {name}")
        assert_same(one.tracker.snapshot(), other.tracker.snapshot())


class Failing(MotionScorer):
    """Fails at the frames that are marked."""

    @property
    def batch_key(self) -> str:
        return "failing"

    @classmethod
    def score_batch(cls, requests):
        if any(request.features == "fail" for request in requests):
            raise ArithmeticError("marked")
        return super().score_batch(requests)


def test_an_error_in_one_stream_affects_no_other() -> None:
    trackers = [Tracker(TrackerConfig(), Failing(use_vis_feats=False)) for _ in range(3)]
    instances = Instances.of(Detections(boxes=np.array([[0, 0, 9, 9]], np.float32)), LiveDataset())
    for index in range(3):
        marks = [None, "fail" if index == 1 else None, None]
        results = step_together(
            [Step(tracker, index, index, instances, mark, index) for tracker, mark in zip(trackers, marks, strict=True)]
        )
        assert [isinstance(result, ArithmeticError) for result in results] == [False, index == 1, False]
        ids = [result.track_ids.tolist() for result in results if isinstance(result, Assignment)]
        assert ids == [[0]] * len(ids)
