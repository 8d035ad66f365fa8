"""Pairs that are accepted below their threshold: few or no tracks may begin, or no object comes or leaves.

A detection then belongs to a track that moved farther than usual, or it is false. So a pair is accepted only if the
track can be there: within `REACH` sides of its last box for each frame in which it was missing. And a pair above its
threshold is given up only for pairs that are together better: otherwise a false detection could take the id of an
animal beside it, whose own detection would take the next one's.

With `max_tracks` all pairs of a frame are weighed together. Where it was only learnt that no object comes or leaves,
the tracks and detections that have no match are matched afterwards, and a detection out of reach begins a track.

Letters: n instances, M tracks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_TABLE, FLOATS, GIVEN_BOXES, INTS, compiled
from trackd.tracking.linear_assignment import best_pairs

# Chosen of 1.5 to 5, and 2 to 25, on fish and cells at three frame rates and on bouncing boxes, with and without false
# detections: a longer reach lets more false detections take ids, a shorter one loses fast animals at low frame rates.
REACH = 2.0
ODDS_WORTH, SCORE_WORTH = 4.0, 0.25  # the most that a pair below its threshold counts: log odds, or a score


@dataclass(slots=True, eq=False)
class Forcing:
    """Which pairs of a frame may be accepted below their threshold."""

    boxes: NDArray[np.float32]  # (S, 4) the tracks' last boxes by slot, x1 y1 x2 y2
    missed: NDArray[np.int64]  # (S,) frames in a row without the track
    reach: float = REACH  # in sides of a track's box, for each frame that it was missing and one more
    places: int = 0  # tracks that may begin all the same


@compiled(None, FLOAT32_TABLE, FLOATS, FLOAT, GIVEN_BOXES, GIVEN_BOXES, INTS, FLOAT)
def weigh_forced(
    values: NDArray[np.float32],
    limits: NDArray[np.float64],
    worth: float,
    centres: NDArray[np.float32],
    boxes: NDArray[np.float32],
    missed: NDArray[np.int64],
    sides: float,
) -> None:
    """Replace the values of all pairs by what they count in the assignment: above 0, or 0 for a pair out of reach.

    With u the value less its threshold and w the worth, a pair counts u + w from the threshold on, and w / (1 − u / w)
    below it, which has the same slope at the threshold and falls to 0.

    Args:
        values: (n, M), overwritten.
        limits: (M,) the thresholds.
        worth: above 0, in units of the values.
        centres: (n, 2) of the instances, pixels.
        boxes: (M, 4) the tracks' last boxes, x1 y1 x2 y2.
        missed: (M,) frames since the last observation in which the track was missing.
        sides: the reach in sides of a track's box, for each of these frames and one more.
    """
    for j in range(len(boxes)):
        x, y = 0.5 * (boxes[j, 0] + boxes[j, 2]), 0.5 * (boxes[j, 1] + boxes[j, 3])
        side = math.sqrt(max((boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1]), 1.0))
        reach = sides * side * (missed[j] + 1)
        for i in range(len(values)):
            above = values[i, j] - limits[j]
            if above > 0:
                values[i, j] = above + worth
            elif math.hypot(centres[i, 0] - x, centres[i, 1] - y) <= reach:
                values[i, j] = worth / (1.0 - above / worth)
            else:
                values[i, j] = 0.0


def match_left(
    centres: NDArray[np.float32], boxes: NDArray[np.float32], frames: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match what has no match, by distance in relation to the reach; what is out of reach stays without.

    Args:
        centres: (r, 2) of the instances, pixels.
        boxes: (s, 4) the tracks' last boxes.
        frames: (s,) since the last observation, at least 1.

    Returns:
        (k,) ascending rows and (k,) columns.
    """
    return best_pairs(nearness(centres, boxes, frames), np.zeros(len(boxes)))


def nearness(
    centres: NDArray[np.float32], boxes: NDArray[np.float32], frames: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (r, s) 1 at a track's place, falling to 0 at the border of its reach; arguments as of `match_left`."""
    middles = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    sides = np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1.0))
    distances = np.hypot(*np.moveaxis(centres[:, None] - middles[None], 2, 0))
    return np.asarray(np.maximum(1.0 - distances / (REACH * sides * frames), 0.0), np.float32)
