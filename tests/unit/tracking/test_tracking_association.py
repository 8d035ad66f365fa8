from __future__ import annotations

import numpy as np
import pytest

from trackd.tracking import association
from trackd.tracking.association import track_scores, usable_logits
from trackd.tracking.scorer import Scores


def of(logits, slots, frames, n_frames, live, decay=None):
    logits = np.asarray(logits, np.float32)
    scores = Scores(logits, np.asarray(slots), np.asarray(frames), n_frames)
    return track_scores(logits, scores, np.asarray(live), decay)


def softmax(*logits: float) -> np.ndarray:
    weights = np.exp([0.0, *logits])
    return weights[1:] / weights.sum()


def test_no_match_has_a_share_of_the_probability_of_every_frame() -> None:
    assert of([[0.0]], [3], [0], 2, [3])[0, 0] == pytest.approx(0.5)
    np.testing.assert_allclose(of([[1.0, 2.0]], [0, 1], [0, 0], 2, [0, 1])[0], softmax(1, 2), rtol=1e-6)


def test_a_tracks_score_is_the_sum_of_its_probabilities_over_the_window() -> None:
    found = of([[1.0, 2.0, 3.0]], [4, 9, 4], [0, 0, 1], 3, [4, 9])
    first, second = softmax(1, 2), softmax(3)
    np.testing.assert_allclose(found[0], [first[0] + second[0], first[1]], rtol=1e-6)


def test_the_order_of_references_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits, slots, frames = rng.normal(size=(3, 12)), rng.integers(0, 4, 12), rng.integers(0, 5, 12)
    order = rng.permutation(12)
    live = np.arange(5)
    one = of(logits, slots, frames, 6, live)
    other = of(logits[:, order], slots[order], frames[order], 6, live)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert (one[:, 4] == 0).all()


def test_decay_weighs_the_previous_frame_fully_and_older_ones_less() -> None:
    whole = [of([[1.0] * 3], [0, 1, 2], [0, 1, 2], 4, [0, 1, 2], decay)[0] for decay in (None, 0.5)]
    np.testing.assert_allclose(whole[1] / whole[0], [0.25, 0.5, 1.0], rtol=1e-6)


def test_huge_logits_neither_overflow_nor_become_nan() -> None:
    found = of([[1e4, -1e4, 1e4]], [0, 1, 2], [0, 0, 1], 3, [0, 1, 2])
    np.testing.assert_allclose(found[0], [1, 0, 1])


def test_only_a_row_of_nan_logits_is_broken() -> None:
    logits = np.array([[1, np.nan], [np.nan, np.nan]], np.float32)
    clean, broken = usable_logits(logits)
    assert broken is not None
    assert broken.tolist() == [False, True]
    assert np.isfinite(clean).all()
    assert clean[0, 1] < -1e20


def test_infinite_logits_are_treated_as_very_large_ones() -> None:
    clean, broken = usable_logits(np.array([[np.inf, -np.inf]], np.float32))
    assert broken is None
    np.testing.assert_allclose(of(clean, [0, 1], [0, 0], 2, [0, 1])[0], [1, 0])


def test_usable_logits_are_returned_unchanged() -> None:
    logits = np.array([[1.0, -3.0]], np.float32)
    clean, broken = usable_logits(logits)
    assert clean is logits
    assert broken is None


@pytest.mark.parametrize("in_order", [True, False])
def test_a_large_table_of_several_frames_gives_the_same_scores_in_blocks_of_rows(in_order, monkeypatch):
    rng = np.random.default_rng(4)
    slots, frames = np.repeat(np.arange(20), 6), np.tile(np.arange(6), 20)
    if in_order:
        order = np.argsort(frames, kind="stable")
        slots, frames = slots[order], frames[order]
    logits = rng.normal(0, 3, (33, 120)).astype(np.float32)
    scores = Scores(logits, slots, frames, 7)
    whole = track_scores(logits, scores, np.arange(20), 0.9)
    monkeypatch.setattr(association, "_BLOCK_CELLS", 500)
    assert track_scores(logits, scores, np.arange(20), 0.9).tobytes() == whole.tobytes()
