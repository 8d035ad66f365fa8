"""The interface of detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from trackd_client.detections import Detections, Image, Skeleton

N = TypeVar("N", int, float)


class DetectorError(ValueError):
    """A detector that cannot be used as it is set; its text is one line that states what would be right."""


class Detector:
    """Finds the animals in the images of one camera, one image after the other.

    Attributes:
        skeleton: the nodes of its keypoints, or None if it has none or does not know them before the first image.
    """

    skeleton: Skeleton | None = None

    def __call__(self, image: Image) -> Detections:
        """Return the detections of an image (h, w) gray or (h, w, 3) RGB."""
        raise NotImplementedError

    def prepare(self, images: Sequence[Image]) -> None:
        """Learn from images of a file, spread over its length, before the first call. Most have no use for it."""

    def why_none(self) -> str | None:
        """Return why no image had a detection, in one line; None if one had, or it is not known."""
        return None


class FunctionDetector(Detector):
    """A function, or any object that can be called with an image.

    Its attributes `skeleton` and `prepare`, if it has them, have the meaning of `Detector`.
    """

    def __init__(self, function: Callable[[Image], Detections]) -> None:
        self.skeleton = getattr(function, "skeleton", None)
        self._function = function

    def __call__(self, image: Image) -> Detections:
        """Call the function."""
        return self._function(image)

    def prepare(self, images: Sequence[Image]) -> None:
        """Call the function's own `prepare`, if it has one."""
        prepare = getattr(self._function, "prepare", None)
        if prepare is not None:
            prepare(images)


def number(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """Return an option that is a number from `low` to `high`.

    Raises:
        DetectorError: it is another value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        wanted = f"of at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise DetectorError(f"the option {name} is a number {wanted}; got {value!r}")
    return value


def whole(name: str, value: Any, low: int, high: float = float("inf")) -> int:
    """Return an option that is an integer from `low` to `high`.

    Raises:
        DetectorError: it is another value.
    """
    if number(name, value, low, high) != int(value):
        raise DetectorError(f"the option {name} is an integer; got {value!r}")
    return int(value)


def choice(name: str, value: Any, *known: str) -> str:
    """Return an option that is one of some words.

    Raises:
        DetectorError: it is another value.
    """
    if value not in known:
        raise DetectorError(f"the option {name} is one of {', '.join(known)}; got {value!r}")
    return str(value)


def gray(image: Image) -> Image:
    """Return an image (h, w) of uint8: the mean of the channels, and the upper 8 bits of 16."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return image
    import cv2

    return np.asarray(image[..., 0] if image.shape[2] < 3 else cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY))
