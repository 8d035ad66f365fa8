"""The best pairs among near ones are those of scipy's matching, and its search lets other threads run."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from trackd.tracking.sparse_assignment import best_among


def by_scipy(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray, n: int, m: int) -> float:
    """Return the largest total score; each row has one extra column of its own, so that it may stay unmatched."""
    costs = np.concatenate([2.0 - scores, np.full(n, 2.0)])
    places = np.concatenate([rows, np.arange(n)]), np.concatenate([columns, m + np.arange(n)])
    matched, chosen = min_weight_full_bipartite_matching(csr_array((costs, places), shape=(n, m + n)))
    return float((2.0 - csr_array((costs, places), shape=(n, m + n))[matched, chosen]).sum())


@pytest.mark.parametrize("seed", range(60))
def test_the_total_score_is_the_largest_possible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 50, 2)
    near = rng.random((n, m)) < rng.uniform(0.05, 0.9)
    near[0, 0] = True
    rows, columns = np.nonzero(near)
    scores = rng.choice([rng.random(len(rows)), rng.integers(1, 4, len(rows)) / 4]).astype(np.float32)
    chosen_rows, chosen_columns = best_among(scores, rows, columns, n, m)
    table = np.zeros((n, m), np.float32)
    table[rows, columns] = scores
    assert near[chosen_rows, chosen_columns].all()
    assert len(set(chosen_columns.tolist())) == len(chosen_columns)
    assert (np.diff(chosen_rows) > 0).all()
    total = float(table[chosen_rows, chosen_columns].sum(dtype=np.float64))
    assert total == pytest.approx(by_scipy(scores, rows, columns, n, m), abs=1e-4)


def test_other_threads_run_during_a_search() -> None:
    rng = np.random.default_rng(0)
    n, near = 3000, 32
    rows = np.repeat(np.arange(n), near)
    columns = np.concatenate([rng.choice(n, near, replace=False) for _ in range(n)])
    scores = rng.random(len(rows)).astype(np.float32)
    turns: list[float] = []
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            turns.append(time.monotonic())
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    began = time.monotonic()
    best_among(scores, rows, columns, n, n)
    ended = time.monotonic()
    over.set()
    counter.join()
    during = sum(began < turn < ended for turn in turns)
    assert during >= min(10, 50 * (ended - began)), f"{during} turns in {ended - began:.3f} s"
