"""Undo of corrections after frames were tracked: the next frames are those without the correction, where possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracking_scripted import Scene

from trackd.store.codec import pack, unpack
from trackd.tracking.correction import MAX_KEPT, MAX_NAMES, Action, Applied, Correction, CorrectionError
from trackd.tracking.retired import MOST_FRAMES


def correct(scene: Scene, action: Action, *tracks: int, **more: Any) -> Applied:
    applied = scene.tracker.correct(Correction(action, tracks, author="ada", **more))
    scene.tracker.check_integrity()
    return applied


def undo(scene: Scene, number: int | None = None) -> Applied:
    return correct(scene, Action.UNDO, undoes=number)


def refused(scene: Scene, text: str, number: int | None = None) -> None:
    """Check that an undo is refused with a text, and changes nothing."""
    before = pack(scene.tracker.snapshot())
    with pytest.raises(CorrectionError, match=text):
        undo(scene, number)
    assert pack(scene.tracker.snapshot()) == before


def changes(found: Any) -> dict[str, tuple[int, ...]]:
    names = ("new", "lost", "found", "ended", "restored")
    return {name: listed for name in names if (listed := getattr(found, f"{name}_tracks"))}


def states(scene: Scene) -> dict[int, tuple[str, int]]:
    """The state and the first frame of each live track."""
    tracks = scene.tracker.live()
    rows = zip(tracks.ids.tolist(), tracks.states, tracks.first_frame_index.tolist(), strict=True)
    return {track: (state, first) for track, state, first in rows}


def two_tracks(**settings: Any) -> Scene:
    scene = Scene(**settings)
    scene.frame(2)
    return scene


def all_seen(scene: Scene, *ids: int) -> Any:
    """Track a frame in which instance i is the track of the i-th of these ids."""
    return scene.frame(len(ids), dict(enumerate(ids)))


class TestNewId:
    def test_gives_the_animal_its_old_id_back(self) -> None:
        scene = two_tracks()
        correct(scene, Action.NEW_ID, 0)
        for _ in range(9):
            assert all_seen(scene, 2, 1).track_ids.tolist() == [2, 1]
        done = undo(scene)
        assert (done.restored, done.new_id, done.replaced) == (0, 2, 2)
        found = all_seen(scene, 0, 1)
        assert found.track_ids.tolist() == [0, 1]
        assert changes(found) == {"ended": (2,), "restored": (0,)}
        assert states(scene) == {0: ("active", 0), 1: ("active", 0)}
        assert scene.frame(3, {0: 0, 1: 1}).new_tracks == (3,)

    def test_of_an_animal_that_is_lost_restores_the_id_as_lost(self) -> None:
        scene = two_tracks()
        correct(scene, Action.NEW_ID, 0)
        scene.frame(1, {0: 1})
        undo(scene)
        assert changes(scene.frame(1, {0: 1})) == {"ended": (2,), "restored": (0,), "lost": (0,)}
        assert changes(all_seen(scene, 0, 1)) == {"found": (0,)}

    def test_brings_the_name_back_also_where_the_new_id_has_it_now(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 0, name="Ann")
        correct(scene, Action.NEW_ID, 0)
        assert all_seen(scene, 2, 1).names == ()
        correct(scene, Action.RENAME, 2, name="Ann")
        assert all_seen(scene, 2, 1).names == ("Ann", None)
        undo(scene, 2)
        assert all_seen(scene, 0, 1).names == ("Ann", None)

    def test_is_refused_where_another_track_has_the_name(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 0, name="Ann")
        correct(scene, Action.NEW_ID, 0)
        all_seen(scene, 2, 1)
        correct(scene, Action.RENAME, 1, name="Ann")
        refused(scene, "track 1 has the name 'Ann'; rename that track first", 2)

    def test_is_refused_where_the_new_id_has_ended(self) -> None:
        scene = two_tracks(max_gap=2)
        correct(scene, Action.NEW_ID, 0)
        for _ in range(3):
            scene.frame(1, {0: 1})
        refused(scene, "correction 1 .new_id. cannot be undone: track 2, as which track 0 has gone on, has ended")

    def test_is_refused_while_a_later_correction_concerns_the_new_id(self) -> None:
        scene = two_tracks()
        correct(scene, Action.NEW_ID, 0)
        all_seen(scene, 2, 1)
        correct(scene, Action.SWAP, 2, 1)
        all_seen(scene, 1, 2)
        refused(scene, "correction 2 .swap. concerns track 2 too; undo that one first", 1)
        undo(scene)
        undo(scene)
        assert all_seen(scene, 0, 1).restored_tracks == (0,)


class TestEnd:
    def test_of_an_animal_in_the_picture_gives_the_track_that_it_began_the_old_id(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        assert all_seen(scene, 0, 1).track_ids.tolist() == [0, 2]
        for _ in range(90):
            all_seen(scene, 0, 2)
        done = undo(scene)
        assert (done.restored, done.replaced) == (1, 2)
        found = all_seen(scene, 0, 1)
        assert found.track_ids.tolist() == [0, 1]
        assert changes(found) == {"ended": (2,), "restored": (1,)}
        assert states(scene) == {0: ("active", 0), 1: ("active", 0)}
        assert not len(scene.tracker.window.retired)

    def test_makes_a_lost_track_a_lost_one_again(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        for _ in range(5):
            scene.frame(1, {0: 0})
        assert undo(scene).restored == 1
        assert states(scene)[1] == ("lost", 0)
        assert changes(scene.frame(1, {0: 0})) == {"restored": (1,), "lost": (1,)}
        found = all_seen(scene, 0, 1)
        assert (found.track_ids.tolist(), changes(found)) == ([0, 1], {"found": (1,)})

    def test_may_find_the_track_in_the_very_next_frame(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        scene.frame(1, {0: 0})
        undo(scene)
        assert changes(all_seen(scene, 0, 1)) == {"restored": (1,)}

    def test_leaves_a_track_that_has_begun_elsewhere_as_it_is(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        away = np.array([[0, 0, 20, 10], [150, 0, 170, 10]], np.float32)  # two sides are 28 pixels
        assert scene.frame(2, {0: 0}, boxes=away).new_tracks == (2,)
        assert undo(scene).replaced is None
        assert changes(scene.frame(2, {0: 0, 1: 2}, boxes=away)) == {"restored": (1,), "lost": (1,)}
        assert states(scene) == {0: ("active", 0), 1: ("lost", 0), 2: ("active", 1)}

    @pytest.mark.parametrize(("absent", "expected"), [(MOST_FRAMES - 1, 2), (MOST_FRAMES, None)])
    def test_takes_a_track_that_began_at_its_place_soon_enough(self, absent: int, expected: int | None) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        for _ in range(absent):
            scene.frame(1, {0: 0})
        assert scene.frame(2, {0: 0}).new_tracks == (2,)
        assert undo(scene).replaced == expected

    def test_leaves_a_track_at_the_place_of_one_that_was_lost(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        scene.frame(2, {0: 0})
        assert undo(scene).replaced is None
        assert set(states(scene)) == {0, 1, 2}

    def test_of_two_tracks_gives_each_animal_its_own_id(self) -> None:
        scene = two_tracks()
        boxes = np.array([[0, 0, 20, 10], [18, 0, 38, 10]], np.float32)  # each near the other one's place
        scene.frame(2, {0: 0, 1: 1}, boxes=boxes)
        correct(scene, Action.END, 0)
        correct(scene, Action.END, 1)
        assert scene.frame(2, boxes=boxes[::-1]).track_ids.tolist() == [2, 3]
        assert (undo(scene).replaced, undo(scene).replaced) == (2, 3)
        assert scene.frame(2, {0: 1, 1: 0}, boxes=boxes[::-1]).track_ids.tolist() == [1, 0]

    def test_is_no_successor_that_a_division_has_begun(self) -> None:
        scene = Scene(divisions=True)
        scene.frame(2, boxes=np.array([[0, 0, 40, 40], [54, 5, 84, 35]], np.float32))
        correct(scene, Action.END, 1)
        halves = np.array([[-12, 5, 18, 35], [22, 5, 52, 35]], np.float32)
        assert max(scene.frame(2, {0: 0}, boxes=halves).parents) == 0
        assert undo(scene).replaced is None

    def test_brings_the_name_back(self) -> None:
        scene = two_tracks()
        correct(scene, Action.RENAME, 1, name="Ann")
        correct(scene, Action.END, 1)
        all_seen(scene, 0, 1)
        correct(scene, Action.RENAME, 2, name="Bob")
        undo(scene, 2)
        found = all_seen(scene, 0, 1)
        assert (found.track_ids.tolist(), found.names) == ([0, 1], (None, "Ann"))
        correct(scene, Action.RENAME, 0, name="Bob")

    def test_keeps_to_the_number_of_names(self) -> None:
        scene = Scene(max_active_tracks=MAX_NAMES + 2)
        everyone = scene.frame(MAX_NAMES + 1).track_ids.tolist()
        for track in range(MAX_NAMES):
            correct(scene, Action.RENAME, track, name=f"n{track}")
            if track % 50 == 49:
                all_seen(scene, *everyone)
        end = correct(scene, Action.END, 0).number
        everyone = all_seen(scene, *[MAX_NAMES + 1, *everyone[1:]]).track_ids.tolist()
        last = correct(scene, Action.RENAME, MAX_NAMES, name="one more").number
        refused(scene, "at most 256 names", end)
        undo(scene, last)
        correct(scene, Action.RENAME, everyone[0], name="one more")  # the name of the successor ends with it
        assert undo(scene, end).replaced == everyone[0]
        assert all_seen(scene, 0, *everyone[1:]).names[0] == "n0"

    def test_is_refused_where_a_lost_track_would_have_ended_meanwhile(self) -> None:
        scene = two_tracks(max_gap=4)
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        for _ in range(2):
            scene.frame(1, {0: 0})
        assert scene.tracker.window.retired.tolist() == [1]
        scene.frame(1, {0: 0})
        assert not len(scene.tracker.window.retired)
        refused(scene, "track 1 would have ended meanwhile without it .max_gap")

    def test_is_refused_where_the_successor_has_ended(self) -> None:
        scene = two_tracks(max_gap=2)
        correct(scene, Action.END, 1)
        all_seen(scene, 0, 1)
        for _ in range(3):
            scene.frame(1, {0: 0})
        refused(scene, "track 2, as which track 1 has gone on, has ended")

    def test_of_a_tentative_track_is_refused_where_it_would_have_ended(self) -> None:
        scene = two_tracks(min_hits=3)
        correct(scene, Action.END, 1)
        scene.frame(1, {0: 0})
        scene.frame(1, {0: 0})
        assert len(scene.tracker.window.retired) == 1
        scene.frame(1, {0: 0})
        refused(scene, "would have ended meanwhile")

    def test_counts_the_frames_of_the_old_and_the_new_track(self) -> None:
        scene = two_tracks(min_hits=3)
        all_seen(scene, 0, 1)
        correct(scene, Action.END, 1)
        all_seen(scene, 0, 1)
        undo(scene)
        assert states(scene)[1] == ("active", 0)

    def test_keeps_to_max_tracks(self) -> None:
        scene = two_tracks(max_tracks=2)
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        scene.frame(2, {0: 0})
        refused(scene, "track 1 needs a place, and 2 tracks are live; max_tracks is 2. End one that is no animal first")
        correct(scene, Action.END, 2)
        undo(scene, 1)
        assert all_seen(scene, 0, 1).track_ids.tolist() == [0, 1]

    def test_is_refused_where_its_place_was_needed(self) -> None:
        scene = two_tracks(max_active_tracks=3)
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        scene.frame(3, {0: 0})
        assert len(scene.tracker.window.live) == 3
        refused(scene, "limits.active_tracks")

    def test_is_refused_where_the_clip_has_ended(self) -> None:
        scene = Scene(clip_length=4, persistent_tracking=False)
        scene.frame(2)
        scene.frame(1, {0: 0})
        correct(scene, Action.END, 1)
        scene.frame(1, {0: 0})
        scene.frame(1, {0: 0})
        scene.frame(1)
        refused(scene, "the end of its clip")

    def test_is_refused_while_a_later_correction_concerns_the_successor(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        all_seen(scene, 0, 1)
        correct(scene, Action.SWAP, 0, 2)
        refused(scene, "correction 2 .swap. concerns track 2 too", 1)

    def test_of_a_chain_is_possible_from_its_end_on(self) -> None:
        scene = two_tracks()
        correct(scene, Action.END, 1)
        all_seen(scene, 0, 1)
        correct(scene, Action.END, 2)
        all_seen(scene, 0, 2)  # track 3
        refused(scene, "correction 2 .end. concerns track 2 too", 1)
        undo(scene)
        assert all_seen(scene, 0, 2).track_ids.tolist() == [0, 2]
        undo(scene)
        assert all_seen(scene, 0, 1).track_ids.tolist() == [0, 1]

    def test_can_be_repeated(self) -> None:
        scene = two_tracks()
        for step in range(4):
            correct(scene, Action.END, 1)
            assert changes(all_seen(scene, 0, 1)) == {"new": (2 + step,), "ended": (1,)}
            undo(scene)
            assert changes(all_seen(scene, 0, 1)) == {"ended": (2 + step,), "restored": (1,)}

    def test_and_another_end_before_the_next_frame_change_nothing(self) -> None:
        scene = two_tracks()
        scene.frame(1, {0: 0})
        correct(scene, Action.RENAME, 1, name="Ann")
        correct(scene, Action.END, 1)
        scene.frame(1, {0: 0})
        undo(scene)
        correct(scene, Action.END, 1)
        found = scene.frame(1, {0: 0})
        assert changes(found) == {}
        assert undo(scene).restored == 1
        scene.frame(1, {0: 0})
        assert all_seen(scene, 0, 1).names == (None, "Ann")


def merged(**settings: Any) -> Scene:
    """Track 1 was lost after its second frame and has gone on as 2, which is merged into it."""
    scene = Scene(**settings)
    scene.frame(2)
    all_seen(scene, 0, 1)
    scene.frame(1, {0: 0})
    scene.frame(2, {0: 0})
    correct(scene, Action.MERGE, 2, into=1)
    return scene


class TestMerge:
    def test_parts_the_animals_again(self) -> None:
        scene = merged()
        for _ in range(9):
            assert all_seen(scene, 0, 1).track_ids.tolist() == [0, 1]
        assert undo(scene).restored == 2
        assert states(scene) == {0: ("active", 0), 1: ("lost", 0), 2: ("active", 3)}
        found = all_seen(scene, 0, 2)
        assert found.track_ids.tolist() == [0, 2]
        assert changes(found) == {"lost": (1,), "restored": (2,)}
        assert changes(scene.frame(3, {0: 0, 1: 2, 2: 1})) == {"found": (1,)}

    def test_leaves_the_names_with_the_ids(self) -> None:
        scene = merged()
        undo(scene)
        correct(scene, Action.RENAME, 1, name="Ann")
        correct(scene, Action.RENAME, 2, name="Bob")
        correct(scene, Action.MERGE, 2, into=1)
        assert all_seen(scene, 0, 1).names == (None, "Ann")
        undo(scene)
        assert scene.frame(3, {0: 0, 1: 2, 2: 1}).names == (None, "Bob", "Ann")

    def test_ends_the_other_track_where_it_would_have_ended_meanwhile(self) -> None:
        scene = merged(max_gap=4)
        for _ in range(4):
            all_seen(scene, 0, 1)
        undo(scene)
        found = all_seen(scene, 0, 2)
        assert (found.track_ids.tolist(), changes(found)) == ([0, 2], {"ended": (1,), "restored": (2,)})

    def test_of_a_lost_track_into_one_that_is_seen_makes_it_lost_again(self) -> None:
        scene = merged()
        undo(scene)
        correct(scene, Action.MERGE, 1, into=2)
        all_seen(scene, 0, 2)
        assert undo(scene).restored == 1
        assert states(scene) == {0: ("active", 0), 1: ("lost", 0), 2: ("active", 3)}
        found = scene.frame(3, {0: 0, 1: 2, 2: 1})
        assert (found.track_ids.tolist(), changes(found)) == ([0, 2, 1], {"restored": (1,)})

    def test_of_a_lost_track_that_would_have_ended_is_refused(self) -> None:
        scene = merged(max_gap=4)
        undo(scene)
        correct(scene, Action.MERGE, 1, into=2)
        for _ in range(4):
            all_seen(scene, 0, 2)
        refused(scene, "track 1 would have ended meanwhile")

    def test_is_refused_where_the_track_that_stayed_has_ended(self) -> None:
        scene = merged(max_gap=3)
        for _ in range(4):
            scene.frame(1, {0: 0})
        refused(scene, "correction 1 .merge. cannot be undone: track 1 has ended")

    def test_gives_each_track_the_frames_that_it_was_seen_in(self) -> None:
        scene = merged(min_hits=4)
        all_seen(scene, 0, 1)
        assert states(scene)[1][0] == "active"  # 2 + 1 + 1 frames
        undo(scene)
        assert (states(scene)[1], states(scene)[2]) == (("tentative", 0), ("tentative", 3))
        scene.frame(3, {0: 0, 1: 2, 2: 1})
        assert (states(scene)[1][0], states(scene)[2][0]) == ("tentative", "tentative")
        scene.frame(3, {0: 0, 1: 2, 2: 1})
        assert (states(scene)[1][0], states(scene)[2][0]) == ("active", "active")

    def test_keeps_to_max_tracks(self) -> None:
        scene = merged(max_tracks=3)
        scene.frame(3, {0: 0, 1: 1})
        refused(scene, "track 1 needs a place, and 3 tracks are live; max_tracks is 3")


def test_what_can_be_undone_and_what_is_retired_for_it_is_bounded() -> None:
    scene = Scene(max_active_tracks=256)
    scene.frame(MAX_KEPT + 4)
    for track in range(MAX_KEPT + 2):
        correct(scene, Action.END, track)
        scene.frame(0)
    assert len(scene.tracker.window.retired) == MAX_KEPT
    refused(scene, "is none of the last 64", 2)
    for _ in range(MAX_KEPT):
        undo(scene)
        scene.frame(0)
    assert not len(scene.tracker.window.retired)
    assert set(states(scene)) == set(range(2, MAX_KEPT + 4))


def test_a_restored_tracker_goes_on_with_all_that_can_be_undone() -> None:
    scene, other = two_tracks(), Scene()
    for track in (1, 0):
        correct(scene, Action.RENAME, track, name=f"n{track}")
        correct(scene, Action.END, track)
        scene.frame(1)
    other.tracker.restore(unpack(pack(scene.tracker.snapshot())))
    other.tracker.check_integrity()
    other.next_index = scene.next_index
    results = []
    for each in (scene, other):
        undone = undo(each, 4), undo(each, 2)
        found = each.frame(2, {0: 0, 1: 1})
        results.append((undone, found.track_ids.tolist(), changes(found), found.names, states(each)))
    assert results[0] == results[1]
    assert results[0][1] == [0, 1]
    assert results[0][3] == ("n0", "n1")


def test_a_snapshot_of_an_earlier_version_is_read_and_says_what_it_lacks() -> None:
    scene, other = two_tracks(), Scene()
    correct(scene, Action.END, 1)
    scene.frame(1, {0: 0})
    state = unpack(pack(scene.tracker.snapshot()))
    for name in ("slots", "ids", "boxes", "frame_index", "count", "position"):  # it had released the slot
        state["window"][name] = state["window"][name][:1]
    for name in set(state["lifecycle"]) - {"next_id"}:
        state["lifecycle"][name] = state["lifecycle"][name][:1]
    del state["window"]["retired"], state["corrections"]["successors"]
    for kept in state["corrections"]["kept"]:
        for name in ("hits", "restored", "replaced"):
            del kept[name]
    other.tracker.restore(state)
    other.next_index = scene.next_index
    refused(other, "track 1 would have ended meanwhile")
    assert other.frame(2, {0: 0}).track_ids.tolist() == [0, 2]
