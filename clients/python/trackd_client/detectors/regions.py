"""From the mask of an image to detections: the part that all detectors of blobs share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from trackd_client.detections import Detections, Skeleton
from trackd_client.detectors.blobs import Mask, Pixels, measured, only, pixels_of
from trackd_client.detectors.detector import DetectorError, number, whole
from trackd_client.detectors.outline import Outline
from trackd_client.detectors.smallest import FLOOR, SmallestArea
from trackd_client.detectors.splitting import Splitter

LARGEST = 1 / 8  # of the image's area, if no other area is given


class Regions:
    """The regions of masks, as detections.

    Args:
        animals: the number of animals in view, by which touching ones are divided; None: not known.
        min_area: of a region, pixels; None: 1/5000 of the image, or less where `animals` are smaller than that.
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
        self._smallest = SmallestArea(animals)
        self._seen = False  # any region that was kept
        self._left_out = 0  # pixels of the largest region, until then
        self._limits = 0.0, 0.0  # pixels: the smallest and the largest region that was kept then
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
        pixels = self._kept(cleaned)
        blobs = measured(pixels) if self._splitter is None else self._splitter.split(pixels)
        return self._outline.detections(blobs)

    def why_none(self) -> str | None:
        """Return why no image had a detection, in one line; None if one had, or it is not known."""
        if self._seen or not self._left_out:
            return None
        low, high = self._limits
        limit = f"min_area is {low:.0f}" if self._left_out < low else f"max_area is {high:.0f}"
        return f"the largest region had {self._left_out} pixels, and {limit}"

    def _kept(self, mask: Mask) -> Pixels:
        largest = mask.size * LARGEST if self._max_area is None else self._max_area
        smallest = self._smallest.of(mask.size) if self._min_area is None else self._min_area
        learns = self._min_area is None and self._smallest.learns(mask.size)
        if self._seen and not learns:
            return pixels_of(mask, smallest, largest)
        pixels = pixels_of(mask, 1, mask.size)
        areas = np.bincount(pixels.rows, minlength=pixels.n).astype(float)
        if learns:
            self._smallest.learn(areas[(areas >= FLOOR) & (areas <= largest)])
        kept = only(pixels, (areas >= smallest) & (areas <= largest))
        self._seen = self._seen or kept.n > 0
        if not self._seen:
            self._left_out, self._limits = max(self._left_out, int(areas.max(initial=0))), (smallest, largest)
        return kept
