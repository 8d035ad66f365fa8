"""`mult_thresh` with a scorer of one observation behind a score: it multiplies the threshold only where it is set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.association import associate
from trackd.tracking.instances import Instances
from trackd.tracking.rules.rules import active_rules
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd.tracking.window import RollingWindow
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

FAR = -30.0  # log odds of a pair that cannot match


def boxes(n: int) -> NDArray[np.float32]:
    left = 100 * np.arange(n, dtype=np.float32)
    return np.stack([left, left, left + 20, left + 20], axis=1)


def matched(logits: NDArray[np.float32], observations: list[int], near_pairs: bool, **settings) -> dict[int, int]:
    """Return the track of each matched row, for tracks of so many observations in a window of 8."""
    config = TrackerConfig(**settings)
    window = RollingWindow(8, 16)
    slots = window.acquire(np.arange(len(observations), dtype=np.int32))
    for frame in range(max(observations)):
        seen = slots[np.array(observations) > frame]
        window.append(seen, boxes(len(observations))[seen][:, None], frame)
    rows = np.arange(len(logits))
    instances = Instances.of(Detections(boxes=boxes(len(logits))), LiveDataset())
    query = Query(instances, None, 9, 9, window, window.live, not near_pairs, rows)
    pairs = np.stack(np.nonzero(logits > FAR)) if near_pairs else None
    values = logits if pairs is None else logits[pairs[0], pairs[1]]
    scores = Scores(values, slots, np.zeros(len(slots), np.int64), 2, pairs, one_each=True)
    found = associate(query, scores, config, active_rules(config))
    return dict(zip(found.rows.tolist(), found.slots.tolist(), strict=True))


def own(log_odds: list[float]) -> NDArray[np.float32]:
    """Return a table in which each row suits the track of its number alone."""
    table = np.full((len(log_odds), len(log_odds)), FAR, np.float32)
    np.fill_diagonal(table, log_odds)
    return table


@pytest.mark.parametrize("near_pairs", [False, True])
def test_only_where_it_is_true_the_odds_must_exceed_a_threshold_that_grows_with_the_observations(
    near_pairs: bool,
) -> None:
    counts = [1, 4, 6, 8, 20]  # the last two have 8 in the window
    table = own([float(np.log(0.05))] * 5)  # between 0.01 × 4 and 0.01 × 6
    everyone = {row: row for row in range(5)}
    assert matched(table, counts, near_pairs) == everyone
    assert matched(table, counts, near_pairs, mult_thresh=None) == everyone
    assert matched(table, counts, near_pairs, mult_thresh=False) == everyone
    assert matched(table, counts, near_pairs, mult_thresh=True) == {0: 0, 1: 1}
    assert matched(table, counts, near_pairs, mult_thresh=True, overlap_thresh=0.006) == everyone
    assert matched(table, counts, near_pairs, mult_thresh=True, overlap_thresh=0.0) == everyone


@pytest.mark.parametrize("near_pairs", [False, True])
def test_the_threshold_changes_no_assignment_but_removes_pairs_from_it(near_pairs: bool) -> None:
    """Row 0 suits track 0, of 8 observations, a little better than track 1, of one, above whose threshold it is too."""
    table = np.array([[np.log(0.07), np.log(0.06)]], np.float32)
    assert matched(table, [8, 1], near_pairs) == {0: 0}
    assert matched(table, [8, 1], near_pairs, mult_thresh=True) == {}
    assert matched(table, [7, 1], near_pairs, mult_thresh=True, overlap_thresh=0.0099) == {0: 0}


@pytest.mark.parametrize("near_pairs", [False, True])
def test_with_a_rule_that_changes_scores_the_score_is_compared(near_pairs: bool) -> None:
    table, rule = own([0.0, 0.0]), {"max_center_dist": 1e3, "semantics": "2026"}  # scores of 0.5
    for setting, kept in ((None, {0: 0, 1: 1}), (False, {0: 0, 1: 1}), (True, {0: 0})):
        assert matched(table, [2, 4], near_pairs, mult_thresh=setting, overlap_thresh=0.2, **rule) == kept


def ids(n: int, **settings) -> list[list[int]]:
    """Return the ids of walkers that turn abruptly, of which a part is missed."""
    rng = np.random.default_rng(n)
    places, speeds, found = rng.uniform(0, 60 * n**0.5, (n, 2)), np.zeros((n, 2)), []
    tracker = Tracker(TrackerConfig(**settings), MotionScorer())
    for frame in range(60):
        speeds = 0.5 * speeds + rng.normal(0, 8, speeds.shape)
        places = places + speeds
        seen = places[rng.random(n) < 0.8]
        given = Instances.of(
            Detections(boxes=np.concatenate([seen - 9, seen + 9], 1).astype(np.float32)), LiveDataset()
        )
        found.append(tracker.step(frame, frame * 10**7, given, None, frame).track_ids.tolist())
    return found


@pytest.mark.parametrize("n", [12, 90])
def test_motion_with_it_begins_more_tracks_and_without_it_those_of_its_own_gate(n: int) -> None:
    usual, more = ids(n), ids(n, mult_thresh=True)
    assert usual == ids(n, mult_thresh=False)
    assert max(map(max, more)) > max(map(max, usual))
