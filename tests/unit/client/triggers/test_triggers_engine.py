"""The rules engine: what fires for which movement of tracks, without sockets and clocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd_client.protocol import Event, EventName, Status, Tracks
from trackd_client.triggers.engine import Engine
from trackd_client.triggers.settings import read_rules

ZONES = {"zone": [[0, 0], [100, 0], [100, 100], [0, 100]]}
LINES = {"line": [[0, 50], [100, 50]]}
STEP_NS = 100_000_000  # the frames are 0.1 s apart


def engine(keypoints: list[str] | None = None, lines: dict | None = None, **rules: dict) -> Engine:
    tree = {
        "zones": ZONES,
        "lines": lines or LINES,
        "keypoints": keypoints or [],
        "rules": {name: {"do": ["a"], **rule} for name, rule in rules.items()},
    }
    return Engine(read_rules(tree, ["a"]))


def frame(index: int, places: dict[int, tuple[float, float]], *, stream: str = "cam", epoch: int = 1, half: float = 5.0,
          scores: dict[int, float] | None = None, names: dict[int, str] | None = None, **lists) -> Tracks:  # fmt: skip
    """A settlement with a box of 2 × `half` around each place."""
    ids = list(places)
    centres = np.array(list(places.values()), float).reshape(-1, 2)
    return Tracks(
        stream, epoch, index, index, lists.pop("t_ns", index * STEP_NS), Status.TRACKED,
        track_ids=np.array(ids, "<i4"),
        track_scores=np.array([(scores or {}).get(i, 0.9) for i in ids], "<f4"),
        boxes=np.concatenate([centres - half, centres + half], axis=1).astype("<f4"),
        names=tuple(names.get(i) for i in ids) if names else (),
        **lists,
    )  # fmt: skip


def fired(engine: Engine, frames: list[Tracks]) -> list[tuple[int, str, int | None]]:
    """What fires, as (frame index, rule, track)."""
    return [(f.frame_index, f.rule, f.track) for tracks in frames for f in engine.tracks(tracks)]


def walk(xs: list[float], y: float = 50.0, track: int = 0) -> list[Tracks]:
    return [frame(index, {track: (x, y)}) for index, x in enumerate(xs)]


# --- what the daemon reports ---


def test_tracks_that_begin_are_lost_found_or_end_fire_with_their_last_place():
    made = engine(**{when: {"when": when} for when in ("new", "lost", "found", "ended")})
    frames = [
        frame(0, {3: (10, 20), 4: (30, 40)}, new_tracks=(3, 4), parents=(-1, 2)),
        frame(1, {4: (31, 40)}, lost_tracks=(3,)),
        frame(2, {3: (12, 20), 4: (32, 40)}, found_tracks=(3,)),
        frame(3, {3: (13, 20)}, ended_tracks=(4,)),
    ]
    firings = [f for tracks in frames for f in made.tracks(tracks)]
    assert [(f.frame_index, f.rule, f.track, f.x, f.parent) for f in firings] == [
        (0, "new", 3, 10.0, None), (0, "new", 4, 30.0, 2), (1, "lost", 3, 10.0, None),
        (2, "found", 3, 12.0, None), (3, "ended", 4, 32.0, None),
    ]  # fmt: skip


def test_a_track_that_is_restored_fires_and_begins_anew_for_the_other_rules():
    made = engine(back={"when": "restored"}, enter={"when": "zone_enter", "zone": "zone"})
    frames = [
        frame(0, {3: (-20, 50)}, new_tracks=(3,)),
        frame(1, {3: (50, 50)}),
        frame(2, {4: (50, 50)}, new_tracks=(4,), ended_tracks=(3,)),
        frame(3, {3: (60, 50)}, ended_tracks=(4,), restored_tracks=(3,)),
        frame(4, {3: (-20, 50)}),
        frame(5, {3: (50, 50)}),
    ]
    assert fired(made, frames) == [
        (1, "enter", 3), (2, "enter", 4), (3, "back", 3), (3, "enter", 3), (5, "enter", 3),
    ]  # fmt: skip


def test_a_rename_and_any_correction_fire_from_their_event():
    made = engine(named={"when": "renamed"}, mended={"when": "corrected"})
    made.tracks(frame(7, {2: (10, 20)}))
    event = Event("cam", EventName.OPENED, 1, 7, {"action": "rename", "tracks": [2], "name": "alice", "number": 1})
    object.__setattr__(event, "event", "corrected")
    firings = made.event(event)
    assert [(f.rule, f.track, f.name, f.correction, f.frame_index, f.x) for f in firings] == [
        ("named", 2, "alice", "rename", 7, 10.0), ("mended", 2, "alice", "rename", 7, 10.0),
    ]  # fmt: skip
    swap = Event("cam", EventName.OPENED, 1, 7, {"action": "swap", "tracks": [2, 5]})
    object.__setattr__(swap, "event", "corrected")
    assert [(f.rule, f.track, f.other) for f in made.event(swap)] == [("mended", 2, 5)]
    assert made.event(Event("cam", EventName.HEARTBEAT, 1, 7)) == []


# --- zones ---


def test_a_track_enters_and_leaves_a_zone_once():
    made = engine(enter={"when": "zone_enter", "zone": "zone"}, leave={"when": "zone_leave", "zone": "zone"})
    assert fired(made, walk([-20, -5, 5, 50, 50, 130, 140, 20])) == [
        (2, "enter", 0), (5, "leave", 0), (7, "enter", 0),
    ]  # fmt: skip


def test_a_track_at_the_edge_has_not_left_within_the_hysteresis():
    rule = {"when": "zone_enter", "zone": "zone", "hysteresis_px": 10}
    assert fired(engine(a=rule), walk([5, -5, 5, -9, 5, -11, 5])) == [(0, "a", 0), (6, "a", 0)]


def test_a_dwell_fires_once_after_its_time_and_again_after_leaving():
    made = engine(a={"when": "dwell", "zone": "zone", "for_s": 0.3})
    firings = [f for tracks in walk([50] * 6 + [200] + [50] * 4) for f in made.tracks(tracks)]
    assert [(f.frame_index, f.value) for f in firings] == [(3, pytest.approx(0.3)), (10, pytest.approx(0.3))]


def test_a_leave_needs_the_stay_of_for_s():
    made = engine(a={"when": "zone_leave", "zone": "zone", "for_s": 0.3})
    assert fired(made, walk([50, 200, 50, 50, 50, 50, 200])) == [(6, "a", 0)]


def test_a_missing_track_keeps_its_state():
    made = engine(a={"when": "zone_enter", "zone": "zone"})
    frames = [frame(0, {0: (50, 50)}), frame(1, {}), frame(2, {0: (50, 50)}), frame(3, {0: (500, 50)})]
    assert fired(made, frames) == [(0, "a", 0)]


def test_an_ended_track_and_another_epoch_are_forgotten():
    made = engine(a={"when": "zone_enter", "zone": "zone"})
    frames = [frame(0, {0: (50, 50)}), frame(1, {}, ended_tracks=(0,)), frame(2, {0: (50, 50)})]
    assert fired(made, frames) == [(0, "a", 0), (2, "a", 0)]
    assert fired(made, [frame(3, {0: (50, 50)}, epoch=2)]) == [(3, "a", 0)]


def test_a_keypoint_is_measured_by_its_name_and_only_where_it_is_visible():
    made = engine(["nose", "tail"], a={"when": "zone_enter", "zone": "zone", "point": "tail"})
    outside, inside = [[500.0, 50.0], [500.0, 50.0]], [[500.0, 50.0], [50.0, 50.0]]
    hidden = [[50.0, 50.0], [np.nan, np.nan]]
    firings = []
    for index, pose in enumerate([outside, hidden, inside, hidden, inside]):
        tracks = frame(index, {0: (50, 50)})
        tracks.keypoints = np.array([pose], "<f4")
        firings += fired(made, [tracks])
    assert firings == [(2, "a", 0)]


# --- lines ---


def test_a_line_is_crossed_in_its_direction_between_its_ends():
    rules = {name: {"when": "line_crossed", "line": "line", "direction": name} for name in
             ("both", "left_to_right", "right_to_left")}  # fmt: skip
    down = [
        frame(0, {0: (50, 40), 1: (150, 40)}),
        frame(1, {0: (50, 50), 1: (150, 50)}),
        frame(2, {0: (50, 60), 1: (150, 60)}),
    ]
    # The line goes to the right in the picture, so whoever walks along it has the lower half at the right hand.
    assert fired(engine(**rules), down) == [(2, "both", 0), (2, "left_to_right", 0)]
    up = [frame(index, {0: (50, y)}) for index, y in enumerate([60, 55, 40])]
    assert fired(engine(**rules), up) == [(2, "both", 0), (2, "right_to_left", 0)]


def test_a_track_that_trembles_on_a_line_does_not_cross_it():
    rule = {"when": "line_crossed", "line": "line", "hysteresis_px": 5}
    frames = [frame(index, {0: (50, y)}) for index, y in enumerate([40, 52, 48, 53, 49, 56, 53, 44])]
    assert fired(engine(a=rule), frames) == [(5, "a", 0), (7, "a", 0)]


points = st.tuples(st.integers(-50, 150), st.integers(-50, 150))


@settings(deadline=None)
@given(st.lists(points, min_size=2, max_size=12), points, points)
def test_the_direction_of_a_crossing_is_opposite_for_the_reverse_line_and_for_the_reverse_path(path, start, end):
    if start == end:
        return
    frames = [frame(index, {0: place}) for index, place in enumerate(path)]
    rule = {"when": "line_crossed", "line": "line"}
    opposite = {"left_to_right": "right_to_left", "right_to_left": "left_to_right"}
    one = engine(lines={"line": [list(start), list(end)]}, a=rule)
    other = engine(lines={"line": [list(end), list(start)]}, a=rule)
    firings = [(f.frame_index, f.direction) for tracks in frames for f in one.tracks(tracks)]
    turned = [(f.frame_index, f.direction) for tracks in frames for f in other.tracks(tracks)]
    assert [(index, opposite[direction]) for index, direction in firings] == turned
    back = engine(lines={"line": [list(start), list(end)]}, a=rule)
    reverse = [frame(index, {0: place}) for index, place in enumerate(reversed(path))]
    returned = [f.direction for tracks in reverse for f in back.tracks(tracks)]
    if len(path) == 2:
        assert returned == [opposite[direction] for _, direction in firings]


# --- pairs ---


def test_two_tracks_are_near_until_they_are_beyond_the_second_distance():
    rule = {"when": "near", "distance": 20, "leave_distance": 40}
    made = engine(a=rule, apart={**rule, "at": "end"})
    frames = [frame(index, {7: (0, 0), 3: (x, 0)}) for index, x in enumerate([50, 30, 20, 30, 15, 41, 30, 10])]
    firings = [f for tracks in frames for f in made.tracks(tracks)]
    assert [(f.frame_index, f.rule, f.track, f.other, f.value) for f in firings] == [
        (2, "a", 3, 7, 20.0), (5, "apart", 3, 7, 41.0), (7, "a", 3, 7, 10.0),
    ]  # fmt: skip


def test_boxes_that_overlap_for_a_time_touch():
    made = engine(a={"when": "touching", "for_s": 0.2})
    xs = [30, 9, 9, 30, 9, 9, 9, 9]
    frames = [frame(index, {0: (0, 0), 1: (x, 3), 2: (100, 100)}) for index, x in enumerate(xs)]
    assert fired(made, frames) == [(6, "a", 0)]


def test_a_pair_is_chosen_by_one_track_and_the_other():
    places = {0: (0, 0), 1: (5, 0), 2: (10, 0)}
    made = engine(
        a={"when": "near", "distance": 50, "tracks": [2], "with_tracks": [0]},
        b={"when": "near", "distance": 50, "tracks": [1]},
        c={"when": "near", "distance": 50, "names": ["bob"]},
    )
    firings = made.tracks(frame(0, places, names={0: "bob"}))
    assert [(f.rule, f.track, f.other) for f in firings] == [
        ("a", 0, 2), ("b", 0, 1), ("b", 1, 2), ("c", 0, 1), ("c", 0, 2),
    ]  # fmt: skip


def test_pairs_apart_hold_no_state_and_an_ended_track_takes_its_pairs_with_it():
    made = engine(a={"when": "near", "distance": 10})
    rng = np.random.default_rng(0)
    for index in range(20):
        made.tracks(frame(index, {i: tuple(rng.uniform(0, 4000, 2)) for i in range(300)}))
    latches = made._streams["cam"]._conditions[0][2]._latches.table
    assert len(latches) < 20
    made.tracks(frame(20, {0: (0, 0), 1: (5, 0)}))
    made.tracks(frame(21, {}, ended_tracks=tuple(range(300))))
    assert len(latches) == 0


@settings(deadline=None)
@given(st.sampled_from([2, 5, 48, 49, 90]), st.integers(0, 2**32 - 1))
def test_the_sweep_finds_the_pairs_of_the_full_table(n, seed):
    rng = np.random.default_rng(seed)
    places = {i: tuple(place) for i, place in enumerate(rng.integers(0, 60, (n, 2)).tolist())}
    firings = engine(a={"when": "near", "distance": 12.0}).tracks(frame(0, places))
    wanted = {(i, j) for i in places for j in places if i < j and np.hypot(*np.subtract(places[i], places[j])) <= 12}
    assert {(f.track, f.other) for f in firings} == wanted


# --- speed, counts, scores ---


def test_a_speed_is_measured_by_capture_time_over_missing_frames():
    made = engine(a={"when": "speed_above", "speed": 100, "leave_speed": 50})
    frames = walk([0, 5, 20, 27, 30, 50])  # 50, 150, 70, 30, 200 px/s
    del frames[3]  # 20 to 30 px in 0.2 s: 50 px/s
    firings = [f for tracks in frames for f in made.tracks(tracks)]
    assert [(f.frame_index, round(f.value)) for f in firings] == [(2, 150), (5, 200)]


def test_a_smoothed_speed_ignores_one_jump():
    rule = {"when": "speed_above", "speed": 100}
    xs = [0, 1, 2, 22, 23, 24]
    assert fired(engine(a=rule), walk(xs)) == [(3, "a", 0)]
    assert fired(engine(a={**rule, "smooth_s": 1.0}), walk(xs)) == []


def test_a_count_has_two_thresholds_and_a_time():
    made = engine(
        a={"when": "count_above", "count": 1, "leave_count": 0, "zone": "zone"},
        b={"when": "count_below", "count": 1, "zone": "zone", "for_s": 0.1},
    )
    counts = [0, 2, 1, 2, 0, 0, 3]
    frames = [frame(i, {t: (50, 50) if t < n else (500, 50) for t in range(4)}) for i, n in enumerate(counts)]
    firings = [f for tracks in frames for f in made.tracks(tracks)]
    assert [(f.frame_index, f.rule, f.track, f.value) for f in firings] == [
        (1, "a", None, 2.0), (5, "b", None, 0.0), (6, "a", None, 3.0),
    ]  # fmt: skip


def test_a_low_score_fires_and_no_score_does_not():
    made = engine(a={"when": "low_confidence", "score": 0.3, "leave_score": 0.6})
    scores = [float("nan"), 0.2, 0.5, 0.2, 0.7, 0.1]
    frames = [frame(i, {0: (0, 0)}, scores={0: score}) for i, score in enumerate(scores)]
    assert fired(made, frames) == [(1, "a", 0), (5, "a", 0)]


# --- filters and times ---


def test_a_rule_is_only_about_its_streams_tracks_and_names():
    zone = {"when": "zone_enter", "zone": "zone"}
    made = engine(
        s={**zone, "streams": ["left"]}, t={**zone, "tracks": [1, 5]}, n={**zone, "names": ["eve"]},
        both={**zone, "tracks": [1], "names": ["eve"]},
    )  # fmt: skip
    inside = {0: (50, 50), 1: (50, 50), 2: (50, 50)}
    assert fired(made, [frame(0, inside, names={2: "eve"})]) == [
        (0, "t", 1),
        (0, "n", 2),
        (0, "both", 1),
        (0, "both", 2),
    ]
    assert [rule for _, rule, _ in fired(made, [frame(0, inside, stream="left")])] == ["s", "s", "s", "t", "both"]


def test_a_name_that_is_taken_back_does_not_count_any_more():
    made = engine(a={"when": "zone_enter", "zone": "zone", "names": ["eve"]})
    outside, inside = {2: (500, 50)}, {2: (50, 50)}
    eve = {2: "eve"}
    frames = [frame(0, outside, names=eve), frame(1, inside, names=eve), frame(2, outside), frame(3, inside)]
    assert fired(made, frames) == [(1, "a", 2)]


def test_a_refractory_time_is_of_each_track_or_of_the_rule():
    zone = {"when": "zone_enter", "zone": "zone", "refractory_s": 0.5}
    made = engine(track=zone, rule={**zone, "refractory_per": "rule"})
    out, inside = (500, 50), (50, 50)
    frames = [
        frame(0, {0: inside, 1: out}), frame(1, {0: out, 1: inside}), frame(2, {0: inside, 1: inside}),
        frame(3, {0: out, 1: out}), frame(6, {0: inside, 1: inside}),
    ]  # fmt: skip
    assert fired(made, frames) == [
        (0, "track", 0), (0, "rule", 0), (1, "track", 1), (6, "track", 0), (6, "track", 1), (6, "rule", 0),
    ]  # fmt: skip


def test_a_clock_that_is_set_back_does_not_silence_a_rule():
    made = engine(a={"when": "zone_enter", "zone": "zone", "refractory_s": 0.5})
    times = [100, 101, 0, 1, 3, 7]
    xs = [50, 500, 50, 500, 50, 500]
    frames = [frame(i, {0: (x, 50)}, t_ns=t * STEP_NS) for i, (x, t) in enumerate(zip(xs, times, strict=True))]
    fired(made, frames)
    assert fired(made, [frame(9, {0: (50, 50)}, t_ns=12 * STEP_NS)]) == [(9, "a", 0)]


def test_dropped_frames_change_nothing():
    made = engine(a={"when": "count_below", "count": 1})
    assert made.tracks(Tracks("cam", 1, 0, 0, 0, Status.DROPPED, "overload")) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 160), st.integers(1, 8)), min_size=1, max_size=60), st.floats(0, 40),
       st.floats(0, 1), st.floats(0, 1))  # fmt: skip
def test_a_rule_never_fires_twice_without_leaving_nor_within_its_refractory_time(steps, hysteresis, for_s, refractory):
    rule = {
        "when": "zone_enter",
        "zone": "zone",
        "hysteresis_px": hysteresis,
        "for_s": for_s,
        "refractory_s": refractory,
    }
    made = engine(a=rule)
    t_ns, last_ns, may_fire = 0, None, True
    for index, (x, wait) in enumerate(steps):
        t_ns += wait * STEP_NS
        if x < -hysteresis - 1e-3 or x > 100 + hysteresis + 1e-3:
            may_fire = True
        for _ in made.tracks(frame(index, {0: (x, 50.0)}, t_ns=t_ns)):
            assert may_fire
            assert -hysteresis - 1e-3 <= x <= 100 + hysteresis + 1e-3
            assert last_ns is None or t_ns - last_ns >= round(refractory * 1e9)
            may_fire, last_ns = False, t_ns


def test_the_message_of_a_rule_is_filled_in():
    made = engine(a={"when": "new", "message": "{track} at {x} {{x}} {name}."})
    assert [f.message for f in made.tracks(frame(0, {4: (1.5, 2)}, new_tracks=(4,)))] == ["4 at 1.5 {x} ."]
