"""Fragments: the parts of tracks within which an id cannot have been exchanged."""

from __future__ import annotations

import numpy as np

from trackd.identity.fragments import Fragments


def box(x: float, y: float = 0.0, side: float = 10.0) -> list[float]:
    return [x, y, x + side, y + side]


def observe(fragments: Fragments, index: int, tracks: dict[int, list[float]], ended: tuple[int, ...] = ()):
    ids = np.array(list(tracks), np.int32)
    boxes = np.array(list(tracks.values()), np.float32).reshape(-1, 4)
    return dict(zip(tracks, fragments.observe(index, ids, boxes, ended), strict=True))


def test_tracks_that_do_not_touch_stay_in_one_certain_fragment():
    fragments = Fragments()
    first = observe(fragments, 0, {0: box(0), 1: box(50)})
    later = observe(fragments, 1, {0: box(3), 1: box(47)})
    assert later[0] is first[0]
    assert later[0].suspects == {0}
    assert later[1].suspects == {1}


def test_tracks_that_touch_are_in_no_fragment_and_suspect_each_other_afterwards():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50), 2: box(200)})
    touching = observe(fragments, 1, {0: box(20), 1: box(25), 2: box(200)})
    apart = observe(fragments, 2, {0: box(0), 1: box(50), 2: box(200)})
    assert touching[0] is touching[1] is None
    assert apart[0].suspects == apart[1].suspects == {0, 1}
    assert apart[2].suspects == {2}


def test_suspicion_passes_on_from_contact_to_contact():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50), 2: box(100)})
    observe(fragments, 1, {0: box(20), 1: box(25), 2: box(100)})
    observe(fragments, 2, {0: box(0), 1: box(50), 2: box(100)})
    observe(fragments, 3, {0: box(0), 1: box(75), 2: box(80)})
    apart = observe(fragments, 4, {0: box(0), 1: box(50), 2: box(100)})
    assert apart[2].suspects == {0, 1, 2}


def test_a_confirmed_fragment_takes_its_id_from_the_suspects_of_the_others():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50)})
    observe(fragments, 1, {0: box(20), 1: box(25)})
    apart = observe(fragments, 2, {0: box(0), 1: box(50)})
    fragments.confirm(apart[0])
    fragments.trust([1])
    again = observe(fragments, 3, {0: box(0), 1: box(50)})
    assert again[1].suspects == {1}
    assert again[0] is apart[0]


def test_a_track_that_is_missed_alone_stays_in_its_fragment():
    fragments = Fragments()
    first = observe(fragments, 0, {0: box(0), 1: box(200)})
    observe(fragments, 1, {1: box(200)})
    again = observe(fragments, 2, {0: box(0), 1: box(200)})
    assert again[0] is first[0]
    assert fragments.is_continued(first[0])


def test_two_tracks_that_are_lost_for_long_near_each_other_may_have_exchanged_their_ids():
    fragments = Fragments()
    first = observe(fragments, 0, {0: box(0), 1: box(60), 2: box(500)})
    for index in range(1, 40):
        observe(fragments, index, {2: box(500)})
    again = observe(fragments, 40, {0: box(0), 1: box(60), 2: box(500)})
    assert again[0].suspects == again[1].suspects == {0, 1}
    assert again[0].after_gap
    assert again[0].before == first[0].number
    assert not fragments.is_continued(first[0])
    assert again[2] is first[2]


def test_a_track_that_is_lost_beside_another_one_is_suspected_in_it():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(12)})
    observe(fragments, 1, {0: box(2)})
    again = observe(fragments, 2, {0: box(2), 1: box(40)})
    assert again[0].suspects == again[1].suspects == {0, 1}


def test_tracks_in_one_box_suspect_each_other_and_are_not_sampled():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(12)})
    one_box = np.array([[0, 0, 22, 10]], np.float32)
    assert fragments.observe(1, np.array([0], np.int32), one_box, (), [(0, 1)]) == [None]
    assert fragments.observe(2, np.array([0], np.int32), one_box, (), [(0, 1)]) == [None]
    apart = observe(fragments, 3, {0: box(0), 1: box(40)})
    assert apart[0].suspects == apart[1].suspects == {0, 1}


def test_a_new_track_may_be_any_lost_one_and_no_other():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(500)})
    observe(fragments, 1, {0: box(0)})
    fresh = observe(fragments, 2, {0: box(0), 7: box(300)})
    assert fresh[7].suspects == {1, 7}
    assert fresh[0].suspects == {0}


def test_an_ended_track_is_suspected_nowhere():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50)})
    observe(fragments, 1, {0: box(20), 1: box(25)})
    apart = observe(fragments, 2, {0: box(0)}, ended=(1,))
    assert apart[0].suspects == {0}


def test_fragments_whose_ids_are_exchanged_go_on_under_their_new_ids():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50)})
    observe(fragments, 1, {0: box(20), 1: box(25)})
    apart = observe(fragments, 2, {0: box(0), 1: box(50)})
    fragments.move({0: 1, 1: 0}, {}, [apart[0], apart[1]])
    later = observe(fragments, 3, {1: box(0), 0: box(50)})
    assert later[1] is apart[0]
    assert later[0] is apart[1]


def test_the_suspects_of_other_tracks_follow_the_ids_that_are_exchanged():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50), 2: box(100)})
    observe(fragments, 1, {0: box(0), 1: box(75), 2: box(80)})
    apart = observe(fragments, 2, {0: box(0), 1: box(50), 2: box(100)})
    assert apart[2].suspects == {1, 2}
    fragments.move({0: 1, 1: 0}, {}, [])  # found of what was long before: track 1 was 0
    assert apart[2].suspects == {0, 1, 2}
    later = observe(fragments, 3, {1: box(0), 0: box(50), 2: box(100)})
    assert later[2] is apart[2]
    assert later[0] is apart[1]


def test_a_new_track_goes_on_as_the_lost_one_that_it_is():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(500)})
    observe(fragments, 1, {0: box(0)})
    fresh = observe(fragments, 2, {0: box(0), 7: box(300)})
    fragments.move({}, {7: 1}, [fresh[7]])
    later = observe(fragments, 3, {0: box(0), 1: box(300)}, ended=(7,))
    assert later[1] is fresh[7]
    assert sorted(fragments.tracks) == [0, 1]


def test_an_id_that_a_person_corrected_begins_a_certain_fragment():
    fragments = Fragments()
    observe(fragments, 0, {0: box(0), 1: box(50)})
    observe(fragments, 1, {0: box(20), 1: box(25)})
    apart = observe(fragments, 2, {0: box(0), 1: box(50)})
    fragments.trust([0, 1])
    later = observe(fragments, 3, {0: box(0), 1: box(50)})
    assert later[0] is not apart[0]
    assert later[0].suspects == {0}


def test_instances_without_a_track_have_no_fragment():
    assert Fragments().observe(0, np.array([-1], np.int32), np.array([box(0)], np.float32), ()) == [None]
