"""The detections of one frame as plain arrays, used by the client and the daemon.

Letters: n detections, k keypoints per detection, h × w the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
Image = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(slots=True, eq=False)
class Detections:
    """n detections of one frame, in the detector's order.

    At least one of `boxes` and `keypoints` is given; all arrays share the first axis n ≥ 0.
    A row with NaN or infinite coordinates is legal: it gets no track id and does not affect other rows.
    """

    boxes: FloatArray | None = None  # (n, 4) x1 y1 x2 y2, pixels
    keypoints: FloatArray | None = None  # (n, k, 2) x y, pixels, NaN where not visible
    scores: FloatArray | None = None  # (n,)
    keypoint_scores: FloatArray | None = None  # (n, k)
    classes: NDArray[np.int32] | None = None  # (n,)
    masks: IntArray | None = None  # (h, w) label image <u2 or <i4: label i + 1 is instance i
    gt_ids: NDArray[np.int64] | None = None  # (n,) ground truth, -1 for none; never used to assign ids

    def __len__(self) -> int:
        if self.boxes is not None:
            return len(self.boxes)
        return 0 if self.keypoints is None else len(self.keypoints)

    @classmethod
    def empty(cls) -> Detections:
        """Return detections with n = 0."""
        return cls(boxes=np.empty((0, 4), np.float32))

    @classmethod
    def from_supervision(cls, found: Any) -> Detections:
        """Return a `Detections` or `KeyPoints` of supervision.

        Masks become a label image; where they overlap the later instance has the pixel.

        Args:
            found: with `xyxy` (n, 4), or `xy` (n, k, 2); optional `confidence`, `class_id`, `mask` (n, h, w).

        Raises:
            ValueError: it has neither boxes nor keypoints.
        """
        classes = _integers(getattr(found, "class_id", None))
        if getattr(found, "xyxy", None) is not None:
            boxes = _floats(found.xyxy).reshape(-1, 4)
            scores, masks = _floats_or_none(getattr(found, "confidence", None)), _labels(getattr(found, "mask", None))
            return cls(boxes=boxes, scores=scores, classes=classes, masks=masks)
        if getattr(found, "xy", None) is None:
            raise ValueError(f"should be a Detections or KeyPoints of supervision; got {type(found).__name__}")
        points = _visible(_floats(found.xy))
        node_scores = getattr(found, "keypoint_confidence", None)
        if node_scores is None:
            node_scores = getattr(found, "confidence", None)
        scores = _floats_or_none(getattr(found, "detection_confidence", None))
        return cls(keypoints=points, scores=scores, keypoint_scores=_floats_or_none(node_scores), classes=classes)

    @classmethod
    def from_ultralytics(cls, result: Any) -> Detections:
        """Return the `Results` of one image of ultralytics. A node at (0, 0) is not visible.

        Args:
            result: with `boxes` (`xyxy`, `conf`, `cls`), and optional `keypoints` (`xy`, `conf`) and `masks` (`data`).
                Masks are used if they have the image's size (`retina_masks=True`).

        Raises:
            ValueError: it has no boxes, as the result of a classification.
        """
        if getattr(result, "boxes", None) is None:
            raise ValueError(f"should be Results of ultralytics with boxes; got {type(result).__name__} without")
        boxes = result.boxes
        found = cls(boxes=_floats(boxes.xyxy).reshape(-1, 4), scores=_floats(boxes.conf), classes=_integers(boxes.cls))
        if getattr(result, "keypoints", None) is not None and len(found):
            found.keypoints = _visible(_floats(result.keypoints.xy))
            found.keypoint_scores = _floats_or_none(result.keypoints.conf)
        if getattr(result, "masks", None) is not None:
            masks = _array(result.masks.data)
            if masks.shape[1:] == tuple(result.orig_shape):
                found.masks = _labels(masks > 0.5)
        return found

    @classmethod
    def from_sleap(cls, frame: Any) -> Detections:
        """Return the instances of a frame of SLEAP; those without a visible node are left out.

        Args:
            frame: a `LabeledFrame` of sleap-io, or a list of instances: each with `numpy()` (k, 2 or more), and
                optional `score`, and of predicted ones `points["score"]`.
        """
        instances = getattr(frame, "instances", frame)
        rows = [(instance, _floats(instance.numpy())[:, :2]) for instance in instances]
        rows = [(instance, points) for instance, points in rows if np.isfinite(points).all(axis=1).any()]
        if not rows:
            return cls.empty()
        scores = [getattr(instance, "score", None) for instance, _ in rows]
        nodes = [_node_scores(instance) for instance, _ in rows]
        return cls(
            keypoints=np.stack([points for _, points in rows]),
            scores=None if any(score is None for score in scores) else _floats(scores),
            keypoint_scores=None if any(node is None for node in nodes) else _floats(nodes),
        )

    @classmethod
    def from_dlc(cls, pose: Any, confidence: float = 0.0) -> Detections:
        """Return a pose of DeepLabCut-Live; instances without a visible node are left out.

        Args:
            pose: (k, 3) or (n, k, 3): x, y, likelihood.
            confidence: nodes of a lower likelihood are not visible.

        Raises:
            ValueError: it has another shape.
        """
        poses = _floats(pose)
        poses = poses[None] if poses.ndim == 2 else poses
        if poses.ndim != 3 or poses.shape[2] != 3:
            raise ValueError(f"a pose of DeepLabCut-Live has the shape (k, 3) or (n, k, 3); got {_array(pose).shape}")
        points, likelihoods = poses[..., :2].copy(), np.clip(np.nan_to_num(poses[..., 2]), 0.0, 1.0)
        points[(likelihoods < confidence) | ~np.isfinite(points).all(axis=2)] = np.nan
        visible = np.logical_or.reduce(np.isfinite(points).all(axis=2), axis=1)
        return cls(
            keypoints=points[visible],
            scores=likelihoods[visible].mean(axis=1),
            keypoint_scores=likelihoods[visible],
        )


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The nodes of a pose and the edges between them, by node number."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = field(default=())


def _array(values: Any) -> NDArray[Any]:
    """Return an array, or a torch tensor on any device, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _floats(values: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(_array(values), np.float32)


def _floats_or_none(values: Any) -> NDArray[np.float32] | None:
    return None if values is None else _floats(values)


def _integers(values: Any) -> NDArray[np.int32] | None:
    return None if values is None else _array(values).astype(np.int32)


def _visible(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, k, 2) keypoints with NaN for those at (0, 0), where these libraries put nodes that they do not see."""
    points = points.copy()
    points[np.all(points == 0, axis=2)] = np.nan
    return points


def _labels(masks: Any) -> IntArray | None:
    """Return (n, h, w) masks as a label image; None for none."""
    if masks is None:
        return None
    masks = _array(masks).astype(bool)
    labels = np.zeros(masks.shape[1:], np.uint16 if len(masks) < 65_535 else np.int32)
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
    return labels


def _node_scores(instance: Any) -> NDArray[np.float32] | None:
    """Return the (k,) scores of a predicted instance of sleap-io; None for any other."""
    points = getattr(instance, "points", None)
    names = getattr(getattr(points, "dtype", None), "names", None) or ()
    return _floats(points["score"]) if points is not None and "score" in names else None
