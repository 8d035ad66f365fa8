"""The estimate of a stream's next step: its lane, its rejection, and its recovery."""

from __future__ import annotations

import numpy as np

from trackd.config import Config, StreamSettings
from trackd.engine.step_cost import LONG, SHARED, SHORT, StepCost
from trackd.models.motion.scorer import MotionScorer
from trackd_client.detections import Detections
from trackd_client.protocol import EncodedImage, Frame

MS = 1_000_000


class Checkpoint(MotionScorer):
    """A stand-in for a checkpoint's scorer."""

    is_light = False


class Clock:
    """Monotonic ns, set by the test."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def cost(scorer: type[MotionScorer] = MotionScorer, limit_ms: float | None = 1000.0, images: bool = True) -> StepCost:
    made = StepCost(Clock())
    made.use(scorer(use_vis_feats=images), StreamSettings.of(Config()), limit_ms)
    return made


def frame(image: EncodedImage | None = None) -> Frame:
    return Frame("cam", 0, 0, 0, Detections(boxes=np.zeros((1, 4), np.float32)), image)


def lane(of: StepCost, n: int, tracks: int, image: EncodedImage | None = None) -> int:
    return of.lane(frame(image), n, of.pairs(n, tracks))


def test_a_large_step_is_long_until_one_of_its_size_was_measured() -> None:
    stream = cost()
    assert lane(stream, 100, 100) == SHORT
    assert lane(stream, 400, 400) == LONG
    stream.measured(400, stream.pairs(400, 400), 0.1 * MS, 2 * MS)
    assert lane(stream, 400, 400) == SHORT
    assert lane(stream, 1000, 1000) == LONG, "it is expected to take 12.5 ms"


def test_a_step_that_took_long_is_long_the_next_time_and_for_a_while() -> None:
    stream = cost()
    pairs = stream.pairs(400, 400)
    stream.measured(400, pairs, 0.1 * MS, 2 * MS)
    stream.measured(400, pairs, 0.1 * MS, 80 * MS)
    for _ in range(100):
        assert lane(stream, 400, 400) == LONG
        stream.measured(400, pairs, 0.1 * MS, 2 * MS)
    for _ in range(200):
        stream.measured(400, pairs, 0.1 * MS, 2 * MS)
    assert lane(stream, 400, 400) == SHORT


def test_a_checkpoints_frames_share_their_passes_unless_they_are_long() -> None:
    stream = cost(Checkpoint)
    assert lane(stream, 5, 5) == SHARED
    assert lane(stream, 200, 200) == LONG
    stream.measured(200, stream.pairs(200, 200), 20 * MS, 20 * MS)
    assert lane(stream, 200, 200) == SHARED
    assert lane(stream, 400, 400) == LONG


def test_only_a_scorer_that_needs_images_waits_for_a_large_one_to_be_decoded() -> None:
    large, small = EncodedImage("png", b"", 100_000_000), EncodedImage("jpeg", b"", 1_000_000)
    assert [lane(cost(), 5, 5, image) for image in (small, large)] == [SHARED, LONG]
    assert [lane(cost(images=False), 5, 5, image) for image in (small, large)] == [SHORT, SHORT]


def test_a_step_over_the_limit_is_rejected_by_its_estimate_and_smaller_ones_are_not() -> None:
    stream = cost(limit_ms=1000)
    pairs = stream.pairs(4000, 4000)
    assert stream.over_limit_ms(4000, pairs) is None, "nothing is known"
    stream.measured(4000, pairs, 0, 3000 * MS)
    expected = stream.over_limit_ms(4000, pairs)
    assert expected is not None
    assert abs(expected - 3000) < 1
    assert stream.over_limit_ms(1000, stream.pairs(1000, 1000)) is None
    assert cost(limit_ms=None).over_limit_ms(4000, pairs) is None


def test_an_estimate_over_the_limit_is_tried_again_for_a_tenth_of_the_time_and_recovers() -> None:
    stream = cost(limit_ms=1000)
    clock, pairs = stream._clock, stream.pairs(4000, 4000)
    assert isinstance(clock, Clock)
    stream.measured(4000, pairs, 0, 3000 * MS)
    clock.now += 29_000 * MS
    assert stream.over_limit_ms(4000, pairs) is not None
    clock.now += 2_000 * MS
    assert stream.over_limit_ms(4000, pairs) is None, "a trial"
    stream.measured(4000, pairs, 0, 2000 * MS)
    assert stream.over_limit_ms(4000, pairs) is not None
    clock.now += 21_000 * MS
    stream.measured(4000, pairs, 0, 500 * MS)
    assert stream.over_limit_ms(4000, pairs) is None
    assert stream.estimate_ns(4000, pairs) == 500 * MS


def test_the_overhead_of_a_small_step_is_not_taken_for_a_rate() -> None:
    stream = cost(Checkpoint, limit_ms=1000)
    stream.measured(500, stream.pairs(500, 500), 100 * MS, 100 * MS)
    stream.measured(2, stream.pairs(2, 2), 10 * MS, 10 * MS)
    assert stream.estimate_ns(500, stream.pairs(500, 500)) == 200 * MS


def test_other_settings_forget_the_measured_steps() -> None:
    stream = cost()
    stream.measured(400, stream.pairs(400, 400), 0, 2 * MS)
    assert lane(stream, 400, 400) == SHORT
    stream.use(MotionScorer(), StreamSettings.of(Config()), 1000)
    assert lane(stream, 400, 400) == LONG
