"""Thousands of boxes at one place: a step takes a small multiple of the plain step, and little memory."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking import tracker as tracker_module
from trackd.tracking import weighing
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

CROWD = 2100  # boxes: more pairs than `weighing.MAX_PAIRS`
RULES = {
    "iou: max": {"iou": "max"},
    "iou: mult": {"iou": "mult"},
    "max_center_dist": {"max_center_dist": 0.1},
    "max_center_dist, 2026": {"max_center_dist": 50.0, "semantics": "2026"},
    "max_angle_diff": {"max_angle_diff": 30.0},
    "confidence_threshold": {"confidence_threshold": 0.5},
}
MOST_TIMES = 8  # of the plain step; 1 to 4 as measured by benchmarks/crowds.py
MOST_BYTES = 40_000_000  # two tables of float32 for all pairs would be 35 MB


def at_one_place(n: int, frame: int, halves: bool = False) -> np.ndarray:
    rng = np.random.default_rng(frame)
    centres = 100 + rng.uniform(-2, 2, (n, 2)) if halves else 100 + rng.uniform(-0.5, 0.5, (n, 2))
    half = np.array([20.0, 15.0]) * (0.7 if halves and frame % 2 else 1.0)
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def steps(frames: list[np.ndarray], keypoints: int = 0, **config: object) -> tuple[list[Assignment], float]:
    """Return the assignments and the shortest processor time of a step after the first, s."""
    tracker = Tracker(TrackerConfig.model_validate(config), MotionScorer())
    found, times = [], []
    for number, boxes in enumerate(frames):
        points = None
        if keypoints:
            share = np.random.default_rng(number).random((len(boxes), keypoints, 2), np.float32)
            points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
        instances = Instances.of(Detections(boxes=boxes, keypoints=points), LiveDataset())
        started = time.thread_time()
        found.append(tracker.step(number, number * 10**8, instances, None, number))
        times.append(time.thread_time() - started)
    return found, min(times[1:])


@pytest.mark.parametrize("halves", [False, True])
def test_divisions_at_one_place_take_a_small_multiple_of_the_plain_step(halves: bool) -> None:
    frames = [at_one_place(128 if number < 3 else 256, number, halves) for number in range(4)]
    _, plain = steps(frames)
    found, divided = steps(frames, divisions=True)
    assert divided < 10 * plain
    assert any(each.parents for each in found)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_at_one_place_takes_a_small_multiple_of_the_plain_step_and_no_table_of_all_pairs(rule: str) -> None:
    frames = [at_one_place(CROWD, number) for number in range(3)]
    _, plain = steps(frames)
    keypoints = 4 if "angle" in rule else 0
    found, weighed = steps(frames, keypoints, **RULES[rule])
    assert weighed < MOST_TIMES * plain
    assert len(set(found[-1].track_ids.tolist())) == CROWD
    tracemalloc.start()
    steps(frames[:2], keypoints, **RULES[rule])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def spread(n: int, frame: int) -> np.ndarray:
    """Objects that move, some of them close to each other, some missing."""
    place = np.random.default_rng(n)
    centres = place.uniform(0, 30 * np.sqrt(n), (n, 2)) + place.normal(0, 3, (n, 2)) * frame
    half = place.uniform(6, 25, (n, 2))
    kept = np.random.default_rng(frame).random(n) > 0.1
    return np.concatenate([centres - half, centres + half], axis=1)[kept].astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
def test_rules_on_near_pairs_give_the_ids_of_rules_on_all_pairs(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (70, 130):
        frames = [spread(n, number) for number in range(6)]
        keypoints = 4 if "angle" in rule else 0
        whole, _ = steps(frames, keypoints, **RULES[rule])
        monkeypatch.setattr(tracker_module, "MAX_PAIRS", 0)
        monkeypatch.setattr(weighing, "BLOCK_CELLS", 1000)
        near, _ = steps(frames, keypoints, **RULES[rule])
        monkeypatch.undo()
        assert [each.track_ids.tolist() for each in near] == [each.track_ids.tolist() for each in whole]
        assert [each.flags for each in near] == [each.flags for each in whole]


@pytest.mark.parametrize("rule", RULES)
def test_a_table_in_blocks_of_rows_gives_the_same_scores_to_the_last_bit(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [spread(60, number) for number in range(5)]
    keypoints = 4 if "angle" in rule else 0
    whole, _ = steps(frames, keypoints, **RULES[rule])
    monkeypatch.setattr(weighing, "BLOCK_CELLS", 200)
    blocks, _ = steps(frames, keypoints, **RULES[rule])
    for one, other in zip(whole, blocks, strict=True):
        assert one.track_ids.tobytes() == other.track_ids.tobytes()
        assert one.track_scores.tobytes() == other.track_scores.tobytes()
        assert one.flags == other.flags


def test_a_rule_makes_a_pair_match_that_the_motion_finds_unlikely_also_in_a_crowd() -> None:
    """Boxes that jump by half their width still overlap; where many are new, motion alone finds that unlikely."""
    left, top = np.meshgrid(np.arange(40) * 100.0, np.arange(30) * 100.0)
    corner = np.stack([left.ravel(), top.ravel()], axis=1)
    still = np.concatenate([corner, corner + 60], axis=1).astype(np.float32)
    moved = still.copy()
    moved[7] += [30, 0, 30, 0]  # their IoU is a third
    frames = []
    for number in range(13):
        new = np.random.default_rng(number).uniform(0, 3000, (100, 2))
        frames.append(np.concatenate([moved if number == 12 else still, np.hstack([new, new + 60])]).astype(np.float32))
    plain, _ = steps(frames, overlap_thresh=0.3)
    found, _ = steps(frames, overlap_thresh=0.3, iou="max")
    assert plain[-1].track_ids[7] not in plain[-2].track_ids
    assert found[-1].track_ids[7] == found[-2].track_ids[7]
