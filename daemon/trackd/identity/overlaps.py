"""Overlaps: which boxes share so much that their animals touch, and where the animal of a lost track may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOUCH = 0.15  # two tracks touch if their boxes share more than this part of the smaller one
NEAR = 1.0  # a track that is not seen touches those whose box is within so many sides of its last one


def widened(boxes: NDArray[np.float32], missed: NDArray[np.intp]) -> NDArray[np.float32]:
    """Where the animals of lost tracks may be: their last boxes, with a margin that grows with the gap."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * (NEAR * np.minimum(1 + missed / 10, 4))[:, None]
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1).astype(np.float32)


def overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> list[tuple[int, int]]:
    """The pairs of boxes that share more than a part of the smaller one."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    smaller = np.minimum(_areas(boxes)[:, None], _areas(others)[None])
    rows, columns = np.nonzero(shared > TOUCH * smaller)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
