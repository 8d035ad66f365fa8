"""Divisions that are learnt from the stream: `tracker.divisions: auto`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.division import find_divisions
from trackd.tracking.division_rate import _LIMITS, MAX_MERGES, MEMORY, DivisionRate
from trackd.tracking.division_signs import find_signs
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset


def box(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def whole(x: float, y: float) -> list[list[float]]:
    return [box(x, y, 40, 40)]


def halves(x: float, y: float) -> list[list[float]]:
    """Two parts beside each other, together as large as the whole."""
    return [box(x - 10, y, 20, 40), box(x + 10, y, 20, 40)]


class Stream:
    def __init__(self, **settings) -> None:
        self.config = TrackerConfig(**settings)
        self.tracker = Tracker(self.config, MotionScorer())
        self.index = 0

    def frame(self, *boxes: list[float], keypoints: bool = False) -> Assignment:
        extents = np.array(boxes, np.float32).reshape(-1, 4)
        nodes = extents.reshape(-1, 2, 2) if keypoints else None
        instances = Instances.of(Detections(boxes=extents, keypoints=nodes), LiveDataset())
        found = self.tracker.step(self.index, self.index * 40_000_000, instances, None, self.index)
        self.index += 1
        return found


PLACES = [(200.0 * i + 100, 200.0 * j + 100) for j in range(2) for i in range(4)]


def divide_one_after_the_other(stream: Stream, keypoints: bool = False) -> list[list[int]]:
    """Eight objects, each of which becomes two after another 5 frames; return the parents that each frame has."""
    parents = []
    for divided in range(len(PLACES) + 1):
        boxes = [each for k, place in enumerate(PLACES) for each in (halves if k < divided else whole)(*place)]
        for _ in range(5):
            found = stream.frame(*boxes, keypoints=keypoints)
            if found.parents:
                parents.append(list(found.parents))
    return parents


def test_where_objects_divide_all_divisions_but_the_first_are_published() -> None:
    assert divide_one_after_the_other(Stream()) == [[k, k] for k in range(1, len(PLACES))]


def test_with_true_the_first_division_is_published_too_and_with_false_none() -> None:
    assert divide_one_after_the_other(Stream(divisions=True)) == [[k, k] for k in range(len(PLACES))]
    assert divide_one_after_the_other(Stream(divisions=False)) == []


def test_what_has_keypoints_or_a_fixed_number_does_not_divide() -> None:
    assert divide_one_after_the_other(Stream(), keypoints=True) == []
    assert divide_one_after_the_other(Stream(max_tracks=100)) == []


def test_objects_that_were_seen_as_one_and_come_apart_do_not_divide() -> None:
    stream = Stream()
    for _ in range(12):
        for _ in range(5):
            assert stream.frame(*[part for place in PLACES for part in halves(*place)]).parents == ()
        for _ in range(5):
            stream.frame(*[one for place in PLACES for one in whole(*place)])


def test_an_object_that_appears_beside_another_is_no_division() -> None:
    stream = Stream()
    beside: list[list[float]] = []
    for x, y in PLACES:
        for _ in range(5):
            assert stream.frame(*[each for place in PLACES for each in whole(*place)], *beside).parents == ()
        beside.append(box(x - 24, y, 40, 40))
    assert stream.tracker.dividing.rate.share < 0.1


def points_divide(stream: Stream, jump: float, hidden: bool = False) -> list[tuple[int, ...]]:
    """Points of one size, three of which become two, one after the other; return the parents that were published.

    Args:
        stream: of the points.
        jump: by how much both parts are beside the place of the whole, over its side.
        hidden: something was seen near each whole until just before.
    """
    parents = []
    for divided in range(4):
        for number in range(100):
            points = []
            for k, (x, y) in enumerate(PLACES):
                if k < divided:
                    points += [box(x - 20 * jump, y, 20, 20), box(x + 20 * jump, y, 20, 20)]
                else:
                    points.append(box(x, y, 20, 20))
                    if hidden and divided == k and number < 97:
                        points.append(box(x, y + 50, 20, 20))
            parents.append(stream.frame(*points).parents)
    return [each for each in parents if each]


def test_points_that_divide_are_known_by_their_jumps_and_the_first_is_evidence_only() -> None:
    assert points_divide(Stream(), 0.7) == [(1, 1), (2, 2)]


def test_a_point_that_moves_as_before_while_another_one_appears_beside_it_has_not_divided() -> None:
    assert points_divide(Stream(), 0.02) == []


def test_a_jump_beside_a_missing_object_is_no_division() -> None:
    assert points_divide(Stream(), 0.7, hidden=True) == []


def test_a_restored_tracker_believes_the_same_divisions() -> None:
    one = Stream()
    boxes = [each for k, place in enumerate(PLACES) for each in (halves if k < 2 else whole)(*place)]
    for _ in range(3):
        one.frame(*[each for place in PLACES for each in whole(*place)])
    for _ in range(3):
        one.frame(*boxes)
    other = Stream()
    other.index = one.index
    other.tracker.restore(one.tracker.snapshot())
    assert other.tracker.dividing.rate.snapshot() == one.tracker.dividing.rate.snapshot()
    divided = [each for k, place in enumerate(PLACES) for each in (halves if k < 4 else whole)(*place)]
    found, again = one.frame(*divided), other.frame(*divided)
    assert again.track_ids.tolist() == found.track_ids.tolist()
    assert again.parents == found.parents != ()


def test_a_snapshot_of_an_earlier_version_has_no_evidence() -> None:
    stream = Stream()
    divide_one_after_the_other(stream)
    state = stream.tracker.snapshot()
    del state["divisions"]
    stream.tracker.restore(state)
    assert stream.tracker.dividing.rate.snapshot() == DivisionRate().snapshot()


@given(st.data())
def test_each_possible_division_has_signs(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, m = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    middles, sides = rng.uniform(0, 60, (n + m, 2)), rng.uniform(10, 40, (n + m, 2))
    tables = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1).astype(np.float32)
    extents, boxes = tables[:n], tables[n:]
    rows = np.flatnonzero(rng.random(n) < 0.5)[:m]
    slots, live = np.sort(rng.permutation(m)[: len(rows)]), np.arange(m)
    own = np.full(m, -1)
    own[slots] = rows
    unmatched = np.setdiff1d(np.arange(n), rows)
    possible, _ = find_signs(live, np.zeros(m, np.int64), boxes, slots, rows, unmatched, extents, _LIMITS)
    if find_divisions(boxes, own, unmatched, extents):
        assert possible


@pytest.mark.parametrize("n_births", [1, 7, 500])
def test_the_evidence_stays_bounded(n_births: int) -> None:
    rate = DivisionRate()
    nothing = np.empty((0, 4), np.float32)
    for _ in range(5000):
        rate.likely([], nothing, nothing, n_births, np.ones(0))
    assert 0 <= rate.divisions <= rate.births <= MEMORY
    assert rate.share < 0.001
    stream = Stream()
    stream.tracker.scorer.follows_merges = False  # those that the scorer follows come apart with their ids
    most = 0.0
    for _ in range(20):
        stream.frame(*[part for place in PLACES for part in halves(*place)])
        stream.frame(*[one for place in PLACES for one in whole(*place)])
        most = max(most, stream.tracker.dividing.rate.merges)
    assert len(PLACES) <= most <= MAX_MERGES
