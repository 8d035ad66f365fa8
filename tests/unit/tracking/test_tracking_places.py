"""A fixed number of tracks: how many may begin, and which detections must be the objects."""

from __future__ import annotations

import pytest
from tracking_fixed_number import FALSE, FAR, HOMES, SIDE, Stream, ids

from trackd.config import TrackerConfig
from trackd.tracking.places import ENOUGH, MEMORY, Places


def test_where_no_detection_was_ever_false_one_at_any_distance_is_the_missing_object() -> None:
    stream = Stream()
    stream.frames(int(ENOUGH), *HOMES)
    found = stream.frame(*HOMES[:2], FAR)
    assert ids(found) == [0, 1, 2]
    assert found.flags == ("forced",)


@pytest.mark.parametrize("full", [ENOUGH - 1, ENOUGH])
def test_fewer_full_frames_or_one_detection_too_many_are_not_enough_for_that(full: float) -> None:
    stream = Stream()
    stream.frames(int(full), *HOMES)
    found = stream.frame(*HOMES[:2], FAR, *([FALSE] if full == ENOUGH else []))
    assert ids(found)[:3] == [0, 1, -1]
    assert found.flags == ("out_of_reach",)


def test_where_detections_are_false_now_and_then_a_returning_object_is_seen_twice_before_it_has_its_id() -> None:
    stream = Stream()
    stream.frames(30, *HOMES)
    stream.frame(*HOMES, FALSE)
    stream.frames(4, *HOMES[:2])
    away = (HOMES[2][0] + 6 * SIDE, HOMES[2][1])  # within its reach, and unusual
    assert ids(stream.frame(*HOMES[:2], away)) == [0, 1, -1]
    assert ids(stream.frame(*HOMES[:2], (away[0] + 4, away[1]))) == [0, 1, 2]


def test_a_false_detection_within_reach_that_is_not_seen_again_takes_no_id() -> None:
    stream = Stream()
    stream.frames(30, *HOMES)
    stream.frame(*HOMES, FALSE)
    stream.frames(4, *HOMES[:2])
    near = (HOMES[2][0] + 6 * SIDE, HOMES[2][1])
    assert ids(stream.frame(*HOMES[:2], near)) == [0, 1, -1]
    found = stream.frame(*HOMES)
    assert ids(found) == [0, 1, 2]
    assert found.flags == ()


def test_a_detection_that_must_be_a_missing_object_takes_none_of_the_places_that_are_free() -> None:
    """One object is missed in the first frame, another one jumps: of two unmatched detections one may begin a track."""
    stream = Stream()
    stream.frame(*HOMES[:2])
    found = stream.frame(HOMES[0], (HOMES[1][0] + 1.9 * SIDE, HOMES[1][1]), HOMES[2])
    assert ids(found) == [0, 1, 2]
    assert found.new_tracks == (2,)
    assert found.flags == ("forced",)


def test_more_detections_than_places_never_begin_more_tracks() -> None:
    stream = Stream()
    stream.frame(*HOMES[:2])
    found = stream.frame(*HOMES, FALSE, FAR)
    assert sorted(ids(found)) == [-1, -1, 0, 1, 2]
    assert found.new_tracks == (2,)


def test_a_restored_tracker_continues_with_what_it_knows_of_its_places() -> None:
    stream, other = Stream(), Stream()
    stream.frames(30, *HOMES)
    stream.frame(*HOMES, FALSE)
    stream.frames(4, *HOMES[:2])
    away = (HOMES[2][0] + 6 * SIDE, HOMES[2][1])
    stream.frame(*HOMES[:2], away)
    other.tracker.restore(stream.tracker.snapshot())
    other.index = stream.index
    for _ in range(2):
        one, two = (each.frame(*HOMES[:2], away) for each in (stream, other))
        assert ids(one) == ids(two) == [0, 1, 2]
        assert one.flags == two.flags
    assert other.tracker.places.snapshot() == stream.tracker.places.snapshot()


def test_another_number_of_objects_is_another_set() -> None:
    stream = Stream()
    stream.frames(int(ENOUGH), *HOMES)
    stream.tracker.configure(TrackerConfig(max_tracks=4))
    stream.frame(*HOMES, FALSE)
    assert stream.tracker.places.full == 1


def test_old_full_frames_are_forgotten() -> None:
    places = Places()
    places.count(4, 3)
    for _ in range(int(MEMORY) + 100):
        places.count(3, 3)
        places.count(2, 3)
    assert places.full == MEMORY
    assert 0 < places.surplus < 1
