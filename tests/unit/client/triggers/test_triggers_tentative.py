"""Tentative tracks fire nothing: for rules a track begins when it becomes active."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from test_triggers_engine import engine, fired, frame

from trackd_client.protocol import Status, Tracks
from trackd_client.triggers.tentative import WithoutTentative

REPORTS = {when: {"when": when} for when in ("new", "lost", "found", "ended")}


def test_a_track_is_new_in_the_frame_in_which_it_becomes_active():
    frames = [
        frame(0, {3: (10, 20)}, new_tracks=(3,), tentative_tracks=(3,)),
        frame(1, {3: (11, 20)}, tentative_tracks=(3,)),
        frame(2, {3: (12, 20)}),
        frame(3, {}, lost_tracks=(3,)),
        frame(4, {3: (13, 20)}, found_tracks=(3,)),
    ]
    assert fired(engine(**REPORTS), frames) == [(2, "new", 3), (3, "lost", 3), (4, "found", 3)]


def test_a_tentative_track_that_ends_fires_nothing():
    frames = [
        frame(0, {0: (500, 20), 3: (10, 20)}, new_tracks=(0, 3), tentative_tracks=(0, 3)),
        frame(1, {0: (500, 20)}, lost_tracks=(3,)),
        frame(2, {0: (500, 20), 3: (10, 20)}, found_tracks=(3,), tentative_tracks=(3,)),
        frame(3, {0: (500, 20)}, lost_tracks=(3,)),
        frame(4, {0: (500, 20)}, ended_tracks=(3,)),
        frame(5, {}, lost_tracks=(0,)),
        frame(6, {}, ended_tracks=(0,)),
    ]
    made = engine(**REPORTS, enter={"when": "zone_enter", "zone": "zone"}, many={"when": "count_above", "count": 1})
    assert fired(made, frames) == [(1, "new", 0), (5, "lost", 0), (6, "ended", 0)]


def test_a_track_that_becomes_active_after_a_gap_is_new_and_not_found():
    frames = [
        frame(0, {3: (10, 20)}, new_tracks=(3,), tentative_tracks=(3,)),
        frame(1, {}, lost_tracks=(3,)),
        frame(2, {3: (12, 20)}, found_tracks=(3,)),
    ]
    assert fired(engine(**REPORTS), frames) == [(2, "new", 3)]


def test_a_track_enters_the_zone_in_which_it_becomes_active():
    frames = [
        frame(0, {3: (50, 50), 4: (50, 60)}, new_tracks=(3, 4), tentative_tracks=(3,)),
        frame(1, {3: (50, 50), 4: (50, 60)}),
    ]
    assert fired(engine(a={"when": "zone_enter", "zone": "zone"}), frames) == [(0, "a", 4), (1, "a", 3)]


def test_the_parent_of_a_tentative_track_is_told_when_it_becomes_active():
    made = engine(new={"when": "new"})
    frames = [
        frame(0, {3: (10, 20), 4: (30, 40)}, new_tracks=(3, 4), parents=(1, 1), tentative_tracks=(3, 4)),
        frame(1, {3: (10, 20), 4: (30, 40)}, tentative_tracks=(4,)),
        frame(2, {5: (90, 90), 4: (30, 40)}, new_tracks=(5,)),
    ]
    firings = [(f.frame_index, f.track, f.parent) for tracks in frames for f in made.tracks(tracks)]
    assert firings == [(1, 3, 1), (2, 4, 1), (2, 5, None)]


def test_rows_keep_their_arrays_and_names_and_frames_without_tracks_pass():
    filtered = WithoutTentative()
    sent = frame(
        0, {4: (1, 1), 2: (2, 2), 9: (3, 3)}, names={4: "a", 9: "b"}, new_tracks=(2,), tentative_tracks=(2,),
        keypoints=np.arange(6).reshape(3, 1, 2),
    )  # fmt: skip
    sent.scores = np.array([0.1, 0.2, 0.3])
    seen = filtered.of(sent)
    assert (seen.track_ids.tolist(), seen.names, seen.new_tracks) == ([4, 9], ("a", "b"), ())
    assert seen.boxes.tolist() == sent.boxes[[0, 2]].tolist()
    assert seen.track_scores.tolist() == sent.track_scores[[0, 2]].tolist()
    assert (seen.keypoints.tolist(), seen.scores.tolist()) == ([[[0, 1]], [[4, 5]]], [0.1, 0.3])
    assert sent.track_ids.tolist() == [4, 2, 9]
    dropped = Tracks("cam", 1, 1, 1, 0, Status.DROPPED, "overload")
    assert filtered.of(dropped).track_ids is None
    assert filtered.of(frame(2, {2: (2, 2)})).new_tracks == (2,)
    plain = frame(3, {2: (2, 2)})
    assert filtered.of(plain) is plain


def test_the_tracks_in_the_box_of_another_one_keep_its_row():
    sent = replace(
        frame(3, {1: (0, 0), 2: (9, 9), 3: (20, 20)}),
        tentative_tracks=(1,), merged_tracks=(7, 8), merged_rows=(2, 0),
    )  # fmt: skip
    kept = WithoutTentative().of(sent)
    assert kept.track_ids.tolist() == [2, 3]
    assert (kept.merged_tracks, kept.merged_rows) == ((7,), (1,))
