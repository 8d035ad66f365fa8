"""The instances of one frame as the tracker uses them: arrays, checked once.

Letters: n instances, k nodes of the skeleton, A anchors per instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLAG, FLOAT, FLOAT32_TABLE, GIVEN_BOXES, compiled
from trackd.tracking.geometry import box_points, crop_boxes
from trackd.tracking.posed import read_poses
from trackd_client.detections import Detections, Skeleton

if TYPE_CHECKING:
    from trackd_client.recordings.config import LiveDataset

# float32 cannot resolve a pixel beyond this value; such a coordinate is a fault of the detector.
MAX_COORDINATE_PX = 1e7

# The columns of frames without faults and scores; all frames share them.
_ALL, _NONE, _UNKNOWN = np.ones(1024, bool), np.zeros(1024, bool), np.full(1024, np.nan, np.float32)
for _each in (_ALL, _NONE, _UNKNOWN):
    _each.flags.writeable = False

BoxesFrom = Literal["detection", "crop"]


@dataclass(slots=True, eq=False)
class Instances:
    """n instances of one frame, in the sender's order; one row for every detection, valid or not."""

    boxes: NDArray[np.float32]  # (n, A, 4) x1 y1 x2 y2: the rules compare these; NaN for a missing anchor
    extents: NDArray[np.float32]  # (n, 4) x1 y1 x2 y2: published
    centres: NDArray[np.float32]  # (n, 2) x y: the mean of its anchors, or the centre of its box
    scores: NDArray[np.float32]  # (n,) the detector's, NaN if it gave none
    keypoints: NDArray[np.floating[Any]] | None  # (n, k, 2) as sent
    valid: NDArray[np.bool_]  # (n,) takes part in the association
    spoiled: NDArray[np.bool_]  # (n,) NaN, infinite or inverted coordinates
    all_valid: bool  # every row takes part
    scored: bool = False  # the detector gave scores
    skeleton: Skeleton | None = None
    frame_shape: tuple[int, int] | None = None  # (h, w) of the frame, pixels

    def __len__(self) -> int:
        return len(self.valid)

    @classmethod
    def of(
        cls,
        detections: Detections,
        dataset: LiveDataset,
        skeleton: Skeleton | None = None,
        boxes_from: BoxesFrom = "detection",
        frame_shape: tuple[int, int] | None = None,
    ) -> Instances:
        """Check and convert the detections of one frame.

        Args:
            detections: the frame's detections.
            dataset: crop size, padding, anchors, handling of missing anchors and seed.
            skeleton: the names of the nodes; needed if `dataset.anchors` names one.
            boxes_from: "detection": the sender's boxes are compared as they are, unless `dataset.anchors` names nodes
                that were sent; "crop": always the crop boxes around the anchors.
            frame_shape: (h, w) of the frame, if known.

        Raises:
            ValueError: an unknown anchor; neither boxes nor keypoints.
        """
        if detections.boxes is None and detections.keypoints is None:
            raise ValueError("detections must hold boxes or keypoints; got neither")
        sent = None if detections.boxes is None else np.ascontiguousarray(detections.boxes, np.float32)
        if detections.keypoints is None and boxes_from == "detection" and sent is not None:
            # Most frames are valid boxes alone: one pass over them is enough.
            centres = np.empty((len(sent), 2), np.float32)
            if _check_boxes(sent, centres, MAX_COORDINATE_PX):
                valid, spoiled, unknown = _usual_columns(len(sent))
                scores = unknown if detections.scores is None else np.asarray(detections.scores, np.float32)
                is_scored = detections.scores is not None
                # Positional, in the fields' order, as every value here that each frame makes.
                return cls(
                    sent[:, None], sent, centres, scores, None, valid, spoiled, True, is_scored, skeleton, frame_shape
                )
        n = len(detections)
        centres = np.empty((n, 2), np.float32)
        valid, spoiled, unknown = _usual_columns(n)
        if detections.boxes is not None and sent is not None and not _check_boxes(sent, centres, MAX_COORDINATE_PX):
            valid = _boxes_usable(detections.boxes)
            spoiled = ~valid
        if detections.keypoints is not None:
            posed = read_poses(detections.keypoints, sent, dataset, skeleton, MAX_COORDINATE_PX)
            extents, compared = posed.extents, posed.crops
            if sent is not None and boxes_from == "detection" and dataset.anchors == "":
                compared = sent[:, None]
            else:
                centres = posed.centres
            if not posed.all_usable:
                valid = valid & posed.usable
                spoiled = ~valid
            if dataset.handle_missing == "drop":
                valid = valid & np.asarray(np.isfinite(posed.points).all(axis=(1, 2)))
        else:
            assert sent is not None
            extents, compared = sent, sent[:, None]
            if boxes_from == "crop":
                points = box_points(np.asarray(detections.boxes), dataset.anchors)
                compared = crop_boxes(points, dataset.crop_size, dataset.padding)
                centres = _anchor_means(points, sent)
        return cls(
            boxes=compared,
            extents=extents,
            centres=centres,
            scores=unknown if detections.scores is None else np.asarray(detections.scores, np.float32),
            keypoints=detections.keypoints,
            valid=valid,
            spoiled=spoiled,
            all_valid=bool(valid.all()),
            scored=detections.scores is not None,
            skeleton=skeleton,
            frame_shape=frame_shape,
        )


@lru_cache(maxsize=64)  # a stream has few numbers of instances; slices take longer
def _usual_columns(n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
    """Return (n,) True, (n,) False and (n,) NaN; not to be written to."""
    if n <= len(_ALL):
        return _ALL[:n], _NONE[:n], _UNKNOWN[:n]
    return np.ones(n, bool), np.zeros(n, bool), np.full(n, np.nan, np.float32)


@compiled(FLAG, GIVEN_BOXES, FLOAT32_TABLE, FLOAT)
def _check_boxes(boxes: NDArray[np.float32], centres: NDArray[np.float32], limit: float) -> bool:
    """Return whether all boxes (n, 4) are usable; write their centres (n, 2)."""
    usable = True
    for i in range(len(boxes)):
        for side in range(2):
            low, high = boxes[i, side], boxes[i, 2 + side]
            usable &= -limit <= low and low <= high and high <= limit  # false for NaN
            centres[i, side] = (low + high) * np.float32(0.5)
    return usable


def _boxes_usable(boxes: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    # A comparison with NaN is false, so NaN fails here as well.
    within = (np.abs(boxes) <= MAX_COORDINATE_PX).all(axis=1)
    upright = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    return np.asarray(within & upright)


def _middles(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5))


def _anchor_means(points: NDArray[np.float64], extents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean of the anchors that are present, else the extent's centre; (n, 2)."""
    there = np.asarray(np.isfinite(points).all(axis=2))
    count = there.sum(axis=1, keepdims=True)
    total = np.where(there[:, :, None], points, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), _middles(extents)).astype(np.float32)
