"""The input and the output of a YOLO network in an ONNX file.

Letters: a candidates, c classes, k nodes.
"""

from __future__ import annotations

import cv2
import numpy as np

from trackd_client.detections import Detections
from trackd_client.detectors.detector import DetectorError

PADDING = 114  # the gray around an image, as in training


def letterboxed(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """Fit an image (h, w, 3) into the upper left of a square; return the square and its scale."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    square = np.full((side, side, 3), PADDING, np.uint8)
    square[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return square, scale


def decoded(output: np.ndarray, scale: float, nodes: int, confidence: float, iou: float) -> Detections:
    """Return the detections in a network's output.

    Args:
        output: (1, 4 + c + 3 k, a) as of YOLOv8, or transposed: cx cy w h, the score of each class, x y visibility of
            each node. Or (1, a, 6 + 3 k) of a network that selects its boxes itself, as YOLOv10: x1 y1 x2 y2, score,
            class.
        scale: of the letterboxed image.
        nodes: k; a network for poses has one class.
        confidence: the lowest score.
        iou: boxes of one class that overlap by more are one.

    Raises:
        DetectorError: the output has another form.
    """
    if output.ndim != 3 or output.shape[0] != 1 or min(output.shape[1:]) < 5 + 3 * nodes:
        raise DetectorError(
            f"a YOLO network gives (1, 4 + classes + 3 · nodes, candidates) or (1, n, 6); this one gives {output.shape}"
        )
    table = output[0].astype(np.float32)
    if table.shape[1] == 6 + 3 * nodes and table.shape[0] != 5 + 3 * nodes and _are_corners(table):
        kept = table[table[:, 4] >= confidence]
        boxes, scores, classes, rest = kept[:, :4], kept[:, 4], kept[:, 5].astype(np.int32), kept[:, 6:]
        return _detections(boxes, scores, classes, rest, scale, nodes)
    if table.shape[0] < table.shape[1]:  # there are more candidates than columns
        table = table.T
    n_classes = table.shape[1] - 4 - 3 * nodes
    by_class = table[:, 4 : 4 + n_classes]
    scores, classes = by_class.max(axis=1), by_class.argmax(axis=1).astype(np.int32)
    kept = np.flatnonzero(scores >= confidence)
    centres, sizes = table[kept, :2], table[kept, 2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    corners_and_sizes = np.concatenate([boxes[:, :2], sizes], axis=1)
    chosen = cv2.dnn.NMSBoxesBatched(
        corners_and_sizes.tolist(), scores[kept].tolist(), classes[kept].tolist(), confidence, iou
    )
    order = np.asarray(chosen, np.int64).ravel()
    rest = table[kept, 4 + n_classes :]
    return _detections(boxes[order], scores[kept][order], classes[kept][order], rest[order], scale, nodes)


def _are_corners(table: np.ndarray) -> bool:
    """Whether the columns 2 and 3 are the lower right corner, and the last one is a class's number."""
    ordered = (table[:, 2] >= table[:, 0]) & (table[:, 3] >= table[:, 1])
    return bool(ordered.all() and (table[:, 5] == np.round(table[:, 5])).all() and (table[:, 4] <= 1).all())


def _detections(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, rest: np.ndarray, scale: float, nodes: int
) -> Detections:
    if not len(boxes):
        return Detections.empty()
    found = Detections(boxes=boxes / np.float32(scale), scores=scores, classes=classes)
    if nodes:
        poses = rest[:, : 3 * nodes].reshape(-1, nodes, 3)
        found.keypoints = poses[..., :2] / np.float32(scale)
        found.keypoint_scores = poses[..., 2]
        found.keypoints[found.keypoint_scores < 0.5] = np.nan
    return found
