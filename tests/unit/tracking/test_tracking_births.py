"""Births: the scorer learns from a stream how many observations belong to no track, and when tracks return."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.config import TrackerConfig
from trackd.models.motion import update
from trackd.models.motion.records import N_GAPS, STATISTICS
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SIDE = 24.0


def tracker() -> Tracker:
    return Tracker(TrackerConfig(), MotionScorer())


def step(one: Tracker, number: int, centres: np.ndarray) -> Assignment:
    boxes = np.concatenate([centres - SIDE / 2, centres + SIDE / 2], axis=1).astype(np.float32)
    return one.step(number, number * 10**8, Instances.of(Detections(boxes=boxes), LiveDataset()), None, number)


def statistics(one: Tracker) -> np.void:
    scorer = one.scorer
    assert isinstance(scorer, MotionScorer)
    return scorer.motion._statistics[0]


def walk(n: int, frames: int, seed: int, speed: float) -> np.ndarray:
    """Centres (frames, n, 2) of walkers that bounce off the walls of a field of 1000 px, `speed` px per frame."""
    rng = np.random.default_rng(seed)
    place, direction = rng.uniform(50, 950, (n, 2)), rng.normal(0, 1, (n, 2))
    centres = []
    for _ in range(frames):
        direction += rng.normal(0, 0.2, direction.shape)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        place = place + speed * direction
        direction[(place < 20) | (place > 980)] *= -1
        place = np.clip(place, 20, 980)
        centres.append(place)
    return np.array(centres)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("speed", [12.0, 30.0])
def test_a_closed_set_of_fast_animals_keeps_its_ids(seed: int, speed: float) -> None:
    """They move by more than their own length, and bounce off walls; none is ever new."""
    one = tracker()
    for number, centres in enumerate(walk(6, 300, seed, speed)):
        found = step(one, number, centres)
    assert one.next_id == 6
    assert len(set(found.track_ids.tolist())) == 6
    assert statistics(one)["births"] < 0.05


def test_a_stream_is_closed_until_an_object_comes() -> None:
    one = tracker()
    homes = np.array([[100.0, 100], [900, 100], [100, 900], [900, 900], [500, 500], [500, 700], [700, 500]])
    chances = []
    for number in range(240):
        # Two more are there at once, as where a detector misses some in the first frame. Others come much later.
        step(one, number, homes[: 2 if number == 0 else 4 + number // 60])
        chances.append(statistics(one)["closed"])
    assert one.next_id == 7
    assert chances[10] < 0.7, "a few frames say little"
    assert chances[59] > 0.75
    assert chances[61] < 0.5
    assert chances[239] < 0.1


@pytest.mark.parametrize(("frames", "comes", "ids"), [(200, False, [0, 1]), (200, True, [0, 3]), (20, False, [0, 2])])
def test_a_missing_animal_of_a_closed_stream_returns_within_its_reach(frames: int, comes: bool, ids: list[int]) -> None:
    """It returns at a place that is unusual for a track, in a stream that is closed, was not, or is not known."""
    one = tracker()
    for number in range(frames):
        others = [[800.0, 800.0]] if comes and number >= frames - 20 else []
        step(one, number, np.array([[100.0, 100], [500, 100], *others]))
    for number in range(frames, frames + 3):
        step(one, number, np.array([[100.0, 100], *others]))
    found = step(one, frames + 3, np.array([[100.0, 100], [500, 100 + 7 * SIDE], *others]))  # its reach is 8 sides
    assert found.track_ids.tolist()[:2] == ids
    assert found.flags == (("forced",) if ids == [0, 1] else ())


def test_in_a_closed_stream_what_is_out_of_reach_begins_a_track() -> None:
    one = tracker()
    homes = np.array([[100.0, 100], [500, 100]])
    for number in range(200):
        step(one, number, homes)
    assert step(one, 200, np.array([[100.0, 100], [500, 100 + 9 * SIDE]])).new_tracks == (2,)


def test_the_births_of_an_open_set_are_learnt() -> None:
    """Each frame two objects appear and two of forty disappear; all others stay where they are."""
    rng = np.random.default_rng(0)
    one = tracker()
    places = rng.uniform(0, 2000, (40, 2))
    for number in range(200):
        step(one, number, places)
        places = np.concatenate([places[2:], rng.uniform(0, 2000, (2, 2))])
    assert 1.5 < statistics(one)["births"] < 2.5
    assert one.next_id == 40 + 2 * 199


def test_an_animal_whose_jump_is_out_of_reach_counts_as_a_movement_and_not_as_a_birth() -> None:
    one = tracker()
    homes = np.array([[100.0, 100], [900, 100], [100, 900], [900, 900]])
    for number in range(50):
        step(one, number, homes)
    before = statistics(one)["births"]
    homes[0, 1] += 4 * SIDE
    step(one, 50, homes)
    assert statistics(one)["births"] < before + 0.2 / 50, "a birth would add a fiftieth"


def test_the_chance_of_a_return_is_that_of_the_stream() -> None:
    """An object is missed in every second frame, another one leaves for good."""
    one = tracker()
    homes = np.array([[100.0, 100], [900, 100], [100, 900]])
    for number in range(400):
        kept = [0, *([1] if number % 2 == 0 else []), *([2] if number < 50 else [])]
        step(one, number, homes[kept])
    seen = statistics(one)
    chances = (seen["returns"] / seen["exposures"]).reshape(-1, N_GAPS)[2]
    assert chances[0] == pytest.approx(2 / 3, abs=0.1)  # of 400 + 200 frames after an observation, 400
    assert chances[1] > 0.9  # it is always back after one frame
    assert chances[-1] < 0.01
    assert one.next_id == 3


def test_the_likeliest_assignment_is_found_where_the_largest_sum_of_probabilities_is_another() -> None:
    """Two walkers in a row: the one behind moves to where the one in front was."""
    one = tracker()
    for number in range(30):
        step(one, number, np.array([[100.0 + 20 * number, 100], [140.0 + 20 * number, 100]]))
    found = step(one, 30, np.array([[100.0 + 20 * 30, 100], [140.0 + 20 * 30 + 30, 100]]))
    assert found.track_ids.tolist() == [0, 1]


def test_statistics_of_an_earlier_version_are_taken_as_far_as_they_are_known() -> None:
    one, other = tracker(), tracker()
    for number, centres in enumerate(walk(6, 60, 0, 12.0)):
        step(one, number, centres)
    state = one.snapshot()
    names = list(STATISTICS.names or ())
    fields = STATISTICS.fields
    assert fields is not None
    known = fields["births"][1] // 8
    state["scorer"]["motion"]["learnt"] = np.append(state["scorer"]["motion"]["learnt"][:known], [0.02, 300.0, 800.0])
    other.restore(state)
    first = update.initial_statistics()[0]
    for name in names[: names.index("births")]:
        assert np.array_equal(statistics(other)[name], statistics(one)[name], equal_nan=True), name
    for name in names[names.index("births") :]:
        assert np.array_equal(statistics(other)[name], first[name]), name
    assert step(other, 60, walk(6, 61, 0, 12.0)[60]).track_ids.tolist() == list(range(6))


def test_statistics_of_a_version_that_did_not_know_closed_streams_keep_their_births() -> None:
    one, other = tracker(), tracker()
    for number, centres in enumerate(walk(6, 60, 0, 12.0)):
        step(one, number, centres)
    state = one.snapshot()
    fields = STATISTICS.fields
    assert fields is not None
    state["scorer"]["motion"]["learnt"] = state["scorer"]["motion"]["learnt"][: fields["first_births"][1] // 8]
    other.restore(state)
    births = statistics(one)["births"]
    assert [statistics(other)[name] for name in ("births", "open_births", "first_births")] == [births] * 3
    assert statistics(other)["settled_frames"] == -update.START_FRAMES
    assert step(other, 60, walk(6, 61, 0, 12.0)[60]).track_ids.tolist() == list(range(6))


@pytest.mark.parametrize("settings", [{"overlap_thresh": 0.02}, {"mult_thresh": True}, {"max_center_dist": 0.5}])
def test_what_a_configuration_excludes_is_excluded_in_a_closed_stream_too(settings: dict[str, float]) -> None:
    one = Tracker(TrackerConfig(**settings), MotionScorer())
    homes = np.array([[100.0, 100], [500, 100]])
    for number in range(200):
        step(one, number, homes)
    assert statistics(one)["closed"] > 0.9
    for number in range(200, 203):
        step(one, number, homes[:1])
    found = step(one, 203, np.array([[100.0, 100], [500, 100 + 7 * SIDE]]))
    assert found.new_tracks == (2,)
