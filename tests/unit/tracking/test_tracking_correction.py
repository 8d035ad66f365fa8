"""Corrections by a person between two frames, and the names of tracks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracking_scripted import Scene

from trackd.store.codec import pack, unpack
from trackd.tracking.correction import MAX_BETWEEN, MAX_KEPT, MAX_NAMES, Action, Applied, Correction, CorrectionError


def correct(scene: Scene, action: Action, *tracks: int, **more: Any) -> Applied:
    applied = scene.tracker.correct(Correction(action, tracks, author="ada", **more))
    scene.tracker.check_integrity()
    return applied


def two_tracks(**settings: Any) -> Scene:
    scene = Scene(**settings)
    scene.frame(2)
    return scene


def changes(found: Any) -> tuple[tuple[int, ...], ...]:
    return found.new_tracks, found.lost_tracks, found.found_tracks, found.ended_tracks


class TestSwap:
    def test_exchanges_the_ids_of_two_animals(self) -> None:
        scene = two_tracks()
        assert correct(scene, Action.SWAP, 0, 1).number == 1
        found = scene.frame(2, {0: 1, 1: 0})
        assert found.track_ids.tolist() == [1, 0]
        assert changes(found) == ((), (), (), ())

    def test_with_a_lost_track_states_the_loss_and_the_return(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        correct(scene, Action.SWAP, 0, 1)
        found = scene.frame(1, {0: 1})
        assert found.track_ids.tolist() == [1]
        assert changes(found) == ((), (0,), (1,), ())

    def test_leaves_the_names_with_the_ids(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 0, name="Ann")
        correct(scene, Action.SWAP, 0, 1)
        assert scene.frame(2, {0: 1, 1: 0}).names == (None, "Ann")

    def test_needs_two_different_live_tracks(self) -> None:
        scene = two_tracks()
        with pytest.raises(CorrectionError, match="two different tracks; got 1 twice"):
            correct(scene, Action.SWAP, 1, 1)
        with pytest.raises(CorrectionError, match="there is no track 7; the live tracks are 0, 1"):
            correct(scene, Action.SWAP, 0, 7)


class TestMerge:
    def test_lets_an_animal_go_on_as_the_lost_track_that_it_is(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})  # 1 is lost
        scene.frame(2, {0: 0})  # and begins as 2
        correct(scene, Action.MERGE, 2, into=1)
        assert [(track, first) for track, first in zip(*live(scene), strict=True)] == [(0, 0), (1, 0)]
        found = scene.frame(2, {0: 0, 1: 1})
        assert found.track_ids.tolist() == [0, 1]
        assert changes(found) == ((), (), (1,), (2,))

    def test_of_a_lost_track_into_one_that_is_seen_ends_the_lost_one(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        scene.frame(2, {0: 0})
        correct(scene, Action.MERGE, 1, into=2)
        found = scene.frame(2, {0: 0, 1: 2})
        assert found.track_ids.tolist() == [0, 2]
        assert changes(found) == ((), (), (), (1,))
        assert live(scene) == ([0, 2], [0, 0])

    def test_of_two_tracks_of_the_last_frame_is_refused_with_what_would_be_right(self) -> None:
        scene = two_tracks()
        with pytest.raises(CorrectionError, match=r"both in the last frame.*swap them.*or end"):
            correct(scene, Action.MERGE, 0, into=1)
        with pytest.raises(CorrectionError, match="two different tracks"):
            correct(scene, Action.MERGE, 0, into=0)


def live(scene: Scene) -> tuple[list[int], list[int]]:
    tracks = scene.tracker.live()
    return tracks.ids.tolist(), tracks.first_frame_index.tolist()


class TestEnd:
    def test_ends_a_track_with_the_next_frame_and_its_animal_begins_a_new_one(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        assert live(scene)[0] == [0]
        found = scene.frame(2, {0: 0, 1: 1})
        assert found.track_ids.tolist() == [0, 2]
        assert changes(found) == ((2,), (), (), (1,))

    def test_frees_a_place_where_the_number_of_tracks_is_limited(self) -> None:
        scene = two_tracks(max_tracks=2)
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        assert scene.frame(2, {0: 0}).track_ids.tolist() == [0, 2]

    def test_counts_for_every_later_correction_at_once(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        with pytest.raises(CorrectionError, match="track 1 has ended; the live tracks are 0"):
            correct(scene, Action.SWAP, 0, 1)


class TestNewId:
    def test_gives_the_animal_an_id_that_no_track_had(self) -> None:
        scene = two_tracks()
        assert correct(scene, Action.NEW_ID, 0).new_id == 2
        found = scene.frame(3, {0: 2, 1: 1})
        assert found.track_ids.tolist() == [2, 1, 3]
        assert changes(found) == ((2, 3), (), (), (0,))

    def test_is_new_and_lost_where_the_animal_is_not_in_the_next_frame(self) -> None:
        scene = two_tracks()
        correct(scene, Action.NEW_ID, 0)
        found = scene.frame(1, {0: 1})
        assert changes(found) == ((2,), (2,), (), (0,))
        assert changes(scene.frame(2, {0: 1, 1: 2})) == ((), (), (2,), ())

    def test_begins_and_ends_where_its_gap_is_over_with_the_next_frame(self) -> None:
        scene = two_tracks(max_gap=3)
        scene.frame(1, {0: 1})
        correct(scene, Action.NEW_ID, 0)
        found = scene.frame(1, {0: 1}, index=10)
        assert set(found.new_tracks) >= {2}
        assert set(found.ended_tracks) >= {0, 2}

    def test_keeps_the_list_of_parents_parallel_to_the_new_tracks(self) -> None:
        scene = Scene(divisions=True)
        scene.frame(2, boxes=np.array([[0, 0, 40, 40], [300, 0, 340, 40]], np.float32))
        correct(scene, Action.NEW_ID, 1)
        halves = np.array([[-12, 5, 18, 35], [22, 5, 52, 35], [300, 0, 340, 40]], np.float32)
        found = scene.frame(3, {0: 0, 2: 2}, boxes=halves)
        assert found.new_tracks == (2, 3, 4)
        assert found.parents == (-1, 0, 0)


class TestRename:
    def test_names_a_track_until_it_ends(self) -> None:
        scene = two_tracks(max_gap=2)
        correct(scene, Action.RENAME, 1, name="Ann")
        assert scene.frame(2, {0: 0, 1: 1}).names == (None, "Ann")
        assert scene.tracker.live().names == (None, "Ann")
        assert scene.frame(1, {0: 0}).names == ()
        for _ in range(3):
            scene.frame(1, {0: 0})
        correct(scene, Action.RENAME, 0, name="Ann")

    def test_with_no_name_removes_it(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 1, name="Ann")
        assert correct(scene, Action.RENAME, 1, name=None).name_before == "Ann"
        assert scene.frame(2, {0: 0, 1: 1}).names == ()

    @pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", " Ann", "a\u202eb", "\ud800"])
    def test_refuses_a_name_that_cannot_be_shown(self, name: str) -> None:
        with pytest.raises(CorrectionError, match="name must have"):
            correct(two_tracks(), Action.RENAME, 0, name=name)

    def test_refuses_a_name_of_another_live_track_and_states_which(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 0, name="Ann")
        correct(scene, Action.RENAME, 0, name="Ann")
        with pytest.raises(CorrectionError, match="track 0 has the name 'Ann'"):
            correct(scene, Action.RENAME, 1, name="Ann")

    def test_bounds_the_number_of_names(self) -> None:
        scene = Scene(max_active_tracks=MAX_NAMES + 1)
        scene.frame(MAX_NAMES + 1)
        for track in range(MAX_NAMES):
            correct(scene, Action.RENAME, track, name=f"n{track}")
            if track % MAX_BETWEEN == MAX_BETWEEN - 1:
                scene.frame(0)
        with pytest.raises(CorrectionError, match=f"at most {MAX_NAMES} names"):
            correct(scene, Action.RENAME, MAX_NAMES, name="one more")


class TestUndo:
    @pytest.mark.parametrize(
        ("action", "tracks", "more"),
        [
            (Action.SWAP, (0, 1), {}),
            (Action.MERGE, (2,), {"into": 1}),
            (Action.MERGE, (1,), {"into": 2}),
            (Action.END, (0,), {}),
            (Action.NEW_ID, (0,), {}),
            (Action.RENAME, (0,), {"name": "Bob"}),
        ],
    )
    def test_before_the_next_frame_restores_everything(self, action: Action, tracks: Any, more: Any) -> None:
        scenes = []
        for _ in range(2):
            scene = two_tracks()
            scene.frame(1, {0: 0})
            scene.frame(2, {0: 0})  # 1 is lost, 2 is new
            correct(scene, Action.RENAME, 0, name="Ann")
            scenes.append(scene)
        corrected, plain = scenes
        correct(corrected, action, *tracks, **more)
        assert correct(corrected, Action.UNDO).undoes == 2
        assert live(corrected) == live(plain)
        found, expected = (each.frame(2, {0: 0, 1: 2}) for each in scenes)
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        assert (changes(found), found.names) == (changes(expected), expected.names)

    def test_of_a_swap_and_of_a_name_is_possible_after_frames_too(self) -> None:
        scene = two_tracks()
        correct(scene, Action.SWAP, 0, 1)
        correct(scene, Action.RENAME, 0, name="Ann")
        scene.frame(2, {0: 1, 1: 0})
        assert correct(scene, Action.UNDO, undoes=1).tracks == (0, 1)
        correct(scene, Action.UNDO)
        found = scene.frame(2, {0: 0, 1: 1})
        assert (found.track_ids.tolist(), found.names) == ([0, 1], ())

    def test_of_a_swap_is_refused_where_a_track_has_ended_since(self) -> None:
        scene = two_tracks(max_gap=1)
        correct(scene, Action.SWAP, 0, 1)
        for _ in range(3):
            scene.frame(1, {0: 0})
        with pytest.raises(CorrectionError, match="track 1 has ended; the live tracks are 0"):
            correct(scene, Action.UNDO)

    def test_is_refused_while_a_later_correction_concerns_the_same_track(self) -> None:
        scene = two_tracks()
        correct(scene, Action.SWAP, 0, 1)
        correct(scene, Action.NEW_ID, 1)
        with pytest.raises(CorrectionError, match=r"correction 2 \(new_id\) concerns track 1 too"):
            correct(scene, Action.UNDO, undoes=1)
        correct(scene, Action.UNDO)
        correct(scene, Action.UNDO)
        with pytest.raises(CorrectionError, match="there is no correction to undo"):
            correct(scene, Action.UNDO)

    def test_of_a_name_is_refused_where_another_track_has_it_now(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 0, name="Ann")
        correct(scene, Action.RENAME, 0, name="Bob")
        correct(scene, Action.RENAME, 1, name="Ann")
        with pytest.raises(CorrectionError, match="track 1 has the name 'Ann'"):
            correct(scene, Action.UNDO, undoes=2)

    def test_reaches_a_bounded_number_of_corrections_back(self) -> None:
        scene = two_tracks()
        for _ in range(MAX_KEPT + 1):
            correct(scene, Action.SWAP, 0, 1)
            scene.frame(2, {0: 0, 1: 1})
        for _ in range(MAX_KEPT):
            correct(scene, Action.UNDO)
            scene.frame(2, {0: 0, 1: 1})
        with pytest.raises(CorrectionError, match="no correction to undo"):
            correct(scene, Action.UNDO)
        assert correct(scene, Action.SWAP, 0, 1).number == 2 * MAX_KEPT + 2


def test_the_next_frame_has_the_corrections_before_it() -> None:
    scene = two_tracks()
    correct(scene, Action.RENAME, 0, name="Ann", t_ns=7)
    correct(scene, Action.NEW_ID, 1)
    correct(scene, Action.UNDO)
    assert scene.frame(2, {0: 0, 1: 1}).corrections == (
        {"number": 1, "action": "rename", "author": "ada", "t_ns": 7, "tracks": [0], "name": "Ann"},
        {"number": 2, "action": "new_id", "author": "ada", "t_ns": 0, "tracks": [1], "new_id": 2},
        {"number": 3, "action": "undo", "author": "ada", "t_ns": 0, "tracks": [1], "new_id": 2, "undoes": 2},
    )
    assert scene.frame(2, {0: 0, 1: 1}).corrections == ()


def test_a_bounded_number_of_corrections_fits_between_two_frames() -> None:
    scene = two_tracks()
    for _ in range(MAX_BETWEEN):
        correct(scene, Action.SWAP, 0, 1)
    with pytest.raises(CorrectionError, match=f"at most {MAX_BETWEEN} corrections fit between two frames"):
        correct(scene, Action.SWAP, 0, 1)
    scene.frame(2, {0: 0, 1: 1})
    correct(scene, Action.SWAP, 0, 1)


def test_a_restored_tracker_goes_on_with_names_ends_and_undo() -> None:
    scene, other = two_tracks(), Scene()
    scene.frame(1, {0: 0})
    correct(scene, Action.RENAME, 1, name="Ann")
    correct(scene, Action.SWAP, 0, 1)
    correct(scene, Action.END, 0)
    other.tracker.restore(unpack(pack(scene.tracker.snapshot())))
    other.next_index = scene.next_index
    results = []
    for each in (scene, other):
        found = each.frame(1, {0: 1})
        assert correct(each, Action.UNDO).restored == 0
        results.append((found.track_ids.tolist(), changes(found), found.names, live(each)))
    assert results[0] == results[1]
    assert results[0] == ([1], ((), (), (1,), (0,)), ("Ann",), ([0, 1], [0, 0]))


def test_a_tracker_without_corrections_stores_nothing_of_them() -> None:
    assert "corrections" not in two_tracks().tracker.snapshot()
