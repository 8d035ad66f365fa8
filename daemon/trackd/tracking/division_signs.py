"""Whether a frame can hold a division, and how many pairs of tracks became one instance: one pass over its boxes.

Both are the same relation of two parts and a whole: the whole is a track's box in the previous frame and the parts are
instances, or the other way round.

Letters: n instances, S slots, M live tracks, m of them matched, c unmatched instances.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import FLOAT32_TABLE, FLOATS, GIVEN_BOXES, INTS, compiled, piece

MAX_PAIRS = 1 << 16  # above this number of pairs nothing is searched: the frame may hold a division
_ROUNDING = 1.001  # of the exact search, whose numbers are float32
_SLACK = 1e-6  # of the span along x, over the lengths that are rounded in the test of a pair
_COUNTS = types.UniTuple(types.int64, 2)


# A box is given by its table and row: a view of one row would cost more than the arithmetic.


@piece
def _area(boxes: Any, row: int) -> float:
    return float((boxes[row, 2] - boxes[row, 0]) * (boxes[row, 3] - boxes[row, 1]))


@piece
def _is_near(parts: Any, part: int, wholes: Any, whole: int, distance: float) -> bool:
    x = parts[part, 0] + parts[part, 2] - wholes[whole, 0] - wholes[whole, 2]
    y = parts[part, 1] + parts[part, 3] - wholes[whole, 1] - wholes[whole, 3]
    w, h = wholes[whole, 2] - wholes[whole, 0], wholes[whole, 3] - wholes[whole, 1]
    return bool(0.25 * (x * x + y * y) <= _ROUNDING * distance * distance * (w * w + h * h))


@piece
def _are_parts(parts: Any, one: int, other: int, wholes: Any, whole: int, common_size: float, limits: Any) -> bool:
    """Whether two boxes near a whole can be its parts, and together have at most `common_size` of its area."""
    x = 0.25 * (parts[one, 0] + parts[one, 2] + parts[other, 0] + parts[other, 2])
    y = 0.25 * (parts[one, 1] + parts[one, 3] + parts[other, 1] + parts[other, 3])
    x -= 0.5 * (wholes[whole, 0] + wholes[whole, 2])
    y -= 0.5 * (wholes[whole, 1] + wholes[whole, 3])
    diagonal = math.hypot(wholes[whole, 2] - wholes[whole, 0], wholes[whole, 3] - wholes[whole, 1])
    size, one_size, other_size = _area(wholes, whole), _area(parts, one), _area(parts, other)
    small, large = min(one_size, other_size), max(one_size, other_size)
    return bool(
        math.hypot(x, y) <= _ROUNDING * limits[1] * diagonal
        and small * _ROUNDING >= limits[2] * size
        and large <= _ROUNDING * limits[3] * size
        and small * _ROUNDING >= limits[4] * large
        and small + large <= _ROUNDING * common_size * size
    )


@piece
def _doubled_x(parts: Any, part: int) -> float:
    return float(np.float64(parts[part, 0]) + parts[part, 2])


@piece
def _span(wholes: Any, whole: int, distance: float) -> tuple[float, float]:
    """Return the least and the greatest doubled x of a part that can be near a whole."""
    left, right = np.float64(wholes[whole, 0]), np.float64(wholes[whole, 2])
    width, height = right - left, np.float64(wholes[whole, 3]) - wholes[whole, 1]
    reach = 2.0 * distance * math.sqrt(_ROUNDING * (width * width + height * height))
    reach += _SLACK * (abs(left) + abs(right) + reach)
    return left + right - reach, left + right + reach


@compiled(_COUNTS, INTS, INTS, FLOAT32_TABLE, INTS, INTS, INTS, GIVEN_BOXES, FLOATS)
def find_signs(
    live: NDArray[np.intp],
    missed: NDArray[np.int64],
    boxes: NDArray[np.float32],
    slots: NDArray[np.intp],
    rows: NDArray[np.intp],
    unmatched: NDArray[np.intp],
    extents: NDArray[np.float32],
    limits: NDArray[np.float64],
) -> tuple[int, int]:
    """Look for divisions and for merges.

    Args:
        live: (M,) slots.
        missed: (S,) frames in a row without the track; only tracks of the previous frame, with 0, take part.
        boxes: (S, 4) the tracks' boxes in it, x1 y1 x2 y2.
        slots: (m,) matched.
        rows: (m,) their instances.
        unmatched: (c,) instances without a track.
        extents: (n, 4) the instances' boxes.
        limits: (7,) of the parts: their distance from the whole and that of their common centre, over the whole's
            diagonal; the least and the largest size of one, over the whole's; the ratio of the smaller to the larger;
            the largest size of both in a merge, and in a division.

    Returns:
        1 if the frame may hold a division, else 0; and the number of tracks that merged with another one.
    """
    n_merges, n_before, n_gone = 0, 0, 0
    row_of = np.full(len(missed), -1)
    for k in range(len(slots)):
        row_of[slots[k]] = rows[k]
    for slot in live:
        if missed[slot] == 0:
            n_before += 1
            n_gone += row_of[slot] < 0
    if n_before * max(len(unmatched), n_gone) > MAX_PAIRS:
        return int(len(unmatched) > 0), n_merges
    if n_gone > 0:
        first, last = np.empty(len(slots)), np.empty(len(slots))
        for k in range(len(slots)):
            first[k], last[k] = _span(extents, rows[k], limits[0])
        for gone in live:
            if missed[gone] > 0 or row_of[gone] >= 0:
                continue
            here = _doubled_x(boxes, gone)
            for k in range(len(slots)):
                if here < first[k] or here > last[k]:
                    continue
                slot, row = slots[k], rows[k]
                if (
                    missed[slot] == 0
                    and _is_near(boxes, gone, extents, row, limits[0])
                    and _is_near(boxes, slot, extents, row, limits[0])
                    and _are_parts(boxes, gone, slot, extents, row, limits[5], limits)
                ):
                    n_merges += 1
                    break
    if len(unmatched) == 0:
        return 0, n_merges
    doubled = np.empty(len(unmatched))
    for k in range(len(unmatched)):
        doubled[k] = _doubled_x(extents, unmatched[k])
    for parent in live:
        if missed[parent] > 0:
            continue
        own = row_of[parent]
        least, most = _span(boxes, parent, limits[0])
        for at in range(len(unmatched)):
            one = unmatched[at]
            if doubled[at] < least or doubled[at] > most or not _is_near(extents, one, boxes, parent, limits[0]):
                continue
            if (
                own >= 0
                and _is_near(extents, own, boxes, parent, limits[0])
                and _are_parts(extents, one, own, boxes, parent, limits[6], limits)
            ):
                return 1, n_merges
            for before in range(at):
                other = unmatched[before]
                if _is_near(extents, other, boxes, parent, limits[0]) and _are_parts(
                    extents, one, other, boxes, parent, limits[6], limits
                ):
                    return 1, n_merges
    return 0, n_merges
