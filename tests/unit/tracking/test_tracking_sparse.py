from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd.tracking import association, sparse
from trackd.tracking.linear_assignment import best_pairs, pair_probabilities
from trackd.tracking.scorer import Scores


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 1.0))
def test_the_sparse_near_pairs_give_the_same_results_as_the_dense_table(
    seed: int, n: int, m: int, density: float
) -> None:
    rng = np.random.default_rng(seed)
    near = rng.random((n, m)) < density
    rows, columns = np.nonzero(near)
    logits = np.where(near, rng.normal(0, 3, (n, m)), -np.inf).astype(np.float32)
    clean, _ = association.usable_logits(logits)
    live = np.arange(m)
    dense = association.track_scores(clean, Scores(clean, live, np.zeros(m, np.int64), 2), live)
    scores = sparse.softmax(rows, logits[rows, columns])
    np.testing.assert_allclose(scores, dense[rows, columns], rtol=1e-5)

    threshold = rng.choice([0.01, 0.3], m)
    one = best_pairs(dense, np.full(m, -1.0))
    other = sparse.assign_pairs(scores, rows, columns, np.full(m, 0.0), n)
    for matched in other:
        assert len(set(matched.tolist())) == len(matched)
    np.testing.assert_allclose(dense[other].sum(), dense[one].sum(), rtol=1e-5, atol=1e-6)
    accepted = sparse.assign_pairs(scores, rows, columns, threshold, n)
    assert (dense[accepted] > threshold[accepted[1]]).all()
    np.testing.assert_allclose(
        sparse.pair_probabilities(scores, rows, columns, *accepted, m, 0.1),
        pair_probabilities(dense, *accepted, 0.1),
        rtol=1e-4,
    )


def test_pairs_with_equal_scores_use_each_row_and_column_once() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.5], np.float32)
    rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    found = sparse.assign_pairs(scores, rows, columns, np.zeros(2), 2)
    assert found[0].tolist() == [0, 1]
    assert sorted(found[1].tolist()) == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30))
def test_the_sparse_search_for_many_instances_reaches_the_same_total(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((n, m)) < 0.5)
    scores = rng.random(len(rows)).astype(np.float32)
    threshold, most = np.full(m, 0.005), sparse._MOST_CELLS
    whole = sparse.assign_pairs(scores, rows, columns, threshold, n)
    try:
        sparse._MOST_CELLS = 0
        pairs = sparse.assign_pairs(scores, rows, columns, threshold, n)
    finally:
        sparse._MOST_CELLS = most
    table = np.zeros((n, m))
    table[rows, columns] = scores
    assert len(set(pairs[0].tolist())) == len(set(pairs[1].tolist())) == len(pairs[0])
    np.testing.assert_allclose(table[pairs].sum(), table[whole].sum(), rtol=1e-5)
