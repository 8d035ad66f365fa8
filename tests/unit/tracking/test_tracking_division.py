from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking import division
from trackd.tracking.division import Division, find_divisions
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

PARENT = [100, 100, 140, 120]
CHILDREN = [[98, 99, 118, 119], [122, 101, 142, 121]]
NONE = np.empty(0, np.intp)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def divisions(parents, own, unmatched, extents):
    return find_divisions(boxes(*parents), np.array(own, np.intp), np.array(unmatched, np.intp), boxes(*extents))


@pytest.mark.parametrize(("own", "unmatched"), [([0], [1]), ([1], [0]), ([-1], [0, 1])])
def test_an_unmatched_detection_and_the_tracks_own_instance_or_a_second_unmatched_one_are_a_division(own, unmatched):
    assert divisions([PARENT], own, unmatched, CHILDREN) == [Division(0, (0, 1))]


def test_an_instance_of_another_track_is_no_child():
    assert divisions([PARENT, CHILDREN[0]], [-1, 0], [1], CHILDREN) == []


@pytest.mark.parametrize(
    "second",
    [[200, 101, 220, 121], [122, 101, 162, 141], [122, 101, 126, 105], [np.nan] * 4],
    ids=["far", "as large as the parent", "a speck", "not finite"],
)
def test_an_unmatched_detection_that_is_far_or_of_another_size_is_no_child(second):
    assert divisions([PARENT], [0], [1], [CHILDREN[0], second]) == []


def test_the_parents_place_is_between_its_children():
    beside = [[160, 100, 180, 120], [182, 100, 202, 120]]
    assert divisions([[100, 100, 180, 120]], [0], [1], beside) == []


def test_of_two_possible_parents_the_better_centred_one_gets_the_children():
    off = [108, 100, 148, 120]
    assert divisions([off, PARENT], [-1, -1], [0, 1], CHILDREN) == [Division(1, (0, 1))]


def test_without_unmatched_detections_or_tracks_nothing_divides():
    assert divisions([PARENT], [0], [], CHILDREN) == []
    assert divisions([], [], [0, 1], CHILDREN) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_track_and_instance_is_in_one_division_at_most(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (12, 2)).astype(np.float32)
    extents = np.concatenate([corners, corners + rng.uniform(5, 30, (12, 2)).astype(np.float32)], axis=1)
    found = find_divisions(extents[:6] * 1.2, np.full(6, -1), np.arange(12), extents)
    assert len({each.parent for each in found}) == len(found)
    rows = [row for each in found for row in each.children]
    assert len(set(rows)) == len(rows)


def slow_divisions(parents, own, unmatched, extents):
    """The definition, pair by pair."""
    found = []
    half = np.float32(0.5)
    for parent, box in enumerate(parents):
        diagonal, area = np.hypot(*(box[2:] - box[:2])), (box[2:] - box[:2]).prod()
        middle = (box[:2] + box[2:]) * half
        rows = unmatched[
            np.hypot(*((extents[unmatched, :2] + extents[unmatched, 2:]) * half - middle).T) <= 0.9 * diagonal
        ]
        rows = [*rows, own[parent]] if len(rows) and own[parent] >= 0 else [*rows]
        for pair in combinations(sorted(rows), 2):
            centres = (extents[list(pair), :2] + extents[list(pair), 2:]) * half
            small, large = sorted((extents[list(pair), 2:] - extents[list(pair), :2]).prod(axis=1) / area)
            off_centre = np.hypot(*(centres.mean(axis=0) - middle)) / diagonal
            near = np.hypot(*(centres - middle).T).max() <= 0.9 * diagonal
            if off_centre <= 0.3 and near and small >= 0.15 and large <= 1.1 and small >= 0.6 * large:
                found.append((off_centre, parent, tuple(int(row) for row in pair)))
    kept, taken, divided = [], set(), set()
    for _, parent, children in sorted(found):
        if parent not in divided and not taken & set(children):
            kept.append(Division(parent, children))
            divided.add(parent)
            taken |= set(children)
    return kept


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 5]), st.sampled_from([2, 30, 90]))
def test_the_divisions_are_those_of_all_pairs_one_by_one(seed, raster, spread):
    rng = np.random.default_rng(seed)

    def some(n, low, high):
        centres, halves = rng.uniform(0, spread, (n, 2)), rng.uniform(low, high, (n, 2))
        if raster:
            centres, halves = np.round(centres / raster) * raster, np.ceil(halves / raster) * raster
        return np.concatenate([centres - halves, centres + halves], axis=1).astype(np.float32)

    parents, extents = some(rng.integers(1, 8), 8, 20), some(rng.integers(1, 14), 4, 14)
    own = np.full(len(parents), -1)
    matched = rng.integers(0, min(len(parents), len(extents)) + 1)
    own[rng.permutation(len(parents))[:matched]] = rng.permutation(len(extents))[:matched]
    unmatched = np.setdiff1d(np.arange(len(extents)), own)
    assert find_divisions(parents, own, unmatched, extents) == slow_divisions(parents, own, unmatched, extents)


