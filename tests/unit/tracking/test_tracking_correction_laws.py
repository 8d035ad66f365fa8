"""Laws for every sequence of corrections, in any stream."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tracking_laws import CONFIGS, configs, seeds, stream
from tracking_scripted import DATASET

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.correction import MAX_KEPT, Action, Correction, CorrectionError
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
LAWS = settings(max_examples=25, deadline=None)
RELABELLING = (Action.SWAP, Action.NEW_ID, Action.RENAME)


def random_correction(rng: np.random.Generator, one: Tracker, actions: tuple[Action, ...]) -> Correction:
    """Return a correction of some live tracks, now and then of one that is not live."""
    action = actions[rng.integers(len(actions))]
    live = [*one.live().ids.tolist(), int(rng.integers(-1, 40))] if rng.random() < 0.1 else one.live().ids.tolist()
    tracks = tuple(rng.permutation(live or [0])[:2].tolist())
    if action is Action.SWAP and len(tracks) < 2:
        tracks = (tracks[0], tracks[0])
    if action is Action.UNDO:
        return Correction(action, undoes=int(rng.integers(1, 12)) if rng.random() < 0.5 else None)
    name = f"name {rng.integers(4)}" if rng.random() < 0.8 else None
    return Correction(action, tracks if action is Action.SWAP else tracks[:1], tracks[-1], name)


def step(one: Tracker, position: int, frame: tuple[int, Any]) -> Assignment:
    index, detections = frame
    found = one.step(index, index * 40_000_000, Instances.of(detections, DATASET), None, position)
    one.check_integrity()
    return found


def rows(one: Tracker) -> dict[int, Any]:
    live = one.live()
    columns = (live.active.tolist(), live.boxes.tolist(), live.frame_index.tolist(), live.names)
    return dict(zip(live.ids.tolist(), zip(*columns, strict=True), strict=True))


@LAWS
@given(seeds, configs, st.integers(1, 4))
def test_published_changes_are_those_of_one_life_of_each_id_which_an_undo_continues(
    seed: int, config: str, n: int
) -> None:
    rng = np.random.default_rng(seed)
    one = Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), 12, 8)
    life: dict[int, str] = {}
    for position, frame in enumerate(stream(seed, 40)):
        found = step(one, position, frame)
        seen = set(found.track_ids.tolist()) - {-1}
        assert not set(found.new_tracks) & life.keys(), "an id is new once"
        life |= dict.fromkeys(found.new_tracks, "active")
        assert all(life[track] == "ended" for track in found.restored_tracks)
        life |= dict.fromkeys(found.restored_tracks, "active")
        assert all(life[track] == "lost" for track in found.found_tracks)
        life |= dict.fromkeys(found.found_tracks, "active")
        assert all(life[track] == "active" for track in found.lost_tracks)
        life |= dict.fromkeys(found.lost_tracks, "lost")
        assert all(life[track] in ("active", "lost") for track in found.ended_tracks)
        life |= dict.fromkeys(found.ended_tracks, "ended")
        assert seen == {track for track, state in life.items() if state == "active"}
        assert len(seen) == int((found.track_ids >= 0).sum()), "an id is at one instance at most"
        assert len(one.window.retired) <= MAX_KEPT
        assert len(one.window.placed) <= (one.config.max_tracks or one.window.max_slots)
        states = {track: "active" if row[0] else "lost" for track, row in rows(one).items()}
        assert states == {track: state for track, state in life.items() if state != "ended"}
        for _ in range(rng.integers(n + 1)):
            before = rows(one)
            correction = random_correction(rng, one, tuple(Action))
            with suppress(CorrectionError):
                concerned = one.correct(correction).ids
                after = rows(one)
                assert {t: row for t, row in before.items() if t not in concerned} == {
                    t: row for t, row in after.items() if t not in concerned
                }
                before = after
            assert rows(one) == before, "a correction that is refused changes nothing"
            one.check_integrity()


# Not with tentative tracks: the number of observations goes with the id, and decides when such a track ends.
@LAWS
@given(seeds, configs.filter(lambda config: config != "tentative"))
def test_the_association_is_that_of_a_stream_without_corrections_but_for_the_ids(seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    plain, corrected = (Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), 64, 8) for _ in range(2))
    plain_id: dict[int, int] = {-1: -1}
    for position, frame in enumerate(stream(seed, 40)):
        expected, found = step(plain, position, frame), step(corrected, position, frame)
        for own, other in zip(found.track_ids.tolist(), expected.track_ids.tolist(), strict=True):
            assert plain_id.setdefault(own, other) == other
        assert found.track_scores.tobytes() == expected.track_scores.tobytes()
        for _ in range(rng.integers(3)):
            with suppress(CorrectionError):
                done = corrected.correct(random_correction(rng, corrected, RELABELLING))
                if done.action is Action.SWAP:
                    one, other = done.tracks
                    plain_id[one], plain_id[other] = plain_id[other], plain_id[one]
                elif done.new_id is not None:
                    plain_id[done.new_id] = plain_id.pop(done.tracks[0])


@LAWS
@given(seeds, configs, st.integers(1, 20))
def test_two_equal_swaps_change_nothing(seed: int, config: str, at: int) -> None:
    frames = stream(seed)
    plain, corrected = (Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), 12, 8) for _ in range(2))
    for position, frame in enumerate(frames):
        expected, found = step(plain, position, frame), step(corrected, position, frame)
        for name in ("new_tracks", "lost_tracks", "found_tracks", "ended_tracks"):
            assert sorted(getattr(found, name)) == sorted(getattr(expected, name))
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        tracks = corrected.live().ids.tolist()
        if position == at and len(tracks) > 1:
            for _ in range(2):
                corrected.correct(Correction(Action.SWAP, tuple(tracks[:2])))


@LAWS
@given(seeds, configs)
def test_a_restored_tracker_goes_on_equally_after_any_corrections(seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    frames = stream(seed)
    cut = int(rng.integers(len(frames)))
    one, other = (Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), 12, 8) for _ in range(2))
    for position, frame in enumerate(frames):
        found = step(one, position, frame)
        if position > cut:
            again = step(other, position, frame)
            assert again.track_ids.tolist() == found.track_ids.tolist()
            for name in ("new_tracks", "restored_tracks", "ended_tracks", "names", "corrections"):
                assert getattr(again, name) == getattr(found, name)
        elif position < cut or rng.random() < 0.8:
            for _ in range(rng.integers(3)):
                with suppress(CorrectionError):
                    one.correct(random_correction(rng, one, tuple(Action)))
        if position == cut:
            other.restore(one.snapshot())
