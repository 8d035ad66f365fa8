"""Identification beside the steps of a stream: animals that turn back where they meet keep their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from identified_scene import Scene, looks
from meeting_animals import BACK, GONE

from trackd.engine.identification import swaps
from trackd.tracking.correction import Action, Correction


def test_two_animals_that_turn_back_unseen_get_their_ids_back():
    run = Scene(looks(3)).run(0, 180)
    before, exchanged, after = run.ids[GONE - 1], run.ids[BACK + 2], run.ids[-1]
    assert exchanged[0] == before[1], "without images the tracker takes them for animals that have passed each other"
    assert after == before


def test_animals_that_come_back_as_new_tracks_get_their_old_ids():
    run = Scene(looks(3), max_tracks=None, overlap_thresh=20.0).run(0, 180)
    assert {run.ids[BACK + 2][0], run.ids[BACK + 2][1]}.isdisjoint(run.ids[0].values())
    assert run.ids[-1] == run.ids[0]
    (index,) = run.corrected
    assert [each["action"] for each in run.assignments[index + 1].corrections] == ["merge", "merge"]


def test_the_correction_comes_within_two_seconds_and_is_stated():
    run = Scene(looks(3)).run(0, 180)
    (event,) = [event for event in run.events if event["event"] == "swap_corrected"]
    (index,) = run.corrected
    assert index < BACK + 60
    assert sorted(event["tracks"]) == sorted(event["into"]) == sorted([run.ids[0][0], run.ids[0][1]])
    assert BACK <= event["since"] <= index
    assert event["evidence"] > 4
    (correction,) = run.assignments[index + 1].corrections
    assert correction["author"] == "trackd"
    assert correction["action"] == "swap"


def test_animals_that_look_alike_keep_the_ids_of_the_tracker():
    same = np.repeat(looks(1), 3, axis=0)
    run = Scene(same).run(0, 180)
    assert not run.corrected
    assert run.ids[-1][0] == run.ids[GONE - 1][1]


def test_without_the_setting_no_image_is_read_and_nothing_is_corrected():
    scene = Scene(looks(3), learn_identities=False)
    assert scene.state.identification is None
    assert not scene.state.needs_image
    assert not scene.run(0, 180).corrected


def test_frames_without_images_teach_nothing():
    assert not Scene(looks(3), with_images=False).run(0, 180).corrected


def test_the_same_frames_give_the_same_ids():
    first, second = Scene(looks(3)).run(0, 180), Scene(looks(3)).run(0, 180)
    assert first.ids == second.ids
    assert first.events == second.events


def test_a_person_who_takes_the_correction_back_is_believed():
    scene = Scene(looks(3))
    run = scene.run(0, BACK + 40)
    assert run.corrected
    scene.state.correct(Correction(Action.UNDO, author="ana"))
    later = scene.run(BACK + 40, 180)
    assert not later.corrected
    assert later.ids[-1][0] == run.ids[GONE - 1][1]


def test_a_snapshot_that_is_restored_continues_with_the_corrected_ids():
    scene = Scene(looks(3))
    run = scene.run(0, BACK + 40)
    other = Scene(looks(3))
    other.state.tracker.restore(scene.state.tracker.snapshot())
    assert other.run(BACK + 40, 180).ids[-1] == run.ids[-1]


def test_an_error_in_the_learning_leaves_the_frame_tracked(monkeypatch):
    scene = Scene(looks(3))

    def fail(*_: Any) -> list[Any]:
        raise ValueError("no")

    assert scene.state.identification is not None
    monkeypatch.setattr(scene.state.identification._identities, "learn", fail)
    assert len(scene.run(0, 60).ids) == 60
    assert scene.state.identification is None


@pytest.mark.parametrize(
    "exchanged", [{}, {1: 2, 2: 1}, {1: 2, 2: 3, 3: 1}, {1: 3, 2: 4, 3: 1, 4: 2}, {5: 5}, {1: 4, 4: 2, 2: 3, 3: 1}]
)
def test_swaps_give_each_track_its_new_id(exchanged):
    ids = {track: track for track in exchanged}
    for one, other in swaps(exchanged):
        ids = {track: {one: other, other: one}.get(now, now) for track, now in ids.items()}
    assert ids == exchanged
