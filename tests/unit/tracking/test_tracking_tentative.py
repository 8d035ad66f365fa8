"""Tentative tracks: those that were observed in fewer than `min_hits` frames."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tracking_correction_laws import random_correction, step
from test_tracking_laws import stream
from tracking_scripted import Scene

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.correction import Action, Correction, CorrectionError
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections

LAWS = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "short gaps": {"max_gap": 2},
    "few tracks": {"max_tracks": 4},
    "clips": {"persistent_tracking": False},
    "divisions": {"divisions": True},
}


def states(scene: Scene) -> dict[int, str]:
    live = scene.tracker.live()
    return dict(zip(live.ids.tolist(), live.states, strict=True))


def test_a_track_is_tentative_until_it_was_observed_in_min_hits_frames() -> None:
    scene = Scene(min_hits=3)
    assert scene.frame(1).tentative_tracks == (0,)
    assert scene.frame(1, {0: 0}).tentative_tracks == (0,)
    assert states(scene) == {0: "tentative"}
    assert scene.frame(1, {0: 0}).tentative_tracks == ()
    assert states(scene) == {0: "active"}
    scene.frame(0)
    assert states(scene) == {0: "lost"}
    assert scene.frame(1, {0: 0}).tentative_tracks == ()


def test_an_id_is_published_from_its_first_frame_on_and_stays_the_same() -> None:
    scene = Scene(min_hits=3)
    first = scene.frame(2)
    assert (first.track_ids.tolist(), first.new_tracks) == ([0, 1], (0, 1))
    assert scene.frame(2, {0: 0, 1: 1}).track_ids.tolist() == [0, 1]
    assert scene.frame(2, {0: 1, 1: 0}).track_ids.tolist() == [1, 0]


def test_the_frames_of_a_tentative_track_need_not_be_consecutive() -> None:
    scene = Scene(min_hits=3)
    scene.frame(1)
    assert scene.frame(0).lost_tracks == (0,)
    assert states(scene) == {0: "tentative"}
    found = scene.frame(1, {0: 0})
    assert (found.found_tracks, found.tentative_tracks) == ((0,), (0,))
    scene.frame(0)
    scene.frame(0)
    assert scene.frame(1, {0: 0}).tentative_tracks == ()


def test_a_tentative_track_ends_when_it_is_missing_from_min_hits_frames_in_a_row() -> None:
    scene = Scene(min_hits=3)
    scene.frame(1)
    assert scene.frame(0).ended_tracks == ()
    assert scene.frame(0).ended_tracks == ()
    assert scene.frame(0).ended_tracks == (0,)
    assert states(scene) == {}


def test_an_active_track_does_not_end_that_way() -> None:
    scene = Scene(min_hits=2)
    scene.frame(1)
    scene.frame(1, {0: 0})
    for _ in range(5):
        assert scene.frame(0).ended_tracks == ()
    assert states(scene) == {0: "lost"}


def test_frames_that_were_not_tracked_do_not_count_against_a_tentative_track() -> None:
    scene = Scene(min_hits=2)
    scene.frame(1, index=0)
    scene.frame(0, index=100)
    assert scene.frame(1, {0: 0}, index=200).tentative_tracks == ()
    assert states(scene) == {0: "active"}


def test_a_shorter_max_gap_ends_a_tentative_track_first() -> None:
    scene = Scene(min_hits=3, max_gap=1)
    scene.frame(1)
    ended = scene.frame(0)
    assert (ended.lost_tracks, ended.ended_tracks) == ((), (0,))


def test_each_of_several_tracks_has_its_own_state() -> None:
    scene = Scene(min_hits=2)
    scene.frame(1)
    both = scene.frame(3, {1: 0})
    assert (both.track_ids.tolist(), both.tentative_tracks) == ([1, 0, 2], (1, 2))
    assert states(scene) == {0: "active", 1: "tentative", 2: "tentative"}


def test_at_max_tracks_a_missing_tentative_track_gives_its_place_to_a_detection() -> None:
    scene = Scene(min_hits=3, max_tracks=2)
    scene.frame(1)
    both = scene.frame(2)
    assert (both.track_ids.tolist(), both.ended_tracks, both.flags) == ([1, 2], (0,), ("evicted",))


def test_at_max_tracks_an_observed_tentative_track_and_a_lost_one_keep_their_places() -> None:
    scene = Scene(min_hits=2, max_tracks=2)
    scene.frame(1)
    scene.frame(1, {0: 0})
    scene.frame(0)
    new = scene.frame(2, scores=[0.5, 0.9])
    assert (new.track_ids.tolist(), new.ended_tracks) == ([-1, 1], ())
    assert states(scene) == {0: "lost", 1: "tentative"}
    full = Scene(min_hits=2, max_tracks=2)
    full.frame(2)
    third = full.frame(3, {0: 0, 1: 1})
    assert (third.track_ids.tolist(), third.ended_tracks) == ([0, 1, -1], ())


def test_max_tracks_that_was_lowered_ends_missing_tentative_tracks_only_for_a_detection() -> None:
    scene = Scene(min_hits=9)
    scene.frame(4)
    scene.tracker.configure(TrackerConfig(min_hits=9, max_tracks=1))
    assert scene.frame(0).ended_tracks == ()
    assert scene.frame(1, {0: 2}).track_ids.tolist() == [2]
    assert len(states(scene)) == 4


def test_min_hits_may_be_changed_while_the_stream_runs() -> None:
    scene = Scene()
    scene.frame(1)
    assert scene.frame(2, {0: 0}).tentative_tracks == ()
    scene.tracker.configure(TrackerConfig(min_hits=3))
    assert states(scene) == {0: "tentative", 1: "tentative"}
    assert scene.frame(2, {0: 0, 1: 1}).tentative_tracks == (1,)
    scene.tracker.configure(TrackerConfig())
    assert scene.frame(2, {0: 0, 1: 1}).tentative_tracks == ()


def test_a_swap_leaves_an_active_id_active() -> None:
    scene = Scene(min_hits=2)
    scene.frame(1)
    scene.frame(2, {0: 0})
    scene.tracker.correct(Correction(Action.SWAP, (0, 1)))
    assert states(scene) == {0: "active", 1: "tentative"}
    swapped = scene.frame(1, {0: 1})
    assert (swapped.lost_tracks, swapped.tentative_tracks) == ((0,), ())


def test_a_merge_counts_the_frames_of_both_tracks_and_its_undo_parts_them() -> None:
    for track, into in ((1, 0), (0, 1)):
        scene = Scene(min_hits=3)
        scene.frame(1)
        scene.frame(1, {0: 0})
        scene.frame(1)
        assert states(scene) == {0: "tentative", 1: "tentative"}
        scene.tracker.correct(Correction(Action.MERGE, (track,), into))
        assert states(scene) == {into: "active"}
        scene.tracker.correct(Correction(Action.UNDO))
        assert states(scene) == {0: "tentative", 1: "tentative"}
        assert scene.frame(1, {0: 0}).tentative_tracks == ()
        assert scene.frame(1, {0: 1}).tentative_tracks == (1,)


def test_a_snapshot_of_an_earlier_version_counts_the_observations_in_the_window() -> None:
    scene = Scene(window_size=4)
    scene.frame(1)
    scene.frame(2, {0: 0})
    scene.frame(2, {0: 0})
    state = scene.tracker.snapshot()
    life = state["lifecycle"]
    life["lost"] = life.pop("missed") > 0
    del life["hits"]
    restored = Scene(min_hits=3)
    restored.tracker.restore(state)
    assert states(restored) == {0: "active", 1: "tentative", 2: "tentative"}
    assert restored.tracker.live().active.tolist() == [True, False, True]
    assert restored.frame(2, {0: 1, 1: 2}, index=3).found_tracks == (1,)


@LAWS
@given(seeds, st.sampled_from(sorted(CONFIGS)), st.integers(1, 4))
def test_tentative_ids_are_those_that_were_published_in_fewer_than_min_hits_frames(
    seed: int, config: str, min_hits: int
) -> None:
    one = Tracker(TrackerConfig(min_hits=min_hits, **CONFIGS[config]), MotionScorer(), 12, 8)
    hits: dict[int, int] = {}
    missed: dict[int, int] = {}
    for position, frame in enumerate(stream(seed, 40)):
        found = step(one, position, frame)
        seen = set(found.track_ids.tolist()) - {-1}
        hits |= {track: hits.get(track, 0) + 1 for track in seen}
        missed = {track: 0 if track in seen else missed.get(track, 0) + 1 for track in {*missed, *seen}}
        for track in found.ended_tracks:
            missed.pop(track)
        assert found.tentative_tracks == tuple(sorted(track for track in seen if hits[track] < min_hits))
        assert all(hits[track] >= min_hits or n < min_hits for track, n in missed.items())
        live = one.live()
        assert dict(zip(live.ids.tolist(), live.states, strict=True)) == {
            track: "tentative" if hits[track] < min_hits else "lost" if n else "active" for track, n in missed.items()
        }


@LAWS
@given(seeds, st.sampled_from(sorted(CONFIGS)))
def test_an_id_that_was_active_is_never_tentative_again_whatever_is_corrected(seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    one = Tracker(TrackerConfig(min_hits=3, **CONFIGS[config]), MotionScorer(), 12, 8)
    active: set[int] = set()
    for position, frame in enumerate(stream(seed, 40)):
        found = step(one, position, frame)
        assert not active & set(found.tentative_tracks)
        assert set(found.tentative_tracks) <= set(found.track_ids.tolist())
        live = one.live()
        active |= set(live.ids[~live.tentative].tolist())
        for _ in range(rng.integers(3)):
            with suppress(CorrectionError):
                one.correct(random_correction(rng, one, tuple(Action)))


@LAWS
@given(seeds, st.sampled_from(sorted(CONFIGS)), st.integers(0, 25))
def test_a_restored_tracker_has_the_same_states(seed: int, config: str, cut: int) -> None:
    frames = stream(seed)
    one, other = (Tracker(TrackerConfig(min_hits=3, **CONFIGS[config]), MotionScorer(), 12, 8) for _ in range(2))
    for position, frame in enumerate(frames[:cut]):
        step(one, position, frame)
    other.restore(one.snapshot())
    for position, frame in enumerate(frames[cut:], cut):
        assert other.live().states == one.live().states
        expected, found = step(one, position, frame), step(other, position, frame)
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        assert (found.tentative_tracks, found.ended_tracks) == (expected.tentative_tracks, expected.ended_tracks)


def test_a_single_false_detection_is_an_id_that_is_never_active() -> None:
    rng = np.random.default_rng(5)
    one = Tracker(TrackerConfig(min_hits=3), MotionScorer())
    published: set[int] = set()
    active: set[int] = set()
    for index in range(120):
        boxes = np.array([[100 + 2 * index, 100, 130 + 2 * index, 130], [600 - 2 * index, 400, 630 - 2 * index, 430]])
        if index % 10 == 5:  # at another place each time
            corner = rng.uniform(700, 2000, 2)
            boxes = np.concatenate([boxes, [[*corner, *(corner + 30)]]])
        found = step(one, index, (index, Detections(boxes=boxes.astype(np.float32))))
        ids = set(found.track_ids.tolist()) - {-1}
        published |= ids
        active |= ids - set(found.tentative_tracks)
    assert active == {0, 1}
    assert len(published) > 10


@pytest.mark.parametrize("min_hits", [1, 3])
def test_the_ids_of_steady_tracks_do_not_depend_on_min_hits(min_hits: int) -> None:
    plain, other = Scene(), Scene(min_hits=min_hits)
    for scene in (plain, other):
        scene.frame(3)
    for order in ({0: 2, 1: 1, 2: 0}, {0: 1, 1: 2, 2: 0}, {0: 0, 1: 1, 2: 2}):
        expected, found = plain.frame(3, order), other.frame(3, order)
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        assert found.track_scores.tobytes() == expected.track_scores.tobytes()
