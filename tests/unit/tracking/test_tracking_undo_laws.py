"""Laws for corrections that are undone after any number of frames, in any stream."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_tracking_correction_laws import random_correction, rows, step
from test_tracking_laws import CONFIGS, configs, seeds, stream

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.store.codec import pack, unpack
from trackd.tracking.correction import MAX_KEPT, Action, Applied, Correction, CorrectionError
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
LAWS = settings(max_examples=25, deadline=None)
ENDING = (Action.END, Action.MERGE, Action.NEW_ID)
MOSTLY_UNDO = (*ENDING, Action.SWAP, Action.RENAME, *[Action.UNDO] * 6)


def tracker(config: str, slots: int = 12) -> Tracker:
    return Tracker(TrackerConfig(**CONFIGS[config]), MotionScorer(), slots, 8)


def published(found: Assignment) -> list[Any]:
    return [
        found.track_ids.tolist(), found.track_scores.tobytes(), found.new_tracks, found.lost_tracks,
        found.found_tracks, found.ended_tracks, found.restored_tracks, found.names, found.corrections,
    ]  # fmt: skip


@LAWS
@given(seeds, configs)
def test_no_id_is_at_two_tracks_and_none_beyond_the_limits_whatever_is_undone(seed: int, config: str) -> None:
    rng, one = np.random.default_rng(seed), tracker(config)
    given_ids: set[int] = set()
    ended: set[int] = set()
    for position, frame in enumerate(stream(seed, 40)):
        found = step(one, position, frame)
        ids = found.track_ids[found.track_ids >= 0].tolist()
        assert len(set(ids)) == len(ids)
        assert given_ids.isdisjoint(found.new_tracks)
        assert set(found.restored_tracks) <= ended, "only an ended id is restored"
        given_ids |= set(found.new_tracks)
        ended = (ended - set(found.restored_tracks)) | set(found.ended_tracks)
        assert not ended & set(ids), "an ended id is published only after it was restored"
        assert len(one.window.retired) <= MAX_KEPT
        assert len(one.window.live) + len(one.window.retired) <= 12
        assert len(one.window.placed) <= (one.config.max_tracks or 12)
        for _ in range(rng.integers(3)):
            before = pack(one.snapshot()) if one.corrections is not None else None
            try:
                one.correct(random_correction(rng, one, MOSTLY_UNDO))
            except CorrectionError:
                assert before is None or pack(one.snapshot()) == before, "a correction that is refused changes nothing"
            one.check_integrity()
            assert len(rows(one)) <= (one.config.max_tracks or 12)


@LAWS
@given(seeds, configs)
def test_a_tracker_that_is_restored_in_each_frame_publishes_the_same(seed: int, config: str) -> None:
    rng, one, other = np.random.default_rng(seed), tracker(config), tracker(config)
    for position, frame in enumerate(stream(seed, 25)):
        assert published(step(one, position, frame)) == published(step(other, position, frame))
        for _ in range(rng.integers(3)):
            correction = random_correction(rng, one, MOSTLY_UNDO)
            with suppress(CorrectionError):
                one.correct(correction)
                other.correct(correction)
        again = tracker(config)
        again.restore(unpack(pack(other.snapshot())))
        other = again


@LAWS
@given(seeds, configs.filter(lambda config: config != "tentative"), st.integers(1, 10), st.integers(1, 10))
def test_after_the_undo_of_a_new_id_the_ids_are_those_without_it(seed: int, config: str, at: int, later: int) -> None:
    plain, corrected = tracker(config, 64), tracker(config, 64)
    done: Applied | None = None
    undone = False
    for position, frame in enumerate(stream(seed)):
        expected, found = step(plain, position, frame), step(corrected, position, frame)
        if done is not None and undone:
            first_later = done.new_id  # the new id was given to no animal in the other stream
            shifted = expected.track_ids + (expected.track_ids >= first_later)
            assert found.track_ids.tolist() == shifted.tolist()
        if position == at:
            assume(len(rows(plain)))
            done = corrected.correct(Correction(Action.NEW_ID, (min(rows(plain)),)))
        elif done is not None and position == at + later:
            assume(done.new_id in rows(corrected))
            corrected.correct(Correction(Action.UNDO))
            undone = True


@LAWS
@given(seeds, st.integers(3, 10), st.integers(1, 60))
def test_after_the_undo_of_an_end_animals_apart_have_the_ids_that_they_had(seed: int, at: int, later: int) -> None:
    rng, one = np.random.default_rng(seed), tracker("defaults", 64)
    centres = 100.0 * np.stack(np.meshgrid(np.arange(3), np.arange(2)), axis=-1).reshape(-1, 2)
    ended = rng.permutation(6)[: rng.integers(1, 6)].tolist()
    for position in range(at + later + 3):
        centres = centres + rng.normal(0, 2, centres.shape)
        boxes = np.concatenate([centres - 15, centres + 15], axis=1).astype(np.float32)
        found = step(one, position, (position, Detections(boxes=boxes)))
        if position == at:
            for track in ended:
                one.correct(Correction(Action.END, (track,)))
        elif position == at + later:
            for _ in ended:
                assert one.correct(Correction(Action.UNDO)).replaced is not None
        elif not at < position <= at + later:
            assert found.track_ids.tolist() == list(range(6))
