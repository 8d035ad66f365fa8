"""Pruning: of detections that overlap by more than `max_detection_overlap`, only one is kept.

Letters: n instances, k nodes, A anchors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, FloatArray, Skeleton
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording
from trackd_client.recordings.transforms.rows import take_rows

MEAN_OF_NODES = ("", "centroid", "midpoint")


class PrunedRecording(DerivedRecording):
    """A recording without those instances of another one that overlap too much.

    The overlap of two instances is DREEM's: their intersection over the smaller area. It is computed for their boxes if
    the recording has boxes; else for the crops around their anchors, as the mean over the anchors. Of two instances
    that overlap by more than `max_detection_overlap` the one with more visible key points is kept, else the first.
    """

    def __init__(self, recording: Recording, dataset: TestDataset) -> None:
        super().__init__(recording)
        self._dataset = dataset

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, pruned."""
        for frame in self._recording.frames(clips):
            kept = kept_rows(frame.detections, self._dataset, self.skeleton)
            if len(kept) < len(frame.detections):
                frame = replace(frame, detections=take_rows(frame.detections, kept))
            yield frame


def kept_rows(detections: Detections, dataset: TestDataset, skeleton: Skeleton | None) -> NDArray[np.intp]:
    """The rows that are kept, rising."""
    n = len(detections)
    if detections.boxes is not None:
        boxes = np.asarray(detections.boxes, np.float64)[:, None]
    else:
        assert detections.keypoints is not None
        boxes = crop_boxes(_anchors(detections.keypoints, dataset.anchors, skeleton), dataset)
    if detections.keypoints is None:
        n_visible = np.zeros(n, np.int64)
    else:
        n_visible = np.isfinite(detections.keypoints).all(axis=-1).sum(axis=1)
    over = shared_of_smaller(boxes) > dataset.max_detection_overlap
    alive = np.ones(n, bool)
    for i, j in zip(*np.nonzero(np.triu(over, 1)), strict=True):  # row by row
        if alive[i] and alive[j]:
            alive[i if n_visible[j] > n_visible[i] else j] = False
    return np.flatnonzero(alive)


def shared_of_smaller(boxes: FloatArray) -> NDArray[np.float64]:
    """Intersection over the smaller area, mean over anchors (n, n); 0 if a box is missing or has no area.

    Args:
        boxes: (n, A, 4) x1 y1 x2 y2.
    """
    first, second = boxes[:, None], boxes[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)  # (n, n, A)
    area = np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)
    smaller = np.minimum(area[:, None], area[None])
    ratio = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    return np.asarray(np.nan_to_num(ratio).mean(axis=-1), np.float64)


def crop_boxes(points: NDArray[np.float64], dataset: TestDataset) -> NDArray[np.float64]:
    """The crop around each point, as DREEM's `get_bbox` and `pad_bbox` compute it; (n, A, 4) for points (n, A, 2).

    A crop that extends beyond the left or top edge is shifted inside before it is padded. At the right and bottom it
    is not shifted.
    """
    side = np.array(dataset.crop_width_height)
    low = np.maximum(points + (-side) // 2, 0)
    high = np.where(low == 0, side, points + side // 2)
    return np.concatenate([low - dataset.padding, high + dataset.padding], axis=-1)


def _anchors(keypoints: FloatArray, anchors: str | list[str] | int, skeleton: Skeleton | None) -> NDArray[np.float64]:
    """(n, A, 2); the mean of the visible nodes for an anchor that is hidden, unknown or drawn at random."""
    keypoints = np.asarray(keypoints, np.float64)
    visible = np.asarray(np.isfinite(keypoints).all(axis=-1))[..., None]  # (n, k, 1)
    count = np.maximum(visible.sum(axis=1), 1)
    mean = np.where(visible.any(axis=1), np.where(visible, keypoints, 0).sum(axis=1) / count, np.nan)
    names = [anchors] if isinstance(anchors, str) else anchors if isinstance(anchors, list) else [""]
    nodes = () if skeleton is None else skeleton.nodes
    points = [
        mean if name in MEAN_OF_NODES or name not in nodes
        else np.where(visible[:, nodes.index(name)], keypoints[:, nodes.index(name)], mean)
        for name in names
    ]  # fmt: skip
    return np.stack(points, axis=1)
