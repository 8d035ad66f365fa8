"""The detector `yolo`: a model of the YOLO family, by the package ultralytics, or an ONNX file by OpenCV.

Written for ultralytics 8.4: `YOLO(file)`, and `predict(image, conf=, iou=, imgsz=, verbose=False)`, which takes an
image in the channel order of OpenCV and returns a list with one `Results`: `boxes.xyxy`, `boxes.conf`, `boxes.cls`,
`keypoints.xy`, `keypoints.conf`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.detectors.detector import Detector, DetectorError, number, whole
from trackd_client.detectors.poses import as_array
from trackd_client.detectors.yolo_output import decoded, letterboxed


class YoloDetector(Detector):
    """Boxes, and poses if the model has them.

    Args:
        model: a file: `.onnx` is run by OpenCV, any other by ultralytics.
        confidence: the lowest score, 0 to 1.
        iou: boxes that overlap by more are one, 0 to 1.
        size: the side of the network's input, pixels.
        nodes: the number of nodes of an ONNX model for poses; 0: it has none.
        network: an object in place of `model`: ultralytics' `YOLO`, or OpenCV's `dnn.Net`.
    """

    def __init__(
        self,
        *,
        model: str = "",
        confidence: float = 0.25,
        iou: float = 0.5,
        size: int = 640,
        nodes: int = 0,
        network: Any = None,
    ) -> None:
        self._confidence, self._iou = number("confidence", confidence, 0, 1), number("iou", iou, 0, 1)
        self._size, self._nodes = whole("size", size, 32), whole("nodes", nodes, 0)
        self._network = network if network is not None else _load(model)
        self._by_opencv = hasattr(self._network, "setInput")

    def __call__(self, image: Image) -> Detections:
        """Return the detections of an image."""
        colour = np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :3]
        if self._by_opencv:
            fitted, scale = letterboxed(np.asarray(colour, np.uint8), self._size)
            self._network.setInput(cv2.dnn.blobFromImage(fitted, 1 / 255))
            return decoded(np.asarray(self._network.forward()), scale, self._nodes, self._confidence, self._iou)
        found = self._network.predict(
            np.ascontiguousarray(colour[..., ::-1]),
            conf=self._confidence,
            iou=self._iou,
            imgsz=self._size,
            verbose=False,
        )
        return detections_of(found[0])


def detections_of(result: Any) -> Detections:
    """Return a `Results` of ultralytics as detections; a node at (0, 0) is not visible."""
    boxes = result.boxes
    if boxes is None or not len(boxes):
        return Detections.empty()
    found = Detections(
        boxes=as_array(boxes.xyxy).astype(np.float32),
        scores=as_array(boxes.conf).astype(np.float32),
        classes=as_array(boxes.cls).astype(np.int32),
    )
    if getattr(result, "keypoints", None) is not None:
        points = as_array(result.keypoints.xy).astype(np.float32).copy()
        points[(points == 0).all(axis=2)] = np.nan
        found.keypoints = points
        if result.keypoints.conf is not None:
            found.keypoint_scores = as_array(result.keypoints.conf).astype(np.float32)
    return found


def _load(model: str) -> Any:
    if not model:
        raise DetectorError("the detector yolo needs a model: --detector-option model=FILE")
    if model.lower().endswith(".onnx"):
        if not Path(model).is_file():
            raise DetectorError(f"{model}: no such model")
        try:
            return cv2.dnn.readNetFromONNX(model)
        except cv2.error as error:
            raise DetectorError(f"{model}: OpenCV cannot read this ONNX file: {error.err}") from None
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise DetectorError(
            f"the detector yolo needs ultralytics for {model}: pip install ultralytics, or export the model to "
            f"ONNX ({error})"
        ) from None
    try:
        return YOLO(model)
    except (OSError, ValueError, TypeError) as error:
        raise DetectorError(f"ultralytics cannot load {model}: {error}") from None
