from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from trackd.models.motion.nearest import nearest_pairs
from trackd.tracking import linear_assignment, pair_assignment


def pairs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 30, 2)
    near = rng.random((n, m)) < rng.uniform(0.05, 0.9)
    near[:, 0] |= ~near.any(axis=1)
    rows, columns = np.nonzero(near)
    scores = rng.integers(1, 4, len(rows)) / 4 if seed % 2 else rng.random(len(rows)) + 0.01
    return scores.astype(np.float32), rows, columns, int(m)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000))
def test_the_best_pairs_have_the_largest_total(seed: int) -> None:
    scores, rows, columns, m = pairs(seed)
    found = pair_assignment.best_of_pairs(scores, rows, columns, m)
    assert len(set(rows[found].tolist())) == len(set(columns[found].tolist())) == len(found)
    table = np.zeros((rows[-1] + 1, m))
    table[rows, columns] = scores
    best = table[linear_sum_assignment(table, maximize=True)].sum()
    assert scores[found].sum() == pytest.approx(best, rel=1e-5)


def test_a_search_along_pairs_that_reads_too_many_takes_free_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_assignment, "MAX_STEPS", 20)
    for seed in range(40):
        scores, rows, columns, m = pairs(seed)
        found = pair_assignment.best_of_pairs(scores, rows, columns, m)
        assert len(set(rows[found].tolist())) == len(set(columns[found].tolist())) == len(found)
        free = ~np.isin(rows, rows[found]) & ~np.isin(columns, columns[found])
        assert not free.any(), "an instance stays without a track only if all its tracks are taken"


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40)])
def test_a_search_of_a_table_that_reads_too_many_still_pairs_the_shorter_side(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_assignment, "MAX_READS", 300)
    scores = np.random.default_rng(0).random(shape).astype(np.float32)
    rows, columns = linear_assignment.best_pairs(scores)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(shape)
    assert scores[rows, columns].mean() > 0.6


@pytest.mark.parametrize("reach", [(1, 1), (1, 100), (0, 1), (100, 0)])
def test_the_nearest_tracks_of_each_instance_are_found(reach: tuple[int, int]) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(1, 120, 2)
        points, centres = rng.random((n, 2)) * reach, rng.random((m, 2)) * reach
        points[0] = np.nan
        rows, columns = nearest_pairs(points, centres, 16)
        k = min(16, m)
        distances = np.hypot(*(points[1:, None] - centres[None]).transpose(2, 0, 1))
        assert rows.tolist() == np.repeat(np.arange(1, n), k).tolist()
        assert columns.reshape(-1, k).tolist() == np.sort(distances.argsort(axis=1)[:, :k], axis=1).tolist()


def test_instances_at_one_point_do_not_all_get_the_same_tracks() -> None:
    _, columns = nearest_pairs(np.zeros((200, 2)), np.zeros((200, 2)), 8)
    assert len(set(columns.tolist())) == 200
