"""Laws for every stream, with any detections and logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scripted import DATASET

from trackd.config import TrackerConfig
from trackd.models.motion import filter_bank
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "short gaps": {"max_gap": 2, "window_size": 3},
    "few tracks": {"max_tracks": 4, "max_gap": 5},
    "all rules": {
        "iou": "mult",
        "max_center_dist": 60.0,
        "semantics": "2026",
        "confidence_threshold": 0.5,
        "decay_time": 0.9,
    },
    "filtered": {"iou": "max", "max_center_dist": 0.5, "max_gap_s": 0.2},
    "clips": {"persistent_tracking": False},
    "tentative": {"min_hits": 3, "max_tracks": 6},
}
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
LAWS = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
configs = st.sampled_from(sorted(CONFIGS))


def stream(seed: int, n_frames: int = 25, broken: float = 0.1) -> list[tuple[int, Detections]]:
    """Return wandering boxes that appear and disappear, in changing order, with dropped frames and some broken rows."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 9))
    centres, speed = rng.uniform(0, 300, (size, 2)), rng.normal(0, 4, (size, 2))
    frames, index = [], 0
    for _ in range(n_frames):
        index += int(rng.choice([1, 1, 1, 2, 5]))
        centres = centres + speed + rng.normal(0, 1, (size, 2))
        shown = rng.permutation(size)[: rng.integers(0, size + 1)]
        boxes = np.concatenate([centres[shown] - 15, centres[shown] + 15], axis=1).astype(np.float32)
        boxes[rng.random(len(boxes)) < broken, rng.integers(4)] = rng.choice([np.nan, np.inf, -1e9])
        frames.append((index, Detections(boxes=boxes, scores=rng.random(len(boxes)).astype(np.float32))))
    return frames


def tracker(config: str) -> Tracker:
    return Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), 12, 8)


def run(one: Tracker, frames: list[tuple[int, Detections]], start: int = 0) -> list[Assignment]:
    found = []
    for position, (index, detections) in enumerate(frames[start:], start):
        found.append(one.step(index, index * 40_000_000, Instances.of(detections, DATASET), None, position))
        one.check_integrity()
    return found


def plain(assignments: list[Assignment]) -> list[Any]:
    return [
        (
            a.track_ids.tolist(),
            a.track_scores.tobytes(),
            a.new_tracks,
            a.lost_tracks,
            a.found_tracks,
            a.ended_tracks,
            a.flags,
            a.tentative_tracks,
        )
        for a in assignments
    ]


@LAWS
@given(seeds, configs)
def test_every_instance_gets_one_row_and_every_track_at_most_one_instance(seed: int, config: str) -> None:
    frames = stream(seed)
    for (_, detections), found in zip(frames, run(tracker(config), frames), strict=True):
        assert found.track_ids.dtype == np.int32
        assert found.track_scores.dtype == np.float32
        assert found.track_ids.shape == found.track_scores.shape == (len(detections),)
        given_ids = found.track_ids[found.track_ids >= 0].tolist()
        assert len(set(given_ids)) == len(given_ids)


@LAWS
@given(seeds, configs)
def test_ids_rise_and_are_never_used_after_their_end(seed: int, config: str) -> None:
    ended: set[int] = set()
    highest = -1
    for found in run(tracker(config), stream(seed)):
        for new in found.new_tracks:
            assert new == highest + 1
            highest = new
        used = set(found.track_ids.tolist()) - {-1}
        assert not used & ended
        assert not ended & set(found.ended_tracks)
        ended |= set(found.ended_tracks)
        assert not used & ended


@LAWS
@given(seeds, configs)
def test_new_lost_found_and_ended_tracks_agree_with_the_live_tracks(seed: int, config: str) -> None:
    one = tracker(config)
    live: set[int] = set()
    active: set[int] = set()
    frames = stream(seed)
    for position, (index, detections) in enumerate(frames):
        found = one.step(index, index * 40_000_000, Instances.of(detections, DATASET), None, position)
        seen = set(found.track_ids.tolist()) - {-1}
        assert set(found.lost_tracks) == active - seen - set(found.ended_tracks)
        assert set(found.found_tracks) == (seen & live) - active
        assert set(found.new_tracks) == seen - live
        live = (live | seen) - set(found.ended_tracks)
        active = seen
        assert set(one.live().ids.tolist()) == live
        assert set(one.live().ids[one.live().active].tolist()) == active
        assert len(live) <= (CONFIGS[config].get("max_tracks") or 12)


