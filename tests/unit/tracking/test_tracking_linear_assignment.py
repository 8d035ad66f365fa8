from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from trackd.tracking import odds
from trackd.tracking.linear_assignment import best_pairs, likeliest_pairs, pair_probabilities


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 14), st.integers(1, 14), st.sampled_from([2, 4, 10, 0]))
def test_the_pairs_equal_scipys_also_if_several_assignments_are_optimal(seed: int, n: int, m: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (n, m)) / levels if levels else rng.normal(size=(n, m))).astype(np.float32)
    rows, columns = best_pairs(scores)
    expected = linear_sum_assignment(scores, maximize=True)
    assert rows.tolist() == expected[0].tolist()
    assert columns.tolist() == expected[1].tolist()


@pytest.mark.parametrize("shape", [(200, 200), (150, 230), (230, 150)])
def test_the_assignment_of_a_large_table_is_optimal(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(1).random(shape).astype(np.float32)
    rows, columns = best_pairs(scores)
    expected = linear_sum_assignment(scores, maximize=True)
    assert scores[rows, columns].sum() == pytest.approx(scores[expected].sum(), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_table_gives_no_pairs(shape: tuple[int, int]) -> None:
    rows, columns = best_pairs(np.zeros(shape, np.float32))
    assert len(rows) == len(columns) == 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 14), st.integers(1, 14), st.sampled_from([-np.inf, -4.0, 5.0]))
def test_the_likeliest_pairs_are_the_best_pairs_with_their_probabilities(seed: int, n: int, m: int, low: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=6, size=(n, m)).astype(np.float32)
    logits[rng.random((n, m)) < 0.3] = low
    threshold, caution, temperature = float(rng.normal()), 6.0, 0.1
    above = np.where(rng.random(m) < 0.3, 2.0, 0.0)
    found = likeliest_pairs(logits, threshold, caution, float(odds.SCALE), temperature, above)
    rows, columns = best_pairs(np.maximum(logits - np.float32(threshold), 0), above)
    table = odds.SCALE * (logits + np.float32(caution))
    expected = rows, columns, pair_probabilities(table, rows, columns, temperature, 1)
    assert found is not None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_no_number_leaves_the_likeliest_pairs_open(value: float) -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[2, 1] = value
    assert likeliest_pairs(logits, 0.0, 0.0, float(odds.SCALE), 0.1, np.zeros(4)) is None
