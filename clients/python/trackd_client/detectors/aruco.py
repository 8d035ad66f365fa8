"""The detector `aruco`: ArUco and AprilTag markers, by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from trackd_client.detections import Detections, Image, Skeleton
from trackd_client.detectors.detector import Detector, DetectorError, choice, gray

CORNERS = Skeleton(("top_left", "top_right", "bottom_right", "bottom_left"), ((0, 1), (1, 2), (2, 3), (3, 0)))
CENTROID = Skeleton(("centroid",))


class ArucoDetector(Detector):
    """Printed markers. The number of each is its class; trackd's ids do not depend on it.

    Args:
        dictionary: the name of OpenCV's dictionary, such as `DICT_4X4_50` or `DICT_APRILTAG_36H11`.
        keypoints: `corners` (top left, top right, bottom right, bottom left of the marker) or `centroid`.
        truth: whether a marker's number is sent as its true identity too (`gt_ids`), by which the ids can be scored.
    """

    def __init__(self, *, dictionary: str = "DICT_4X4_50", keypoints: str = "corners", truth: bool = False) -> None:
        known = sorted(name for name in dir(cv2.aruco) if name.startswith("DICT_"))
        if dictionary not in known:
            raise DetectorError(f"the option dictionary is one of {', '.join(known)}; got {dictionary!r}")
        self._detector = cv2.aruco.ArucoDetector(
            cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary)), cv2.aruco.DetectorParameters()
        )
        self._corners = choice("keypoints", keypoints, "corners", "centroid") == "corners"
        self._truth = bool(truth)
        self.skeleton = CORNERS if self._corners else CENTROID

    def __call__(self, image: Image) -> Detections:
        """Return the markers of an image, by their numbers."""
        found, numbers, _ = self._detector.detectMarkers(gray(image))
        if numbers is None or not len(found):
            return Detections.empty()
        order = np.argsort(np.ravel(numbers), kind="stable")
        classes = np.ravel(numbers)[order].astype(np.int32)
        corners = np.stack([np.reshape(marker, (4, 2)) for marker in found])[order].astype(np.float32)
        return Detections(
            boxes=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
            keypoints=corners if self._corners else corners.mean(axis=1, keepdims=True),
            classes=classes,
            gt_ids=classes.astype(np.int64) if self._truth else None,
        )
