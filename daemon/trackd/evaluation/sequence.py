"""A tracked recording and its ground truth, frame by frame: the input of every measure.

Letters: g ground-truth instances of a frame, n tracked ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrame:
    """One frame."""

    frame_index: int
    gt_ids: IntArray  # (g,) without duplicates
    track_ids: IntArray  # (n,) without duplicates
    similarity: NDArray[np.float64]  # (g, n) 0 to 1


@dataclass(slots=True, eq=False)
class Sequence:
    """One recording."""

    name: str
    frames: list[ScoredFrame] = field(default_factory=list)
    gt_parents: Mapping[int, int] = field(default_factory=dict)  # child -> parent
    track_parents: dict[int, int] = field(default_factory=dict)  # child -> the track that divided

    @property
    def has_truth(self) -> bool:
        """Whether any frame has a ground truth."""
        return any(len(frame.gt_ids) for frame in self.frames)


def frame_of_detections(frame_index: int, gt_ids: IntArray, track_ids: IntArray) -> ScoredFrame:
    """A frame whose detections are the ground truth's instances: both ids (n,), -1 for none.

    A detection without a track is missed, one with a track and no identity is false. An identity that is twice in a
    frame counts once.
    """
    first = np.zeros(len(gt_ids), bool)
    first[np.unique(gt_ids, return_index=True)[1]] = True
    known, tracked = (gt_ids >= 0) & first, track_ids >= 0
    rows = np.arange(len(gt_ids))
    similarity = (rows[known][:, None] == rows[tracked]).astype(np.float64)
    return ScoredFrame(frame_index, gt_ids[known], track_ids[tracked], similarity)
