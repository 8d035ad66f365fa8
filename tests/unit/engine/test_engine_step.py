"""A step's results for a stream are the same to the last bit, alone or in a batch with other streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trackd.config import LimitsConfig, StreamSettings, check_config
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.step import FrameStep, assign, encode, prepare, score
from trackd.engine.stream_state import StreamState
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.scorer import BatchScorer, Query, Scorer
from trackd.tracking.tracker import Assignment
from trackd_client.detections import Detections
from trackd_client.protocol import Frame

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


def state_of(tracker: dict[str, Any], scorer: Scorer) -> StreamState:
    settings = StreamSettings.of(check_config({"tracker": tracker}))
    return StreamState("cam", 1, 0, settings, None, None, lambda _: scorer, LimitsConfig())


def frame_step(state: StreamState, seq: int, index: int, detections: Detections, image: Any = None) -> FrameStep:
    frame = Frame("cam", seq, index, index * 40_000_000, detections, image)
    return FrameStep(StreamQueue("cam", 1), QueuedFrame(frame, 0, 0), state)


def run_together(steps: list[FrameStep]) -> None:
    for function in (prepare, encode, score, assign):
        function(steps)


class Scene:
    """A stream's frames and its state."""

    def __init__(self, seed: int, n: int, settings: dict[str, Any]) -> None:
        rng = np.random.default_rng(seed)
        self._image = rng.integers(0, 255, (240, 320), np.uint8)
        self.state = state_of(settings, MotionScorer())
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

    def step(self) -> FrameStep:
        index, detections = self.frames[self.done]
        self.done += 1
        return frame_step(self.state, self.done - 1, index, detections, self._image if self.has_images else None)


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
        steps = [scene.step() for scene in chosen]
        run_together(steps)
        for scene, step in zip(chosen, steps, strict=True):
            assert step.assignment is not None, step.error
            scene.found.append(step.assignment)


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
        assert_same(one.state.tracker.snapshot(), other.state.tracker.snapshot())


class Failing(MotionScorer, BatchScorer):
    """Scores in batches; fails while it is marked."""

    batch_key = "failing"
    batches: list[int]

    def __init__(self, batches: list[int]) -> None:
        super().__init__(use_vis_feats=False)
        self.batches = batches
        self.marked = False

    def score(self, query: Query):
        if self.marked:
            raise ArithmeticError("marked")
        return super().score(query)

    @classmethod
    def encode_batch(cls, scorers, images, instances):
        return [scorer.encode(image, one) for scorer, image, one in zip(scorers, images, instances, strict=True)]

    @classmethod
    def score_batch(cls, scorers, queries):
        scorers[0].batches.append(len(scorers))
        return [scorer.score(query) for scorer, query in zip(scorers, queries, strict=True)]


def test_an_error_in_one_stream_affects_no_other() -> None:
    batches: list[int] = []
    states = [state_of({}, Failing(batches)) for _ in range(3)]
    detections = Detections(boxes=np.array([[0, 0, 9, 9]], np.float32))
    for index in range(3):
        states[1].scorer.marked = index == 1  # type: ignore[attr-defined]
        steps = [frame_step(state, index, index, detections) for state in states]
        run_together(steps)
        assert [isinstance(step.error, ArithmeticError) for step in steps] == [False, index == 1, False]
        ids = [step.assignment.track_ids.tolist() for step in steps if step.assignment is not None]
        assert ids == [[0]] * (2 if index == 1 else 3)
    assert batches == [3, 3], "the first frame has no tracks to be scored against"
