"""Static false detections: a spot at which the detector fires again and again takes no id of an animal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trackd.config import TrackerConfig
from trackd.models.motion.records import TRACK
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SIDE = 40.0
SPOT = np.array([500.0, 400.0])


def at(x: float, y: float = 0.0) -> NDArray[np.float64]:
    """A place in pixels from the spot."""
    return SPOT + np.array([x, y])


def tracker() -> Tracker:
    return Tracker(TrackerConfig(), MotionScorer())


def step(one: Tracker, number: int, centres: NDArray[np.float64]) -> Assignment:
    boxes = np.concatenate([centres - SIDE / 2, centres + SIDE / 2], axis=1).astype(np.float32)
    return one.step(number, number * 10**8, Instances.of(Detections(boxes=boxes), LiveDataset()), None, number)


class Arena:
    """Two animals that walk far from a spot, which is found in 60 % of the frames, and one that waits to pass it."""

    def __init__(self, seed: int, frames: int = 120) -> None:
        self.rng = np.random.default_rng(seed)
        self.one, self.number = tracker(), 0
        self.ids: dict[str, int] = {}
        for k in range(frames):
            self.frame(at(-10 * SIDE, 0.1 * k), spot=k in (0, frames - 1) or self.rng.random() < 0.6)
        self.animal, self.spot = self.ids["animal"], self.ids["spot"]
        assert self.animal != self.spot

    def frame(self, animal: NDArray[np.float64] | None, spot: bool) -> None:
        """Track a frame; `ids` has the ids of what was detected."""
        place = {
            "a": np.array([100 + 2.0 * (self.number % 300), 900.0]),
            "b": np.array([900 - 2.0 * (self.number % 300), 1000.0]),
        }
        if animal is not None:
            place["animal"] = animal
        if spot:
            place["spot"] = SPOT
        noise = {name: 0.01 if name == "spot" else 0.02 for name in place}
        centres = np.array([here + self.rng.normal(0, noise[name] * SIDE, 2) for name, here in place.items()])
        found = step(self.one, self.number, centres)
        self.number += 1
        self.ids = dict(zip(place, found.track_ids.tolist(), strict=True))

    def approach(self, end: NDArray[np.float64], speed: float) -> None:
        """Let the animal walk from where it waits to a place, `speed` in sides per frame; the spot stays dark."""
        start = at(-10 * SIDE, 12.0)
        steps = int(np.linalg.norm(end - start) / (speed * SIDE))
        for k in range(1, steps + 1):
            self.frame(start + (end - start) * k / steps, spot=False)
            assert self.ids["animal"] == self.animal


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed", [0.1, 0.3, 0.6])
def test_a_spot_that_was_dark_keeps_its_id_where_an_animal_is_missed_beside_it(seed: int, speed: float) -> None:
    """The animal is expected a third of a side from the spot, which is the only detection there."""
    arena = Arena(seed)
    arena.approach(at(-(speed + 0.35) * SIDE), speed)
    arena.frame(None, spot=True)
    assert arena.ids["spot"] == arena.spot
    arena.frame(at((speed - 0.35) * SIDE), spot=True)
    assert (arena.ids["animal"], arena.ids["spot"]) == (arena.animal, arena.spot)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed", [0.05, 0.2, 0.5])
def test_an_animal_that_walks_over_a_spot_keeps_its_id(seed: int, speed: float) -> None:
    """The spot is hidden while the animal is near it, and every fifth frame of the animal is missed."""
    arena = Arena(seed)
    arena.approach(at(-1.2 * SIDE), speed)
    for k, sides in enumerate(np.arange(-1.2 + speed, 2.0, speed), 1):
        arena.frame(None if k % 5 == 0 else at(sides * SIDE, 0.1 * SIDE), spot=sides > 1.0)
        assert arena.ids.get("animal", arena.animal) == arena.animal
        assert arena.ids.get("spot", arena.spot) == arena.spot


def test_an_animal_that_rested_from_the_start_keeps_its_id_when_it_leaves() -> None:
    """It was seen at one place only, and missed now and then, as a spot."""
    one = tracker()
    rng = np.random.default_rng(0)
    for number in range(200):
        other = [100 + 2.0 * number, 900.0]
        place = [other] if number % 9 == 5 else [other, SPOT + rng.normal(0, 0.01 * SIDE, 2)]
        step(one, number, np.array(place))
    for number in range(200, 240):
        found = step(one, number, np.array([[100 + 2.0 * number, 900.0], at(0.3 * SIDE * (number - 199), 0.0)]))
        assert sorted(found.track_ids.tolist()) == [0, 1]


def test_tracks_of_an_earlier_version_have_no_home() -> None:
    arena = Arena(0)
    state = arena.one.snapshot()
    names = list(TRACK.names or ())
    fields = TRACK.fields
    assert fields is not None
    motion = state["scorer"]["motion"]
    motion["states"] = motion["states"][: fields["home_x"][1] // 8]
    assert names.index("home_x") > 0
    arena.one = tracker()
    arena.one.restore(state)
    for _ in range(30):
        arena.frame(at(-10 * SIDE, 12.0), spot=True)
        assert (arena.ids["animal"], arena.ids["spot"]) == (arena.animal, arena.spot)


@pytest.mark.parametrize("cut", [20, 110])
def test_a_restored_tracker_keeps_the_homes(cut: int) -> None:
    arena = Arena(1, cut)
    other = tracker()
    other.restore(arena.one.snapshot())
    here = arena.one.scorer, other.scorer
    first, second = (each.motion._tracks[arena.one.window.live] for each in here if isinstance(each, MotionScorer))
    np.testing.assert_array_equal(first, second)
