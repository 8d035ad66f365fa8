"""Log odds as scores, and the probabilities that are published of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking import odds
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Scores
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset


def boxes_at(*centres: tuple[float, float], side: float = 40.0) -> np.ndarray:
    middle = np.array(centres, np.float32).reshape(-1, 2)
    return np.concatenate([middle - side / 2, middle + side / 2], axis=1)


def track(frames: list[np.ndarray], **settings) -> list[Assignment]:
    tracker = Tracker(TrackerConfig(**settings), MotionScorer())
    return [
        tracker.step(k, k * 40_000_000, Instances.of(Detections(boxes=boxes), LiveDataset()), None, k)
        for k, boxes in enumerate(frames)
    ]


def walkers(n: int, frames: int = 60, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    where, speed = rng.uniform(0, 300, (n, 2)), rng.normal(0, 6, (n, 2))
    found = []
    for _ in range(frames):
        speed += rng.normal(0, 1.5, speed.shape)
        where = where + speed
        found.append(boxes_at(*where[rng.random(n) < 0.9]).astype(np.float32))
    return found


def test_a_track_that_the_scorer_left_out_has_no_odds() -> None:
    scores = Scores(np.zeros((2, 2), np.float32), np.array([1, 5]), np.zeros(2, np.int64), 2, one_each=True)
    logits = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    spread = odds.spread(logits, scores, np.array([1, 3, 5]))
    assert spread[:, [0, 2]].tolist() == logits.tolist()
    assert (spread[:, 1] < -100).all()
    assert odds.spread(logits, scores, np.array([1, 5])).tolist() == logits.tolist()


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 8))
def test_pairs_with_no_match_hold_every_pair_and_one_more_for_each_row(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    given_pairs = np.stack(np.nonzero(rng.random((n, m)) < 0.5))
    values, rows = rng.normal(0, 1, given_pairs.shape[1]).astype(np.float32), np.arange(n)
    scores, pairs = odds.pairs_with_no_match(values, given_pairs, rows, m)
    assert (np.diff(pairs[0]) >= 0).all()
    table = np.zeros((n, m + 1), np.float32)
    table[pairs[0], pairs[1]] = scores
    assert table[given_pairs[0], given_pairs[1]] == pytest.approx(values + 10, abs=1e-4)
    assert (table[:, m] == 10).all()


def test_a_sure_match_has_a_score_near_one_and_a_doubtful_one_a_low_score() -> None:
    still = [boxes_at((100, 100))] * 30
    assert track(still)[-1].track_scores[0] > 0.99
    between = track([*[boxes_at((100, 100), (190, 100))] * 30, boxes_at((145, 100))])[-1]
    assert between.track_ids[0] == -1 or np.isnan(between.track_scores[0]) or between.track_scores[0] < 0.6


def test_a_single_track_that_has_moved_far_is_compared_with_no_match() -> None:
    found = track([*[boxes_at((100, 100))] * 30, boxes_at((175, 100))], max_tracks=1)[-1]
    assert found.track_ids.tolist() == [0]
    assert found.track_scores[0] < 0.999  # among the tracks alone it would be 1


@pytest.mark.parametrize("n", [4, 90])
def test_the_threshold_of_confidence_changes_no_id(n: int) -> None:
    frames = walkers(n)
    plain, flagged = track(frames), track(frames, confidence_threshold=0.97)
    assert [each.track_ids.tolist() for each in flagged] == [each.track_ids.tolist() for each in plain]
    assert any("low_confidence" in each.flags for each in flagged)
    assert not any("low_confidence" in each.flags for each in plain)


def test_a_higher_temperature_lowers_the_scores() -> None:
    frames = walkers(12)
    sharp, flat = track(frames), track(frames, temperature=1.0)
    assert [each.track_ids.tolist() for each in flat] == [each.track_ids.tolist() for each in sharp]
    assert np.nanmean(np.concatenate([each.track_scores for each in flat])) < np.nanmean(
        np.concatenate([each.track_scores for each in sharp])
    )
