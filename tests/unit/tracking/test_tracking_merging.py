"""Merges: two animals in one box keep both ids, and come out of it with their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scripted import DATASET

from trackd.config import TrackerConfig
from trackd.models.motion import filter_bank
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.correction import Action, Correction
from trackd.tracking.instances import Instances
from trackd.tracking.merging import Merged
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
FRAMES = 60
MEET = 30  # the frame in which two animals of `paths` are nearest


def box(x: float, y: float, width: float = 40.0, height: float = 40.0) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def crossing(t: int, sizes: tuple[float, float] = (40.0, 40.0)) -> list[np.ndarray]:
    """Two animals that pass each other, one 24 px below the other."""
    away = 5.0 * (t - MEET)
    return [box(300 + away, 200, sizes[0], sizes[0]), box(300 - away, 224, sizes[1], sizes[1])]


def meeting(t: int) -> list[np.ndarray]:
    """Two animals that meet, half over each other, and turn back."""
    away = 10 + 2.0 * abs(t - MEET)
    return [box(300 - away, 200), box(300 + away, 204)]


def merged(boxes: list[np.ndarray]) -> tuple[list[np.ndarray], list[list[int]]]:
    """Boxes that overlap become their hull; also the animals of each."""
    found, animals = [np.array(each) for each in boxes], [[i] for i in range(len(boxes))]
    for i in range(len(found) - 1, -1, -1):
        for j in range(i):
            if (np.minimum(found[i][2:], found[j][2:]) > np.maximum(found[i][:2], found[j][:2])).all():
                found[j] = np.concatenate(
                    [np.minimum(found[i][:2], found[j][:2]), np.maximum(found[i][2:], found[j][2:])]
                )
                animals[j] += animals[i]
                del found[i], animals[i]
                break
    return found, animals


class Run:
    """A tracker, and of each frame its result and the animals of its boxes."""

    def __init__(self, **config: Any) -> None:
        self.tracker = Tracker(TrackerConfig(**config), MotionScorer())
        self.results: list[tuple[Assignment, list[list[int]]]] = []

    def step(self, boxes: list[np.ndarray], animals: list[list[int]]) -> Assignment:
        t = len(self.results)
        detections = Detections(boxes=np.array(boxes, np.float32).reshape(-1, 4))
        assignment = self.tracker.step(t, t * 33_000_000, Instances.of(detections, DATASET), None, t)
        self.tracker.check_integrity()
        self.results.append((assignment, animals))
        return assignment

    def go(self, path: Any, frames: int = FRAMES, noise: float = 0.3, seed: int = 0) -> Run:
        rng = np.random.default_rng(seed)
        for t in range(frames):
            boxes, animals = merged(path(t))
            order = rng.permutation(len(boxes))
            self.step([boxes[i] + rng.normal(0, noise, 4) for i in order], [animals[i] for i in order])
        return self

    @property
    def n_merged(self) -> int:
        return sum(len(each) > 1 for _, animals in self.results for each in animals)

    def ids(self) -> dict[int, set[int]]:
        """The ids that each animal had in the boxes of its own."""
        found: dict[int, set[int]] = {}
        for assignment, animals in self.results:
            for track, each in zip(assignment.track_ids.tolist(), animals, strict=True):
                if len(each) == 1:
                    found.setdefault(each[0], set()).add(track)
        return found


def in_boxes(assignment: Assignment) -> dict[int, list[int]]:
    """All ids by row."""
    ids = {row: [track] for row, track in enumerate(assignment.track_ids.tolist())}
    for row, track in zip(assignment.merged_rows, assignment.merged_tracks, strict=True):
        ids[row].append(track)
    return ids


@pytest.mark.parametrize("config", [{}, {"max_tracks": 2}, {"divisions": False}], ids=["defaults", "closed", "whole"])
@pytest.mark.parametrize("path", [crossing, meeting], ids=["crossing", "meeting"])
def test_two_animals_come_out_of_a_common_box_with_their_own_ids(path, config) -> None:
    for seed in range(3):
        run = Run(**config).go(path, seed=seed)
        assert run.n_merged > 5
        ids = run.ids()
        assert len(ids[0]) == len(ids[1]) == 1
        assert run.tracker.next_id == 2


def test_the_near_pairs_of_a_crowd_give_the_same_ids(monkeypatch) -> None:
    whole = Run().go(crossing)
    monkeypatch.setattr(filter_bank, "DENSE_PAIRS", 0)
    near = Run().go(crossing)
    for (one, _), (other, _) in zip(whole.results, near.results, strict=True):
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
        assert one.merged_tracks == other.merged_tracks


def test_while_they_are_in_one_box_it_has_both_ids_and_neither_is_lost() -> None:
    run = Run(max_gap=2).go(crossing)
    for assignment, animals in run.results:
        for row, each in enumerate(animals):
            if len(each) > 1:
                assert sorted(in_boxes(assignment)[row]) == [0, 1]
                assert len(assignment.merged_tracks) == 1
        assert not assignment.lost_tracks
        assert not assignment.found_tracks
        assert not assignment.ended_tracks
        assert len(assignment.merged_tracks) == sum(len(each) > 1 for each in animals)


def test_a_live_track_in_the_box_of_another_one_is_merged() -> None:
    run = Run().go(crossing, frames=MEET)
    assignment = run.results[-1][0]
    live = run.tracker.live()
    assert dict(zip(live.ids.tolist(), live.states, strict=True)) == {
        int(assignment.track_ids[0]): "active",
        assignment.merged_tracks[0]: "merged",
    }
    np.testing.assert_array_equal(live.boxes[0], live.boxes[1])
    assert live.frame_index.tolist() == [MEET - 1, MEET - 1]


def test_a_track_that_is_missed_beside_an_unchanged_box_is_lost() -> None:
    run = Run()
    for t in range(40):
        boxes = [box(100 + t, 200), box(130 + t, 215)]
        if t >= 30:
            boxes.pop()
        assignment = run.step(boxes, [[i] for i in range(len(boxes))])
        assert not assignment.merged_tracks
        assert assignment.lost_tracks == ((1,) if t == 30 else ())


def test_unequal_animals_that_stop_in_one_box_are_told_apart_by_their_size() -> None:
    def stopping(t: int) -> list[np.ndarray]:
        """The smaller one enters the box of the larger one, stays, and comes out on the side where it was."""
        away = max(60 - 4 * t, 0, 4 * (t - 45))
        return [box(300, 200, 50, 50), box(300 - away, 200, 30, 30)]

    run = Run().go(stopping)
    assert run.n_merged > 20
    assert {animal: len(ids) for animal, ids in run.ids().items()} == {0: 1, 1: 1}
    assert run.tracker.next_id == 2


def test_appearance_decides_where_place_and_size_do_not() -> None:
    image = np.zeros((400, 640), np.uint8)
    outcomes = []
    for exchange in (False, True):
        tracker = Tracker(TrackerConfig(), MotionScorer())
        for t in range(FRAMES):
            # They stop in one place, and come out of it at a right angle to their way.
            away = max(100 - 5.0 * t, 0.0)
            out = max(6.0 * (t - 40), 0.0)
            places = [(300 - away, 200 - out), (300 + away, 200 + out)]
            if t > 20 and exchange:
                places.reverse()
            boxes, animals = merged([box(*place) for place in places])
            image[:] = 0
            for (x, y), brightness in zip(places, (60, 200), strict=True):
                image[int(y) - 20 : int(y) + 20, int(x) - 20 : int(x) + 20] = brightness
            instances = Instances.of(Detections(boxes=np.array(boxes, np.float32)), DATASET)
            features = tracker.scorer.encode(image, instances)
            assignment = tracker.step(t, t * 33_000_000, instances, features, t)
        assert tracker.next_id == 2
        outcomes.append([assignment.track_ids[animals.index([animal])] for animal in (0, 1)])
    assert outcomes == [[0, 1], [0, 1]]


def test_three_animals_merge_one_after_the_other_and_come_apart_one_by_one() -> None:
    def chain(t: int) -> list[np.ndarray]:
        away = 5.0 * (t - MEET)
        return [box(300 + away, 170), box(300 - away, 200), box(300 - 1.5 * away, 232)]

    run = Run().go(chain)
    assert max(len(assignment.merged_tracks) for assignment, _ in run.results) == 2
    assert {animal: len(ids) for animal, ids in run.ids().items()} == {0: 1, 1: 1, 2: 1}
    assert run.tracker.next_id == 3


def test_a_merge_that_begins_in_the_second_frame_keeps_both_ids() -> None:
    run = Run()
    for t in range(40):
        boxes, animals = merged([box(250 + 3 * t, 200, 40, 40), box(294 + 1 * t, 200, 40, 40)])
        run.step(boxes, animals)
    assert run.tracker.next_id == 2
    assert {animal: len(ids) for animal, ids in run.ids().items()} == {0: 1, 1: 1}


def test_a_box_that_stays_as_large_as_one_track_does_not_hide_another_one_for_ever() -> None:
    run = Run().go(crossing, frames=MEET)
    hidden = run.results[-1][0].merged_tracks[0]
    lost = []
    for t in range(MEET, MEET + 60):
        lost += run.step([box(300 + 5 * (t - MEET), 200)], [[0]]).lost_tracks
    assert lost == [hidden]
    assert hidden in run.tracker.live().ids


def test_a_track_that_was_missed_just_before_the_merge_is_found_in_the_box() -> None:
    run = Run()
    for t in range(FRAMES):
        boxes, animals = merged(crossing(t))
        if t == 26:
            assert len(boxes) == 2
            del boxes[1], animals[1]
        run.step(boxes, animals)
    assert run.results[26][0].lost_tracks == (1,)
    assert run.results[27][0].found_tracks == (1,)
    assert [sorted(ids) for ids in in_boxes(run.results[27][0]).values()] == [[0, 1]]
    assert {animal: len(ids) for animal, ids in run.ids().items()} == {0: 1, 1: 1}


def test_a_false_detection_beside_a_box_that_stays_as_large_takes_no_track_out_of_it() -> None:
    run = Run()
    for t in range(FRAMES):
        boxes, animals = merged(crossing(t))
        if t == MEET - 1:
            boxes, animals = [*boxes, box(345, 240, 36, 36)], [*animals, []]
        run.step(boxes, animals)
    assert run.results[MEET - 1][0].track_ids.tolist() == [0, 2]
    assert run.results[MEET - 1][0].merged_tracks == (1,)
    assert {animal: len(ids) for animal, ids in run.ids().items()} == {0: 1, 1: 1}


def test_both_tracks_of_a_box_are_lost_and_found_with_it() -> None:
    run = Run().go(crossing, frames=MEET)
    assert sorted(run.step([], []).lost_tracks) == [0, 1]
    boxes, animals = merged(crossing(MEET + 1))
    found = run.step(boxes, animals)
    assert sorted(found.found_tracks) == [0, 1]
    assert sorted(in_boxes(found)[0]) == [0, 1]


def test_a_correction_that_ends_the_track_of_a_box_frees_the_one_in_it() -> None:
    run = Run().go(crossing, frames=MEET)
    assignment = run.results[-1][0]
    host, hidden = int(assignment.track_ids[0]), assignment.merged_tracks[0]
    run.tracker.correct(Correction(Action.END, (host,)))
    boxes, animals = merged(crossing(MEET))
    after = run.step(boxes, animals)
    assert after.ended_tracks == (host,)
    assert after.track_ids.tolist() == [hidden]
    assert after.merged_tracks == ()


@pytest.mark.parametrize("n_merges", [1, 2])
@pytest.mark.parametrize("at", [10, MEET - 3, MEET, MEET + 2])
def test_a_restart_gives_the_same_ids(at: int, n_merges: int) -> None:
    def path(t: int) -> list[np.ndarray]:
        return [each for k in range(n_merges) for each in (crossing(t) + np.array(200.0 * k))]

    whole = Run().go(path)
    begun = Run().go(path, frames=at)
    state = begun.tracker.snapshot()
    begun.tracker = Tracker(TrackerConfig(), MotionScorer())
    begun.tracker.restore(state)
    rng = np.random.default_rng(0)
    begun.results.clear()
    for t in range(FRAMES):
        boxes, animals = merged(path(t))
        order = rng.permutation(len(boxes))
        noisy = [boxes[i] + rng.normal(0, 0.3, 4) for i in order]
        if t < at:
            begun.results.append(whole.results[t])
        else:
            begun.step(noisy, [animals[i] for i in order])
    for (one, _), (other, _) in zip(whole.results, begun.results, strict=True):
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
        np.testing.assert_array_equal(one.track_scores, other.track_scores)
        assert (one.merged_tracks, one.merged_rows) == (other.merged_tracks, other.merged_rows)


def test_a_snapshot_of_an_earlier_version_is_restored_without_merges() -> None:
    run = Run().go(crossing, frames=MEET)
    state = run.tracker.snapshot()
    del state["merged"], state["scorer"]["motion"]["merging"]
    tracker = Tracker(TrackerConfig(), MotionScorer())
    tracker.restore(state)
    assert tracker.merged.count == 0
    tracker.check_integrity()


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gaps": {"max_gap": 2, "min_hits": 2},
    "closed": {"max_tracks": 5},
    "rules": {"iou": "mult", "max_center_dist": 80.0, "confidence_threshold": 0.5},
}


@pytest.mark.parametrize("config", CONFIGS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_id_is_in_one_place_of_a_frame_and_no_merged_one_is_lost(config: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 7))
    places, speeds = rng.uniform(0, 150, (size, 2)), rng.normal(0, 4, (size, 2))
    sides = rng.uniform(20, 50, size)
    run = Run(**CONFIGS[config])
    lost: set[int] = set()
    for _ in range(40):
        places = places + speeds
        speeds[(places < 0) | (places > 150)] *= -1
        boxes, animals = merged([box(*place, side, side) for place, side in zip(places, sides, strict=True)])
        kept = np.flatnonzero(rng.random(len(boxes)) > 0.1)
        assignment = run.step([boxes[i] for i in kept], [animals[i] for i in kept])
        ids = [track for tracks in in_boxes(assignment).values() for track in tracks if track >= 0]
        assert len(set(ids)) == len(ids)
        assert all(assignment.track_ids[row] >= 0 for row in assignment.merged_rows)
        lost = (lost | set(assignment.lost_tracks)) - set(assignment.found_tracks) - set(assignment.ended_tracks)
        assert not lost & set(ids)
        live = run.tracker.live()
        states = dict(zip(live.ids.tolist(), live.states, strict=True))
        assert {track for track, state in states.items() if state == "merged"} <= set(assignment.merged_tracks)
        assert {track for track in states if track not in ids} == lost & states.keys()


def test_the_groups_of_merged_tracks_are_flat() -> None:
    together = Merged()
    together.hide(np.array([3]), np.array([1]))
    together.hide(np.array([1]), np.array([0]))
    assert together.hosts_of(np.array([0, 1, 3, 99])).tolist() == [-1, 0, 0, -1]
    slots, hosts = together.members()
    assert (slots.tolist(), hosts.tolist()) == ([0, 1, 3], [0, 0, 0])
    together.release(np.array([1]))
    assert (together.count, together.hidden.tolist()) == (1, [3])
    together.release(np.array([0]))
    assert together.count == 0
