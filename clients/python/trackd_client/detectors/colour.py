"""The detector `colour`: regions of a range of hues."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trackd_client.detections import Detections, Image
from trackd_client.detectors.detector import Detector, DetectorError, number
from trackd_client.detectors.regions import Regions


class ColourDetector(Detector):
    """Animals, or marks on them, of one colour.

    Args:
        hue: the first and the last hue, degrees from 0 to 360: 0 red, 120 green, 240 blue. A range may go through 0:
            `[340, 20]` is red.
        saturation: the lowest saturation, percent; gray is 0.
        value: the lowest value, percent; black is 0.
        animals: the number of animals in view, by which touching ones are divided.
        min_area, max_area: of an animal, pixels; 1/5000 and 1/8 of the image if None. Where all `animals` are smaller
            than that, the smallest area becomes a quarter of theirs.
        keypoints: `centroid`, `axis` (head and tail) or `none`.
    """

    def __init__(
        self,
        *,
        hue: Sequence[float] = (340, 20),
        saturation: float = 40,
        value: float = 25,
        animals: int | None = None,
        min_area: float | None = None,
        max_area: float | None = None,
        keypoints: str = "centroid",
    ) -> None:
        if isinstance(hue, str) or not isinstance(hue, Sequence) or len(hue) != 2:
            raise DetectorError(f"the option hue is the first and the last hue, as in hue=[340,20]; got {hue!r}")
        # OpenCV has hues of 2 degrees, from 0 to 179.
        self._first, self._last = (round(number("hue", degrees, 0, 360) / 2) % 180 for degrees in hue)
        self._saturation = round(number("saturation", saturation, 0, 100) * 2.55)
        self._value = round(number("value", value, 0, 100) * 2.55)
        self._regions = Regions(animals, min_area, max_area, keypoints)
        self.skeleton = self._regions.skeleton

    def __call__(self, image: Image) -> Detections:
        """Return the regions of the colour; none in a gray image."""
        if image.ndim == 2 or image.shape[2] < 3:
            return self._regions.detections(np.zeros(image.shape[:2], np.uint8))
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        hsv = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2HSV)
        if self._first <= self._last:
            mask = self._in_range(hsv, self._first, self._last)
        else:
            mask = self._in_range(hsv, self._first, 179) | self._in_range(hsv, 0, self._last)
        return self._regions.detections(np.asarray(mask, np.uint8))

    def why_none(self) -> str | None:
        """Return what the regions say."""
        return self._regions.why_none()

    def _in_range(self, hsv: np.ndarray, first: int, last: int) -> np.ndarray:
        low = np.array([first, self._saturation, self._value], np.uint8)
        return np.asarray(cv2.inRange(hsv, low, np.array([last, 255, 255], np.uint8)))
