"""Corrections by a person in a stream of a checkpoint: the window of an animal follows it, whatever its id is."""

from __future__ import annotations

import numpy as np
import pytest
from test_models_transformer import image_of, instances_of, settings_of

from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.scorer import TransformerScorer
from trackd.store.codec import pack, unpack
from trackd.tracking.correction import Action, Correction
from trackd.tracking.tracker import Assignment, Tracker


def step(tracker: Tracker, index: int, centres: np.ndarray) -> Assignment:
    instances = instances_of(centres)
    features = tracker.scorer.encode(image_of(index), instances)
    found = tracker.step(index, index * 1000, instances, features)
    tracker.check_integrity()
    return found


def test_the_logits_after_a_swap_and_a_new_id_are_those_without_them(loaded: LoadedModel) -> None:
    s = settings_of(window_size=4, overlap_thresh=0.0)
    plain, corrected = (Tracker(s.tracker, TransformerScorer(loaded, s)) for _ in range(2))
    rng = np.random.default_rng(4)
    plain_id = {-1: -1}
    for index in range(16):
        centres = rng.uniform(10, 50, (4, 2))[: rng.integers(2, 5)]
        expected, found = step(plain, index, centres), step(corrected, index, centres)
        for own, other in zip(found.track_ids.tolist(), expected.track_ids.tolist(), strict=True):
            assert plain_id.setdefault(own, other) == other
        assert found.track_scores.tobytes() == expected.track_scores.tobytes()
        one, other = found.track_ids[:2].tolist()
        if index % 3 == 1:
            corrected.correct(Correction(Action.SWAP, (one, other)))
            plain_id[one], plain_id[other] = plain_id[other], plain_id[one]
        elif index % 3 == 2:
            new_id = corrected.correct(Correction(Action.NEW_ID, (one,))).new_id
            plain_id[new_id] = plain_id.pop(one)
    assert len(plain_id) > 4


@pytest.mark.parametrize("restarts", [False, True])
def test_a_track_that_is_restored_has_all_features_that_it_had(loaded: LoadedModel, restarts: bool) -> None:
    s = settings_of(window_size=4, overlap_thresh=0.0)
    plain, corrected = (Tracker(s.tracker, TransformerScorer(loaded, s)) for _ in range(2))
    rng = np.random.default_rng(4)
    for index in range(6):
        centres = rng.uniform(10, 50, (3, 2))
        step(plain, index, centres)
        step(corrected, index, centres)
    few = rng.uniform(10, 50, (2, 2))
    expected, found = step(plain, 6, few), step(corrected, 6, few)  # one is lost
    (lost,) = found.lost_tracks
    corrected.correct(Correction(Action.END, (lost,)))
    for index in range(7, 10):
        none = np.empty((0, 2))
        step(plain, index, none)
        step(corrected, index, none)
    if restarts:
        again = Tracker(s.tracker, TransformerScorer(loaded, s))
        again.restore(unpack(pack(corrected.snapshot())))
        corrected = again
    assert corrected.correct(Correction(Action.UNDO)).restored == lost
    for index in range(10, 14):
        centres = rng.uniform(10, 50, (3, 2))
        expected, found = step(plain, index, centres), step(corrected, index, centres)
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        assert found.track_scores.tobytes() == expected.track_scores.tobytes()


def test_a_track_that_was_ended_is_no_reference_of_the_next_frame(loaded: LoadedModel) -> None:
    s = settings_of(window_size=4, overlap_thresh=0.0)
    tracker = Tracker(s.tracker, TransformerScorer(loaded, s))
    centres = np.array([[20.0, 20.0], [60.0, 40.0]])
    step(tracker, 0, centres)
    tracker.correct(Correction(Action.END, (0,)))
    found = step(tracker, 1, centres)
    assert found.ended_tracks == (0,)
    assert 0 not in found.track_ids.tolist()
    assert tracker.live().ids.tolist() == [1, 2]
