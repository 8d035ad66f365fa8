"""The simulation of a lost rack, with few streams."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from fleet_simulation import Arrangement, busiest, draw, simulate
from simulated_fleet import Figures, SimulatedFleet, append_load

FIGURES = Figures()


def lost_fleet(streams: int, capacity: int, seed: int = 0) -> tuple[SimulatedFleet, dict[str, int], list[str]]:
    fleet = SimulatedFleet(
        streams, [number % 4 for number in range(12)], capacity, FIGURES, np.random.default_rng(seed)
    )
    terms = {stream: owner.term for stream, owner in fleet.owners.items()}
    return fleet, terms, fleet.lose(1)


@pytest.mark.parametrize(("streams", "capacity"), [(60, 64), (300, 64), (300, 34)])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_stream_has_one_living_owner_at_the_end(streams: int, capacity: int, seed: int) -> None:
    fleet, terms, lost = lost_fleet(streams, capacity, seed)
    assert len(fleet.owners) == streams
    assert {fleet.racks[owner.member] for owner in fleet.owners.values()} <= {0, 2, 3}
    assert all(fleet.roster.is_alive(owner) for owner in fleet.owners.values())
    assert sum(fleet.loads.values()) == streams
    assert {stream for stream, owner in fleet.owners.items() if owner.term == terms[stream] + 1} == set(lost)
    assert {stream for stream, owner in fleet.owners.items() if owner.term == terms[stream]} == set(terms) - set(lost)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_stream_is_taken_after_the_lease_of_its_owner_and_not_long_after(seed: int) -> None:
    fleet, _, lost = lost_fleet(300, 64, seed)
    soonest = FIGURES.lease_s * 2 / 3
    latest = FIGURES.lease_s + FIGURES.poll_s + 2 * FIGURES.retry_s + 0.2
    assert lost
    assert [stream for stream in lost if not soonest < fleet.claimed_s[stream] < latest] == []
    assert [stream for stream in lost if fleet.opened_s[stream] <= fleet.claimed_s[stream]] == []


@pytest.mark.parametrize("seed", [0, 1])
def test_members_with_room_are_not_overloaded(seed: int) -> None:
    fleet, _, _ = lost_fleet(300, 64, seed)  # 300 streams in 9 × 64 places
    assert max(fleet.loads.values()) <= 64


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fleet_without_a_free_place_spreads_its_streams(seed: int) -> None:
    fleet, _, _ = lost_fleet(300, 34, seed)  # 300 streams in 9 × 34 places
    assert max(fleet.loads.values()) <= 34 + 10


def test_the_same_seed_gives_the_same_times() -> None:
    arrangement = Arrangement("two", 2, 64)
    first, second = (simulate(arrangement, 80, 12, 3, FIGURES, seed=3)[0] for _ in range(2))
    assert first.claimed_s.tolist() == second.claimed_s.tolist()
    assert first.claimed_s.tolist() != simulate(arrangement, 80, 12, 3, FIGURES, seed=4)[0].claimed_s.tolist()


def test_the_fleets_share_streams_and_racks() -> None:
    outcome, fleets = simulate(Arrangement("three", 3, 64), 100, 12, 4, FIGURES, seed=0)
    assert [len(fleet.owners) for fleet in fleets] == [34, 33, 33]
    assert [Counter(fleet.racks.values()) for fleet in fleets] == [Counter(range(4))] * 3
    assert (outcome.living, outcome.after.sum(), outcome.before.sum()) == (9, 100, 100)


@pytest.mark.parametrize(
    ("times", "count"), [([], 0), ([0.0], 1), ([0.0, 0.5, 0.99, 1.0, 1.5, 3.0], 3), ([2.0, 0.0, 1.0], 1)]
)
def test_the_busiest_second_is_found(times: list[float], count: int) -> None:
    assert busiest(np.array(times)) == count


def test_a_log_with_room_takes_each_frame_at_once() -> None:
    load = append_load(10, FIGURES)
    assert (load.append_s, load.queue_s, load.frames, load.share) == (FIGURES.write_p50_s, 0.0, 1.0, 1.0)


def test_in_a_busy_log_as_many_frames_arrive_as_are_appended() -> None:
    streams = 1000
    load = append_load(streams, FIGURES)
    assert load.share == 1.0
    assert 1 < load.frames < FIGURES.queue_frames
    assert load.frames == pytest.approx(FIGURES.fps * load.queue_s)
    served = load.queue_s * FIGURES.appends_s  # in fixed time alone
    assert served > streams, "the bytes take their time too"


def test_a_log_that_cannot_take_all_bytes_says_which_share_it_takes() -> None:
    load = append_load(10_000, FIGURES)  # 122 MB/s to a log of 50 MB/s
    assert load.frames == FIGURES.queue_frames
    bytes_s = load.share * 10_000 * FIGURES.fps * FIGURES.frame_bytes
    assert 0.5 * FIGURES.log_bytes_s < bytes_s < FIGURES.log_bytes_s


def test_the_plot_is_written(tmp_path: Path) -> None:
    arrangement = Arrangement("one", 1, 64)
    draw([(arrangement, simulate(arrangement, 60, 12, 3, FIGURES, seed=0)[0])], tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
