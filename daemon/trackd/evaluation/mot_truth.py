"""The ground truth of a MOTChallenge sequence, with the challenge's rules for the boxes that count.

Since MOT16 a ground truth also has classes. Only considered pedestrians count. A result that is matched to a person on
a vehicle, a static person, a distractor or a reflection is left out.
Letters: g ground-truth boxes of a frame, n results; boxes are left, top, width, height as in the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.evaluation.sequence import ScoredFrame
from trackd.outputs.formats.mot import mot_box
from trackd.outputs.records import Floats
from trackd_client.detections import IntArray
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.motchallenge import read_table

PEDESTRIAN = 1
NOT_COUNTED = (2, 7, 8, 12)  # person on vehicle, static person, distractor, reflection
MIN_IOU = 0.5
_ID, _BOX, _CONSIDERED, _CLASS = 1, slice(2, 6), 6, 7


class MotTruth:
    """The content of a gt.txt.

    Raises:
        RecordingError: a row is not MOTChallenge, or exceeds the limits.
    """

    def __init__(self, path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        rows = read_table(path, limits)[:, :9]  # sorted by frame
        table = np.ones((len(rows), 9))
        table[:, : rows.shape[1]] = rows
        self._frames = table[:, 0].astype(np.int64) - 1
        limits.check_crowds(self._frames, path)
        # In MOT15 the eighth column is a coordinate, not a class.
        classes = table[:, _CLASS]
        self._classes = bool(np.isin(classes, range(1, 14)).all() and (classes != PEDESTRIAN).any())
        self._table = table

    def frame(self, frame_index: int, track_ids: IntArray, boxes: Floats) -> ScoredFrame:
        """A frame's truth and its results: ids (n,), -1 for none, and boxes (n, 4) x1 y1 x2 y2."""
        first, last = np.searchsorted(self._frames, [frame_index, frame_index + 1])
        truth = self._table[first:last]
        found = track_ids >= 0
        ids, results = track_ids[found], in_file(boxes[found])
        similarity = iou_of_sizes(truth[:, _BOX], results)
        kept = truth[:, _CONSIDERED] != 0
        if self._classes:
            on = self._on_not_counted(truth, similarity)
            ids, similarity = np.delete(ids, on), np.delete(similarity, on, axis=1)
            kept &= truth[:, _CLASS] == PEDESTRIAN
        return ScoredFrame(frame_index, truth[kept, _ID].astype(np.int64), ids, similarity[kept])

    def after(self, frame_index: int) -> list[ScoredFrame]:
        """The frames of the truth after this one, without results."""
        none, no_boxes = np.empty(0, np.int64), np.empty((0, 4), np.float32)
        rest = np.unique(self._frames[self._frames > frame_index]).tolist()
        return [self.frame(index, none, no_boxes) for index in rest]

    @staticmethod
    def _on_not_counted(truth: NDArray[np.float64], similarity: NDArray[np.float64]) -> NDArray[np.intp]:
        """The results that are matched to a box of a class that does not count."""
        near = np.where(similarity >= MIN_IOU - np.finfo(float).eps, similarity, 0)
        rows, columns = linear_sum_assignment(near, maximize=True)
        matched = near[rows, columns] > 0
        return np.asarray(columns[matched & np.isin(truth[rows, _CLASS], NOT_COUNTED)])


def in_file(boxes: Floats) -> NDArray[np.float64]:
    """Boxes (n, 4) x1 y1 x2 y2 with the decimals of the MOT output, so that the scores equal those of the file."""
    texts = [mot_box(box) for box in boxes.astype(np.float32)]
    return np.array(texts, np.float64).reshape(-1, 4)


def iou_of_sizes(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes (g, 4) and (n, 4), left top width height: (g, n)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1)[None] - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap
