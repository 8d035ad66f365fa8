"""The mean body of a stream's animals, and the places of instances whose nodes are partly missing.

The mean of the visible nodes moves with each node that is missing, by up to a quarter of the animal. The mean body,
fitted to the visible nodes, has the places of all.

Letters: n instances, m tracks, k nodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import FLAG, FLOAT32_TABLE, GIVEN_BOXES, INT, INTS, compiled, piece, records
from trackd.models.motion.pose_records import NODE

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Places = NDArray[np.float32]

MEMORY = 600.0  # poses that are remembered
MIN_SIZE_PX = 1e-3
_SENT = types.Array(types.float32, 3, "C", readonly=True)


@piece
def _fit(pose: Floats, learnt: Any) -> tuple[float, float, float, float, float]:
    """Fit the mean body to a pose by the least squares of their common nodes.

    Returns:
        the number of common nodes; the scaled cosine and sine of its turn; x and y of its middle in the pose.
    """
    count, x, y, u, v, inner, outer, squares = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for node in range(len(learnt)):
        c, d = pose[node, 0], pose[node, 1]
        if learnt[node].body_poses > 0.0 and abs(c) + abs(d) < np.inf:  # false for NaN
            a, b = learnt[node].body_x, learnt[node].body_y
            count += 1.0
            x, y, u, v = x + a, y + b, u + c, v + d
            inner += a * c + b * d
            outer += a * d - b * c
            squares += a * a + b * b
    if count < 2.0:
        return 0.0, 1.0, 0.0, 0.0, 0.0
    squares -= (x * x + y * y) / count
    cos, sin = (inner - (x * u + y * v) / count) / squares, (outer - (x * v - y * u) / count) / squares
    if not 0.0 < cos * cos + sin * sin < np.inf:
        return 0.0, 1.0, 0.0, 0.0, 0.0
    return count, cos, sin, (u - cos * x + sin * y) / count, (v - sin * x - cos * y) / count


@piece
def _own_frame(pose: Floats) -> tuple[float, float, float, float, float]:
    """As `_fit`, for a stream without a body: the first pose is the body, of size 1."""
    count, x, y, squares = 0.0, 0.0, 0.0, 0.0
    for node in range(len(pose)):
        u, v = pose[node, 0], pose[node, 1]
        if abs(u) + abs(v) < np.inf:
            count += 1.0
            x, y, squares = x + u, y + v, squares + u * u + v * v
    if count < 2.0:
        return 0.0, 1.0, 0.0, 0.0, 0.0
    size = math.sqrt(max(squares / count - (x * x + y * y) / (count * count), MIN_SIZE_PX**2))
    return count, size, 0.0, x / count, y / count


@piece
def _learn(pose: Floats, learnt: Any) -> None:
    """Move the mean body towards a pose, which is turned, scaled and moved as it."""
    begun = False
    for node in range(len(learnt)):
        begun |= learnt[node].body_poses > 0.0
    count, cos, sin, x, y = _fit(pose, learnt) if begun else _own_frame(pose)
    if count < 2.0:
        return
    squared, middle_x, middle_y = cos * cos + sin * sin, 0.0, 0.0
    for node in range(len(learnt)):
        u, v = pose[node, 0] - x, pose[node, 1] - y
        if abs(u) + abs(v) < np.inf:
            learnt[node].body_poses = min(learnt[node].body_poses + 1.0, MEMORY)
            rate = 1.0 / learnt[node].body_poses
            learnt[node].body_x += rate * ((cos * u + sin * v) / squared - learnt[node].body_x)
            learnt[node].body_y += rate * ((cos * v - sin * u) / squared - learnt[node].body_y)
        middle_x += learnt[node].body_x / len(learnt)
        middle_y += learnt[node].body_y / len(learnt)
    for node in range(len(learnt)):
        learnt[node].body_x -= middle_x
        learnt[node].body_y -= middle_y


@compiled(None, _SENT, INTS, INT, INT, records(NODE))
def learn_body(points: Places, rows: Indices, first: int, step: int, learnt: NDArray[np.void]) -> None:
    """Move the mean body towards poses: those of (m,) rows, from `first` on every `step`.

    Args:
        points: (n, k, 2), pixels; NaN for a missing node.
        rows: of the instances.
        first: index in `rows`.
        step: at least 1.
        learnt: (k,) written.
    """
    pose = np.empty((len(learnt), 2))
    for at in range(first, len(rows), step):
        for node in range(len(learnt)):
            pose[node, 0], pose[node, 1] = points[rows[at], node, 0], points[rows[at], node, 1]
        _learn(pose, learnt)


@compiled(FLAG, _SENT, records(NODE), GIVEN_BOXES, FLOAT32_TABLE)
def find_middles(points: Places, learnt: NDArray[np.void], centres: Places, middles: Places) -> bool:
    """Write the middles (n, 2) of the instances: the mean of all nodes, also of the missing ones.

    Only where the centre that is given is the mean of the visible nodes, and some are missing.

    Args:
        points: (n, k, 2), NaN for a missing one.
        learnt: (k,).
        centres: (n, 2) that are given.
        middles: (n, 2) written.

    Returns:
        whether a middle differs from its centre.
    """
    moved = False
    pose = np.empty((len(learnt), 2))
    for i in range(len(points)):
        middles[i, 0], middles[i, 1] = centres[i, 0], centres[i, 1]
        count, x, y = 0, 0.0, 0.0
        for node in range(len(learnt)):
            pose[node, 0], pose[node, 1] = points[i, node, 0] - centres[i, 0], points[i, node, 1] - centres[i, 1]
            if abs(pose[node, 0]) + abs(pose[node, 1]) < np.inf:  # false for NaN
                count += 1
                x += pose[node, 0]
                y += pose[node, 1]
        if count < 2 or count == len(learnt) or abs(x) + abs(y) > 0.01 * count:
            continue
        fit = _fit(pose, learnt)
        if fit[0] == count:
            middles[i, 0] += np.float32(fit[3])
            middles[i, 1] += np.float32(fit[4])
            moved = True
    return moved
