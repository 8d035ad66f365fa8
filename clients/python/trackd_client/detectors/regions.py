"""From the mask of an image to detections: the part that all detectors of blobs share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from trackd_client.detections import Detections, Skeleton
from trackd_client.detectors.blobs import Mask, measured, pixels_of
from trackd_client.detectors.detector import DetectorError, number, whole
from trackd_client.detectors.outline import Outline
from trackd_client.detectors.splitting import Splitter

SMALLEST, LARGEST = 1 / 5000, 1 / 8  # of the image's area, if no other areas are given


class Regions:
    """The regions of masks, as detections.

    Args:
        animals: the number of animals in view, by which touching ones are divided; None: not known.
        min_area: of a region, pixels; None: 1/5000 of the image.
        max_area: of a region, pixels; None: 1/8 of the image.
        keypoints: `centroid`, `axis` (head and tail) or `none`.
    """

    def __init__(
        self,
        animals: int | None = None,
        min_area: float | None = None,
        max_area: float | None = None,
        keypoints: str = "centroid",
    ) -> None:
        self._min_area = None if min_area is None else number("min_area", min_area, 1)
        self._max_area = None if max_area is None else number("max_area", max_area, 1)
        if self._min_area is not None and self._max_area is not None and self._min_area > self._max_area:
            raise DetectorError(f"the option min_area is at most max_area; got {min_area} and {max_area}")
        self._splitter = None if animals is None else Splitter(whole("animals", animals, 1))
        self._outline = Outline(keypoints)
        self._kernel: Any = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))

    @property
    def skeleton(self) -> Skeleton | None:
        """The nodes of the keypoints."""
        return self._outline.skeleton

    def detections(self, mask: Mask) -> Detections:
        """Return the regions of a mask (h, w) of 0 and 255, without single pixels."""
        cleaned = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, self._kernel), np.uint8)
        smallest = mask.size * SMALLEST if self._min_area is None else self._min_area
        largest = mask.size * LARGEST if self._max_area is None else self._max_area
        pixels = pixels_of(cleaned, smallest, largest)
        blobs = measured(pixels) if self._splitter is None else self._splitter.split(pixels)
        return self._outline.detections(blobs)
