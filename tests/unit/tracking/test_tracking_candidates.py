"""Candidates: what `max_tracks` leaves no place, and how it gets one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_fixed_number import FALSE, HOMES, SIDE, Stream, ids

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.candidates import MOST
from trackd.tracking.correction import Action, Correction
from trackd.tracking.tracker import Assignment, Tracker

BESIDE = (HOMES[2][0] + 3 * SIDE, HOMES[2][1])  # within reach of the third object from the second frame without it on


def walk(step: int, home: tuple[float, float]) -> tuple[float, float]:
    return home[0] + 3.0 * step, home[1]


def test_a_false_detection_that_stays_does_not_take_the_id_of_a_missing_object() -> None:
    stream = Stream()
    for step in range(30):
        found = stream.frame(*(walk(step, home) for home in HOMES), *([BESIDE] if step >= 10 else []))
    assert ids(found) == [0, 1, 2, -1]
    for _ in range(25):
        found = stream.frame(*(walk(30, home) for home in HOMES[:2]), BESIDE)
        assert ids(found) == [0, 1, -1]
        assert np.isnan(found.track_scores[2])
        assert found.flags == ("out_of_reach",)
    found = stream.frames(2, *(walk(30, home) for home in HOMES), BESIDE)
    assert ids(found) == [0, 1, 2, -1]


def test_a_detection_that_began_when_the_object_was_missing_is_that_object_though_a_false_one_stays() -> None:
    stream = Stream()
    stream.frames(5, *HOMES)
    stream.frames(5, *HOMES, FALSE)
    stream.frames(4, *HOMES[:2], FALSE)
    assert ids(stream.frame(*HOMES[:2], FALSE, BESIDE)) == [0, 1, -1, -1]
    found = stream.frame(*HOMES[:2], FALSE, BESIDE)
    assert ids(found) == [0, 1, -1, 2]
    assert found.flags == ("forced",)
    assert found.found_tracks == (2,)
    assert ids(stream.frame(*HOMES[:2], FALSE, BESIDE)) == [0, 1, -1, 2]


def test_one_false_sighting_of_an_object_does_not_keep_its_detection_from_it() -> None:
    """The object jumps, and a false detection in its place is taken for it in one frame."""
    stream = Stream()
    stream.frames(30, *HOMES)
    stream.frames(2, *HOMES, FALSE)
    assert ids(stream.frame(*HOMES, BESIDE)) == [0, 1, 2, -1]
    for _ in range(10):
        found = stream.frame(*HOMES[:2], BESIDE)
    assert ids(found) == [0, 1, 2]


def test_an_object_takes_the_place_and_the_id_of_a_false_detection_that_is_seen_less_often() -> None:
    stream, steps = Stream(), 0
    assert ids(stream.frame(*HOMES[:2], FALSE)) == [0, 1, 2]
    given_id = -1
    while given_id < 0 and steps < 60:
        found = stream.frame(*HOMES, *([FALSE] if steps % 2 else []))
        given_id, steps = ids(found)[2], steps + 1
    assert given_id == 2
    assert 3 < steps < 40
    assert found.flags == ("forced",)
    assert ids(stream.frame(*HOMES, FALSE)) == [0, 1, 2, -1]
    assert ids(stream.frames(30, *HOMES, FALSE)) == [0, 1, 2, -1]


def test_an_object_that_moves_takes_the_place_of_a_detection_that_never_did() -> None:
    stream = Stream()
    stream.frame(*HOMES[:2], FALSE)
    results = [ids(stream.frame(*(walk(step, home) for home in HOMES), FALSE)) for step in range(1, 60)]
    assert results[0] == [0, 1, -1, 2]
    assert results[-1] == [0, 1, 2, -1]
    assert results.count([0, 1, -1, 2]) + results.count([0, 1, 2, -1]) == len(results)


def test_a_detection_that_never_moved_does_not_take_the_place_of_an_object_that_did_and_is_often_missed() -> None:
    stream = Stream()
    for step in range(30):
        stream.frame(*(walk(step, home) for home in HOMES))
    for step in range(30, 130):
        seen = HOMES if step % 3 else HOMES[:2]
        found = stream.frame(*(walk(step, home) for home in seen), FALSE)
        assert ids(found) == [*range(len(seen)), -1]


def test_objects_that_rest_keep_their_places_from_a_false_detection_that_stays_as_long() -> None:
    stream = Stream()
    stream.frames(3, *HOMES)
    assert ids(stream.frames(150, *HOMES, FALSE)) == [0, 1, 2, -1]


def test_a_place_that_is_free_goes_to_a_candidate_that_is_seen_again_and_has_a_new_id() -> None:
    stream = Stream(max_gap=4)
    stream.frames(3, *HOMES)
    stream.frames(3, *HOMES, FALSE)
    results = [stream.frame(*HOMES[:2], FALSE) for _ in range(6)]
    (at,) = [k for k, found in enumerate(results) if found.ended_tracks]
    assert [ids(found) for found in results] == [[0, 1, -1]] * (at + 1) + [[0, 1, 3]] * (5 - at)
    first = results[at + 1]
    assert first.new_tracks == (3,)
    assert np.isnan(first.track_scores[2])
    assert not np.isnan(results[-1].track_scores[2])
    assert [found.found_tracks for found in results] == [()] * 6


def test_a_place_that_a_person_makes_free_goes_to_the_candidate_that_was_seen_in_most_frames() -> None:
    stream = Stream()
    stream.frame(*HOMES[:2], FALSE)
    for step in range(1, 9):
        seen = [BESIDE] if step > 4 else []  # another false detection
        stream.frame(*seen, *HOMES[:2], FALSE, HOMES[2])
    stream.tracker.correct(Correction(Action.END, (2,)))
    found = stream.frame(BESIDE, *HOMES[:2], FALSE, HOMES[2])
    assert ids(found) == [-1, 0, 1, -1, 3]
    assert found.new_tracks == (3,)


def test_without_a_limit_any_longer_candidates_become_tracks() -> None:
    stream = Stream()
    stream.frames(3, *HOMES)
    stream.frames(3, *HOMES, FALSE)
    stream.tracker.configure(TrackerConfig())
    found = stream.frame(*HOMES, FALSE)
    assert ids(found) == [0, 1, 2, 3]
    assert found.new_tracks == (3,)
    assert ids(stream.frame(*HOMES, FALSE)) == [0, 1, 2, 3]


def test_candidates_are_no_live_tracks() -> None:
    stream = Stream()
    stream.frames(3, *HOMES)
    stream.frames(3, *HOMES, FALSE)
    assert stream.tracker.live().ids.tolist() == [0, 1, 2]
    assert stream.tracker.next_id == 3
    changes = [stream.frame(*HOMES) for _ in range(12)]
    assert not any(found.lost_tracks or found.ended_tracks or found.found_tracks for found in changes)
    assert not len(stream.tracker.window.candidates)  # missing for too long


def test_false_detections_without_number_begin_few_candidates_and_fill_no_slot_of_an_object() -> None:
    rng = np.random.default_rng(0)
    stream = Stream(max_active_tracks=10)
    for _ in range(5):
        stream.frame(*HOMES, *rng.uniform(0, 1000, (200, 2)))
        stream.tracker.check_integrity()
        assert len(stream.tracker.window.candidates) <= 7
    stream = Stream()
    stream.frame(*HOMES, *rng.uniform(0, 1000, (200, 2)))
    assert len(stream.tracker.window.candidates) == MOST


def test_a_snapshot_of_an_earlier_version_has_no_candidates_and_continues() -> None:
    stream = Stream()
    stream.frames(5, *HOMES)
    state = stream.tracker.snapshot()
    del state["candidates"]
    other = Stream()
    other.tracker.restore(state)
    other.index = stream.index
    for _ in range(3):
        assert ids(stream.frame(*HOMES, FALSE)) == ids(other.frame(*HOMES, FALSE))


def noisy(seed: int, frames: int = 60) -> list[list[tuple[float, float]]]:
    """Three objects that walk in a square, some missed; a false detection at one place, and others anywhere."""
    rng = np.random.default_rng(seed)
    places, drop, rate = rng.uniform(0, 400, (3, 2)), rng.choice([0.0, 0.2]), rng.choice([0.1, 2.0])
    spot, found = rng.uniform(0, 400, 2), []
    for _ in range(frames):
        places = np.clip(places + rng.normal(0, 15, places.shape), 0, 400)
        seen = [*places[rng.random(3) >= drop], *rng.uniform(0, 400, (rng.poisson(rate), 2))]
        seen += [spot] if rng.random() < 0.6 else []
        found.append([tuple(seen[k]) for k in rng.permutation(len(seen))])
    return found


def same(one: Assignment, other: Assignment) -> bool:
    scores = np.array_equal(one.track_scores, other.track_scores, equal_nan=True)
    lists = (one.new_tracks, one.lost_tracks, one.found_tracks, one.ended_tracks, one.flags)
    return ids(one) == ids(other) and scores and lists == (
        other.new_tracks, other.lost_tracks, other.found_tracks, other.ended_tracks, other.flags
    )  # fmt: skip


@pytest.mark.parametrize("gaps", [{}, {"max_gap": 3}, {"min_hits": 2}])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), at=st.integers(1, 58))
def test_a_stream_with_candidates_keeps_its_invariants_and_continues_where_it_was_restored(
    gaps: dict[str, int], seed: int, at: int
) -> None:
    stream, other = Stream(**gaps), Stream(**gaps)
    lost: set[int] = set()
    for number, centres in enumerate(noisy(seed)):
        if number == at:
            other.tracker.restore(stream.tracker.snapshot())
            other.index = stream.index
        found = stream.frame(*centres)
        if number >= at:
            assert same(other.frame(*centres), found)
        stream.tracker.check_integrity()
        given_ids = [track for track in ids(found) if track >= 0]
        live = stream.tracker.live()
        assert len(set(given_ids)) == len(given_ids)
        assert len(live.ids) <= 3
        lost = (lost | set(found.lost_tracks)) - set(found.found_tracks) - set(found.ended_tracks)
        assert set(live.ids[~live.active].tolist()) == lost
        assert set(given_ids) <= set(live.ids[live.active].tolist())
        if not gaps:
            assert set(live.ids.tolist()) <= {0, 1, 2}


def test_with_a_scorer_that_does_not_learn_births_there_are_no_candidates() -> None:
    class Assuming(MotionScorer):
        learns_births = False

    stream = Stream()
    stream.tracker = Tracker(TrackerConfig(max_tracks=3), Assuming())
    stream.frames(3, *HOMES, FALSE)
    assert not len(stream.tracker.window.candidates)
    assert "candidates" not in stream.tracker.snapshot()


def test_an_object_that_was_away_for_so_long_that_a_false_detection_has_its_id_gets_it_back() -> None:
    stream = Stream()
    for step in range(100):
        stream.frame(*(walk(step, home) for home in HOMES), *([FALSE] if step > 50 else []))
    taken = [ids(stream.frame(*(walk(step, home) for home in HOMES[:2]), FALSE))[2] for step in range(100, 400)]
    assert taken.index(2) > 60  # frames without it
    results = [ids(stream.frame(*(walk(step, home) for home in HOMES), FALSE)) for step in range(400, 450)]
    assert results[-1] == [0, 1, 2, -1]
