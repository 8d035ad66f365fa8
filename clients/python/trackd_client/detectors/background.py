"""The detector `background`: what differs from a background that is learned from the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, Image
from trackd_client.detectors.blobs import Mask
from trackd_client.detectors.detector import Detector, choice, number, whole
from trackd_client.detectors.regions import Regions

SAMPLES = 15  # images of a warm-up, of which the background is the median
CHANGED = 0.5  # of the pixels: the light was switched or the camera was moved
CHANGED_FOR = 10  # images


class BackgroundDetector(Detector):
    """Moving animals before a background that stays, seen by a camera that stays.

    The background is the median of images: of the whole recording for a file, of the first `warm_up` images for a
    camera; during these there are no detections. Then it follows slow changes of the light, by one gray level every
    `every` images, and under the animals `hold` times slower. So an animal that rests is seen for minutes, and a place
    that an animal has left for the first time is its ghost for as long. If more than half of the image has changed, the
    background is learned again.

    Args:
        animals: the number of animals in view, by which touching ones are divided.
        method: `median`, or `mog2`: OpenCV's mixture of Gaussians, for backgrounds that move, as water does.
        polarity: `both`, or `dark` or `light` for animals darker or lighter than the background.
        threshold: the difference of an animal to the background, gray levels (`median`).
        min_area, max_area: of an animal, pixels; 1/5000 and 1/8 of the image if None. Where all `animals` are smaller
            than that, the smallest area becomes a quarter of theirs.
        blur: the width of the filter against noise, odd, pixels; 1: none.
        warm_up: images of a camera before the first detections.
        every: images between two steps of the background (`median`).
        hold: how many times slower the background changes under animals (`median`).
        keypoints: `centroid`, `axis` (head and tail) or `none`.
    """

    def __init__(
        self,
        *,
        animals: int | None = None,
        method: str = "median",
        polarity: str = "both",
        threshold: float = 25,
        min_area: float | None = None,
        max_area: float | None = None,
        blur: int = 5,
        warm_up: int = 60,
        every: int = 10,
        hold: int = 4,
        keypoints: str = "centroid",
    ) -> None:
        self._regions = Regions(animals, min_area, max_area, keypoints)
        self.skeleton = self._regions.skeleton
        self._polarity = choice("polarity", polarity, "both", "dark", "light")
        self._threshold = number("threshold", threshold, 1, 255)
        self._blur = whole("blur", blur, 1, 99) | 1
        self._warm_up = whole("warm_up", warm_up, 1)
        mog2 = choice("method", method, "median", "mog2") == "mog2"
        self._model: MedianModel | Mog2Model
        if mog2:
            self._model = Mog2Model(self._warm_up)
        else:
            self._model = MedianModel(self._warm_up, whole("every", every, 1), whole("hold", hold, 1))

    def prepare(self, images: Sequence[Image]) -> None:
        """Learn the background from images of the whole recording."""
        self._model.learn([self._smooth(image) for image in images])

    def __call__(self, image: Image) -> Detections:
        """Return the animals of an image; none during the warm-up."""
        smooth = self._smooth(image)
        mask = self._model.mask(smooth, self._polarity, self._threshold)
        if mask is None:
            return self._regions.detections(np.zeros(smooth.shape[:2], np.uint8))
        found = self._regions.detections(mask)
        self._model.follow(smooth, mask)
        return found

    def why_none(self) -> str | None:
        """Return what the regions say."""
        return self._regions.why_none()

    def _smooth(self, image: Image) -> NDArray[np.uint8]:
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        return np.asarray(cv2.GaussianBlur(image, (self._blur, self._blur), 0), np.uint8)


class MedianModel:
    """The median of some images, which then follows slow changes.

    A step towards each new image by one gray level approaches the median of the images (Manzanera and Richefeu 2007,
    "A new motion detection algorithm based on Σ-Δ background estimation").
    """

    def __init__(self, warm_up: int, every: int, hold: int) -> None:
        self._warm_up, self._every, self._hold = warm_up, every, hold
        self._samples: list[NDArray[np.uint8]] = []
        self._background: Any = None
        self._seen = 0  # images since the model began
        self._changed = 0  # images in a row of which more than half has changed

    def learn(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Take the median of images of one shape as the background."""
        if images:
            self._background = np.median(np.stack(images), axis=0).astype(np.uint8)

    def mask(self, image: NDArray[np.uint8], polarity: str, threshold: float) -> Mask | None:
        """Return the foreground of an image; None while the background is not known."""
        if self._background is not None and self._background.shape != image.shape:
            self._forget()
        if self._background is None:
            self._warm(image)
            return None
        if polarity == "both":
            difference = cv2.absdiff(image, self._background)
        elif polarity == "light":
            difference = cv2.subtract(image, self._background)
        else:
            difference = cv2.subtract(self._background, image)
        if difference.ndim == 3:
            first, *others = cv2.split(difference)
            for other in others:
                first = cv2.max(first, other)
            difference = first
        return np.asarray(cv2.threshold(difference, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)

    def follow(self, image: NDArray[np.uint8], mask: Mask) -> None:
        """Let the background follow the image, more slowly where the mask is set."""
        self._changed = self._changed + 1 if np.count_nonzero(mask) > CHANGED * mask.size else 0
        if self._changed >= CHANGED_FOR:
            self._forget()
            return
        self._seen += 1
        if self._seen % self._every:
            return
        one = np.uint8(1)
        up = cv2.compare(image, self._background, cv2.CMP_GT) & one
        down = cv2.compare(image, self._background, cv2.CMP_LT) & one
        if (self._seen // self._every) % self._hold:
            still = cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0
            free = still.astype(np.uint8) if image.ndim == 2 else still[..., None].astype(np.uint8)
            up, down = up * free, down * free
        self._background = cv2.subtract(cv2.add(self._background, up), down)

    def _warm(self, image: NDArray[np.uint8]) -> None:
        if self._samples and self._samples[0].shape != image.shape:
            self._forget()
        if self._seen % max(1, self._warm_up // SAMPLES) == 0:
            self._samples.append(image)
        self._seen += 1
        if self._seen >= self._warm_up:
            self.learn(self._samples)
            self._samples, self._seen = [], 0

    def _forget(self) -> None:
        self._background, self._samples, self._seen, self._changed = None, [], 0, 0


class Mog2Model:
    """OpenCV's mixture of Gaussians for each pixel; what it takes for a shadow is background."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._left = warm_up
        self._model: Any = cv2.createBackgroundSubtractorMOG2(history=500, detectShadows=True)

    def learn(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Begin with these images."""
        for image in images:
            self._model.apply(image, learningRate=1 / max(1, len(images)))
        self._left = 0

    def mask(self, image: NDArray[np.uint8], polarity: str, threshold: float) -> Mask | None:
        """Return the foreground of an image, of any polarity; None during the warm-up."""
        rate = 1 / self._warm_up if self._left > 0 else 0.0005
        found = np.asarray(self._model.apply(image, learningRate=rate))
        if self._left > 0:
            self._left -= 1
            return None
        return np.where(found == 255, np.uint8(255), np.uint8(0))

    def follow(self, image: NDArray[np.uint8], mask: Mask) -> None:
        """Do nothing: `mask` has followed the image."""