def test_where_too_many_pairs_are_near_the_nearest_detections_are_the_children(monkeypatch):
    monkeypatch.setattr(division, "MAX_PAIRS", 300)
    rng = np.random.default_rng(3)
    centres = 100 + rng.uniform(-5, 5, (90, 2))
    half = np.where(np.arange(90) < 30, 20.0, 14.0)[:, None]
    extents = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
    found = find_divisions(extents[:30], np.full(30, -1), np.arange(30, 90), extents)
    assert len(found) > 5
    rows = [row for each in found for row in each.children]
    assert len(set(rows)) == len(rows)
    parents, children = boxes(*[[80, 80, 120, 120]] * 30), boxes(*[[86, 86, 114, 114]] * 60)
    at_one_point = find_divisions(parents, np.full(30, -1), np.arange(60), children)
    assert len(at_one_point) > 5, "tracks at one place do not all consider the same detections"


def step(tracker, frame_index, rows):
    instances = Instances.of(Detections(boxes=boxes(*rows)), LiveDataset())
    return tracker.step(frame_index, frame_index * 10**9, instances, None, frame_index)


def tracked(**config):
    tracker = Tracker(TrackerConfig(**config), MotionScorer())
    for i in range(3):
        step(tracker, i, [PARENT])
    return tracker, step(tracker, 3, CHILDREN)


def test_the_parent_ends_and_two_children_begin_with_it_as_their_parent():
    tracker, assignment = tracked(divisions=True)
    assert assignment.ended_tracks == (0,)
    assert assignment.new_tracks == (1, 2)
    assert assignment.parents == (0, 0)
    assert assignment.track_ids.tolist() == [1, 2]
    assert assignment.lost_tracks == ()
    assert np.isnan(assignment.track_scores).all()
    tracker.check_integrity()
    following = step(tracker, 4, CHILDREN)
    assert (following.track_ids.tolist(), following.parents) == ([1, 2], ())


def test_with_divisions_off_one_child_keeps_the_parents_id():
    _, assignment = tracked()
    assert assignment.parents == ()
    assert assignment.ended_tracks == ()
    assert 0 in assignment.track_ids


def test_at_max_tracks_nothing_divides():
    _, assignment = tracked(divisions=True, max_tracks=1)
    assert assignment.parents == ()
    assert sorted(assignment.track_ids.tolist()) == [-1, 0]


def test_a_new_track_beside_the_children_has_no_parent():
    tracker = Tracker(TrackerConfig(divisions=True), MotionScorer())
    step(tracker, 0, [PARENT])
    assignment = step(tracker, 1, [[500, 500, 520, 520], *CHILDREN])
    assert assignment.new_tracks == (1, 2, 3)
    assert assignment.parents == (-1, 0, 0)