@LAWS
@given(seeds, configs)
def test_the_same_stream_gives_the_same_ids(seed: int, config: str) -> None:
    frames = stream(seed)
    assert plain(run(tracker(config), frames)) == plain(run(tracker(config), frames))


@LAWS
@given(seeds, configs, st.integers(0, 25))
def test_a_restored_tracker_continues_with_the_same_results(seed: int, config: str, cut: int) -> None:
    frames = stream(seed)
    whole, first, second = tracker(config), tracker(config), tracker(config)
    expected = plain(run(whole, frames))[cut:]
    run(first, frames[:cut])
    second.restore(first.snapshot())
    assert plain(run(second, frames, cut)) == expected
    assert second.next_id == whole.next_id


def test_a_snapshot_is_not_changed_by_later_frames() -> None:
    frames = stream(3)
    one, other = tracker("defaults"), tracker("defaults")
    run(one, frames[:10])
    state = one.snapshot()
    expected = plain(run(one, frames, 10))
    other.restore(state)
    assert plain(run(other, frames, 10)) == expected


@LAWS
@given(seeds)
def test_shuffled_detections_get_the_same_tracks(seed: int) -> None:
    frames = stream(seed, broken=0.0)
    rng = np.random.default_rng(seed)
    one, other = tracker("defaults"), tracker("defaults")
    names: dict[int, int] = {}
    for position, (index, detections) in enumerate(frames):
        order = rng.permutation(len(detections))
        assert detections.boxes is not None
        shuffled = Detections(boxes=detections.boxes[order])
        unscored = Detections(boxes=detections.boxes)
        results = [
            each.step(index, index * 40_000_000, Instances.of(found, DATASET), None, position)
            for each, found in ((one, unscored), (other, shuffled))
        ]
        for mine, theirs in zip(results[0].track_ids[order].tolist(), results[1].track_ids.tolist(), strict=True):
            assert names.setdefault(mine, theirs) == theirs


@pytest.mark.parametrize("few_tracks", [0, 1000])
@pytest.mark.parametrize("dense_pairs", [0, 10**9])
def test_skipping_far_pairs_changes_no_id(few_tracks: int, dense_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(12):
        frames = stream(seed, 40)
        expected = [found.track_ids.tolist() for found in run(tracker("defaults"), frames)]
        with monkeypatch.context() as patched:
            patched.setattr(filter_bank, "FEW_TRACKS", few_tracks)
            patched.setattr(filter_bank, "DENSE_PAIRS", dense_pairs)
            results = run(tracker("defaults"), frames)
        assert [found.track_ids.tolist() for found in results] == expected
        for (_, detections), found in zip(frames, results, strict=True):
            assert (found.track_ids[Instances.of(detections, DATASET).spoiled] == -1).all()


@LAWS
@given(seeds, configs)
def test_results_have_nan_only_where_it_is_documented(seed: int, config: str) -> None:
    frames = stream(seed, broken=0.3)
    one = tracker(config)
    for (_, detections), found in zip(frames, run(one, frames), strict=True):
        spoiled = Instances.of(detections, DATASET).spoiled
        assert (found.track_ids[spoiled] == -1).all()
        assert ("invalid_detection" in found.flags) == bool(spoiled.any())
        known = (found.track_ids >= 0) & ~np.isin(found.track_ids, found.new_tracks)
        assert ((found.track_scores[known] >= 0) & (found.track_scores[known] <= 1)).all()
        assert np.isnan(found.track_scores[~known]).all()
        assert np.isfinite(one.live().boxes).all()


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_a_long_stream_does_not_grow_its_window(config: str) -> None:
    one = tracker(config)
    for seed in range(4):
        frames = [(index + 1000 * seed, found) for index, found in stream(seed)]
        run(one, frames)
    assert one.window.capacity <= 16
