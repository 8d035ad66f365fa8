"""Pairs that are accepted below their threshold where no more tracks may begin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.tracking.forced import REACH, weigh_forced


def weighed(values, limits, centres, boxes, missed, worth=4.0):
    values = np.array(values, np.float32)
    weigh_forced(
        values, np.array(limits, np.float64), worth, np.array(centres, np.float32), np.array(boxes, np.float32),
        np.array(missed, np.int64), REACH,
    )  # fmt: skip
    return values


BOX = [80.0, 80.0, 120.0, 120.0]  # of side 40


@pytest.mark.parametrize("missed", [0, 1, 5])
def test_the_reach_grows_with_the_frames_without_the_track(missed: int) -> None:
    reach = REACH * 40 * (missed + 1)
    centres = [[100 + reach - 1, 100], [100 + reach + 1, 100], [100, 100 - reach + 1], [100, 100 - reach - 1]]
    (near, far, above, beyond) = weighed([[-2.0]] * 4, [0.0], centres, [BOX], [missed])[:, 0]
    assert near == above > 0
    assert far == beyond == 0


def test_a_pair_above_its_threshold_is_in_reach_anywhere() -> None:
    assert weighed([[3.0]], [1.0], [[9000, 9000]], [BOX], [0])[0, 0] == pytest.approx(6.0)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=20), st.floats(0, 5), st.floats(0.1, 10))
def test_the_weights_rise_with_the_values_and_are_above_zero(values: list[float], limit: float, worth: float) -> None:
    table = np.sort(np.array(values, np.float32))[:, None]
    weights = weighed(table, [limit], [[100, 100]] * len(table), [BOX], [0], worth)[:, 0]
    assert (weights > 0).all()
    assert (np.diff(weights) >= 0).all()
    below = table[:, 0] <= limit
    assert (weights[below] <= worth * (1 + 1e-6)).all()


def test_an_unusable_place_is_in_no_reach() -> None:
    assert weighed([[-1.0]], [0.0], [[math.nan, 100]], [BOX], [3])[0, 0] == 0
    assert weighed([[-1.0]], [0.0], [[100, 100]], [[math.nan] * 4], [3])[0, 0] == 0
