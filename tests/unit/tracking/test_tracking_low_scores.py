"""Detection scores as evidence: what a low score means is learnt from the stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SIDE = 40.0
FRAMES = 150
Frame = tuple[NDArray[np.float64], NDArray[np.float32]]  # centres (n, 2), scores (n,)


def stream(seed: int, frames: int = FRAMES, n: int = 6) -> Iterator[Frame]:
    """Animals with high scores, and behind them, in half of the frames, a false detection with a low one."""
    rng = np.random.default_rng(seed)
    place, step = rng.uniform(100, 900, (n, 2)), rng.normal(0, 4, (n, 2))
    for _ in range(frames):
        step = 0.9 * step + rng.normal(0, 1.5, step.shape)
        place = np.clip(place + step, 50, 950)
        n_false = int(rng.random() < 0.5)
        centres = np.concatenate([place, rng.uniform(0, 1000, (n_false, 2))])
        yield centres, np.concatenate([rng.uniform(0.8, 0.95, n), rng.uniform(0.1, 0.5, n_false)]).astype(np.float32)


def tracker(**options: bool) -> Tracker:
    return Tracker(TrackerConfig.model_validate(options), MotionScorer(**options))


def step(one: Tracker, number: int, centres: NDArray[np.float64], scores: NDArray[np.float32] | None) -> Assignment:
    boxes = np.concatenate([centres - SIDE / 2, centres + SIDE / 2], axis=1).astype(np.float32)
    instances = Instances.of(Detections(boxes=boxes, scores=scores), LiveDataset())
    return one.step(number, number * 10**8, instances, None, number)


def taught(seed: int, **options: bool) -> tuple[Tracker, Frame]:
    """A tracker that has seen a stream, and the stream's last frame without its false detection."""
    one = tracker(**options)
    for number, (centres, scores) in enumerate(stream(seed)):
        step(one, number, centres, scores)
    return one, (centres[:6], scores[:6])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_false_detections_with_low_scores_begin_no_track_once_that_is_learnt(seed: int) -> None:
    one = tracker()
    n_false = 0
    for number, (centres, scores) in enumerate(stream(seed)):
        found = step(one, number, centres, scores)
        if number == FRAMES // 2:
            before = one.next_id
        if number > FRAMES // 2 and len(centres) > 6:
            n_false += 1
            assert ("low_score" in found.flags) == (found.track_ids[6] == -1)
    assert n_false > 20
    assert one.next_id - before <= n_false // 10
    assert before > 6, "nothing was known at the start"
    assert (found.track_ids[:6] >= 0).all()


def test_with_use_scores_false_each_unmatched_detection_begins_a_track() -> None:
    one, (centres, scores) = taught(0, use_scores=False)
    before = one.next_id
    centres, scores = np.append(centres, [[990.0, 10]], axis=0), np.append(scores, np.float32(0.2))
    found = step(one, FRAMES, centres, scores)
    assert found.track_ids[6] == before
    assert "low_score" not in found.flags


def test_an_object_with_a_high_score_begins_a_track_at_once() -> None:
    one, (centres, scores) = taught(0)
    before = one.next_id
    found = step(one, FRAMES, np.append(centres, [[990.0, 10]], axis=0), np.append(scores, np.float32(0.9)))
    assert found.track_ids[6] == before
    assert found.flags == ()


def test_an_object_with_a_low_score_begins_a_track_when_it_is_seen_again() -> None:
    one, (centres, scores) = taught(0)
    before = one.next_id
    low = np.append(scores, np.float32(0.2))
    found = step(one, FRAMES, np.append(centres, [[990.0, 10]], axis=0), low)
    assert found.track_ids[6] == -1
    assert found.flags == ("low_score",)
    found = step(one, FRAMES + 1, np.append(centres, [[988.0, 14]], axis=0), low)
    assert found.track_ids[6] == before
    assert found.new_tracks == (before,)
    assert found.flags == ()
    assert step(one, FRAMES + 2, np.append(centres, [[986.0, 18]], axis=0), low).track_ids[6] == before


def test_a_track_goes_on_with_a_low_score() -> None:
    one, (centres, scores) = taught(0)
    ids = step(one, FRAMES, centres, scores).track_ids
    for number in range(FRAMES + 1, FRAMES + 10):
        found = step(one, number, centres, np.full(6, 0.15, np.float32))
    assert found.track_ids.tolist() == ids.tolist()


@pytest.mark.parametrize("kind", ["equal", "random"])
def test_scores_that_say_nothing_change_nothing(kind: str) -> None:
    rng = np.random.default_rng(5)
    without, with_scores = tracker(), tracker()
    for number, (centres, scores) in enumerate(stream(3)):
        given = np.full(len(scores), 0.9) if kind == "equal" else rng.uniform(0, 1, len(scores))
        first = step(without, number, centres, None)
        second = step(with_scores, number, centres, given.astype(np.float32))
        np.testing.assert_array_equal(first.track_ids, second.track_ids)
        np.testing.assert_array_equal(first.track_scores, second.track_scores)
        assert second.flags == ()


@pytest.mark.parametrize("cut", [1, 75, 121])
def test_a_restored_tracker_gives_the_same_ids_and_flags(cut: int) -> None:
    one, other = tracker(), tracker()
    for number, (centres, scores) in enumerate(stream(4)):
        first = step(one, number, centres, scores)
        if number == cut:
            other.restore(one.snapshot())
        elif number > cut:
            second = step(other, number, centres, scores)
            np.testing.assert_array_equal(first.track_ids, second.track_ids)
            np.testing.assert_array_equal(first.track_scores, second.track_scores)
            assert first.flags == second.flags


def test_a_stream_may_stop_sending_scores() -> None:
    one, (centres, scores) = taught(0)
    ids = step(one, FRAMES, np.append(centres, [[990.0, 10]], axis=0), np.append(scores, np.float32(0.2))).track_ids
    before = one.next_id
    found = step(one, FRAMES + 1, np.append(centres, [[200.0, 10]], axis=0), None)
    assert found.track_ids.tolist() == [*ids[:6].tolist(), before]
    assert step(one, FRAMES + 2, centres, scores).track_ids.tolist() == ids[:6].tolist()
