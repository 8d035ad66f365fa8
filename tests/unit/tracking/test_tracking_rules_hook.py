"""A rule is one file and one line in `rules.RULES`: nothing else knows the rules by name."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_scripted import boxes_of

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.rules import rules
from trackd.tracking.rules.rule import Rule
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

CROWD = 120  # instances; the motion scorer gives near pairs only, unless a rule needs every pair


def grid(n: int) -> np.ndarray:
    left, top = np.meshgrid(np.arange(n) % 12 * 60.0, [0.0])
    rows = (np.arange(n) // 12 * 60.0)[None]
    corner = np.stack([left, top + rows], axis=2).reshape(-1, 2)
    return np.concatenate([corner, corner + 20], axis=1).astype(np.float32)


def track(boxes: np.ndarray, frames: int = 3, **config: object) -> tuple[Assignment, Tracker]:
    tracker = Tracker(TrackerConfig(**config), MotionScorer(use_vis_feats=False))
    for index in range(frames):
        found = tracker.step(index, index, Instances.of(Detections(boxes=boxes), LiveDataset()))
    return found, tracker


def refuse_first_track(scores, query, slots, config):
    assert scores.shape == (len(query.rows), len(slots))
    kept = scores.copy()
    kept[:, query.window.ids[slots] == 0] = 0
    return kept


@pytest.mark.parametrize("needs_every_pair", [True, False])
@pytest.mark.parametrize("n", [2, CROWD])
def test_a_rule_weighs_scores_in_small_frames_and_in_crowds(n, needs_every_pair, monkeypatch) -> None:
    boxes = boxes_of(n) if n == 2 else grid(n)
    without, _ = track(boxes)
    assert without.track_ids.tolist() == list(range(n))
    rule = Rule("refuse_first", lambda config: True, weigh=refuse_first_track, needs_every_pair=needs_every_pair)
    monkeypatch.setattr(rules, "RULES", [*rules.RULES, rule])
    found, _ = track(boxes)
    assert 0 not in found.track_ids, "a rule that is on must not be ignored"
    assert found.track_ids.tolist()[1:] == list(range(1, n))


@pytest.mark.parametrize("needs_every_pair", [True, False])
def test_a_rule_decides_whether_the_scorer_gives_every_pair(needs_every_pair, monkeypatch) -> None:
    seen = []

    def note(scores, query, slots, config):
        seen.append((query.complete, np.count_nonzero(scores)))
        return scores

    rule = Rule("note", lambda config: True, weigh=note, needs_every_pair=needs_every_pair)
    monkeypatch.setattr(rules, "RULES", [rule])
    track(grid(CROWD))
    assert {complete for complete, _ in seen} == {needs_every_pair}
    assert all((pairs > CROWD * CROWD / 2) == needs_every_pair for _, pairs in seen)


def test_a_rule_that_is_off_is_not_called(monkeypatch) -> None:
    rule = Rule("off", lambda config: config.temperature > 1, weigh=lambda *_: pytest.fail("the rule is off"))
    monkeypatch.setattr(rules, "RULES", [rule])
    track(boxes_of(2))
    with pytest.raises(pytest.fail.Exception):
        track(boxes_of(2), temperature=2.0)


def test_a_rule_flags_frames_and_follows_a_new_configuration(monkeypatch) -> None:
    rule = Rule(
        "crowded",
        lambda config: config.window_size == 4,
        flag=lambda scores, config: len(scores) > 1,
        flag_name="crowd",
    )
    monkeypatch.setattr(rules, "RULES", [*rules.RULES, rule])
    found, tracker = track(boxes_of(2), window_size=4)
    assert found.flags == ("crowd",)
    tracker.configure(TrackerConfig(window_size=5))
    instances = Instances.of(Detections(boxes=boxes_of(2)), LiveDataset())
    assert tracker.step(9, 9, instances).flags == ()
