"""The search for divisions and merges leaves out no pair that the test of every pair finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from trackd.tracking.division_rate import _LIMITS, _LIMITS_IF_RARE
from trackd.tracking.division_signs import find_signs

Boxes = NDArray[np.float32]


def are_parts(one: Boxes, other: Boxes, whole: Boxes, common_size: float, limits: NDArray[np.float64]) -> bool:
    """Test two boxes and a whole, in float64 and without the margin of the search."""
    boxes = np.array([one, other, whole], np.float64)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    diagonal = math.hypot(*sides[2])
    distances = np.hypot(*(centres[:2] - centres[2]).T)
    off_centre = math.hypot(*(centres[:2].mean(axis=0) - centres[2]))
    small, large = np.sort(sides[:2].prod(axis=1))
    size = sides[2].prod()
    return bool(
        (distances <= limits[0] * diagonal).all()
        and off_centre <= limits[1] * diagonal
        and small >= limits[2] * size
        and large <= limits[3] * size
        and small >= limits[4] * large
        and small + large <= common_size * size
    )


def halves(whole: Boxes, rng: np.random.Generator) -> Boxes:
    """Two boxes that lie about as the parts of a whole do."""
    middle, side = (whole[:2] + whole[2:]) / 2, whole[2:] - whole[:2]
    away = side * rng.uniform(-0.4, 0.4, 2)
    half = side * rng.uniform(0.25, 0.5)
    places = np.array([middle + away, middle - away + rng.normal(0, 0.1, 2) * side])
    return np.concatenate([places - half, places + half], axis=1).astype(np.float32)


@pytest.mark.parametrize("far", [0.0, 1e5])  # from the origin, where float32 rounds more
def test_every_division_and_every_merge_of_all_pairs_is_found(far: float) -> None:
    found_divisions = found_merges = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 25))
        corners = rng.uniform(0, 400, (n, 2)) + far
        tracks = np.concatenate([corners, corners + rng.uniform(10, 40, (n, 2))], axis=1).astype(np.float32)
        instances = tracks + rng.normal(0, 1, (n, 4)).astype(np.float32)
        slots = rows = np.arange(n, dtype=np.intp)
        unmatched = np.empty(0, np.intp)
        limits = (_LIMITS, _LIMITS_IF_RARE)[seed % 2]
        if seed % 3:  # the first track is two instances now; both are unmatched, or one is
            instances = np.concatenate([instances, halves(tracks[0], rng)])
            unmatched = np.array([n, n + 1], np.intp)
            slots, rows = slots[1:], rows[1:]
            if seed % 3 == 1:
                slots, rows, unmatched = np.append(slots, 0), np.append(rows, n), unmatched[1:]
        else:  # two tracks are one instance now
            tracks[:2] = halves(instances[0], rng)
            slots = slots[rows != 1]
            rows = rows[rows != 1]
        found = find_signs(
            np.arange(n), np.zeros(n, np.int64), tracks, slots, rows, unmatched, instances, limits
        )  # fmt: skip
        row_of = dict(zip(slots.tolist(), rows.tolist(), strict=True))
        children = {track: [*unmatched, *([row_of[track]] if track in row_of else [])] for track in range(n)}
        divides = any(
            are_parts(instances[one], instances[other], tracks[track], limits[6], limits)
            for track, near in children.items()
            for one in unmatched
            for other in near
            if one != other
        )
        merges = sum(
            any(
                are_parts(tracks[gone], tracks[slot], instances[row], limits[5], limits) for slot, row in row_of.items()
            )
            for gone in set(range(n)) - set(row_of)
        )
        assert found[0] >= divides  # with a margin it may say so of more
        assert divides or found[1] >= merges
        found_divisions, found_merges = found_divisions + divides, found_merges + merges
    assert found_divisions > 30
    assert found_merges > 10
