"""The sources of a recording's images: one interface for videos, TIFF stacks and lists of files."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import Clip, RecordingError

logger = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
MAX_FPS = 1e9  # a frame for each nanosecond of the clock
MAX_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The properties of images, from their headers and the first image."""

    stop: int  # one past the last frame that has an image by the header; an image may still fail to decode
    frame_shape: tuple[int, ...]  # (h, w) or (h, w, c)
    fps: float | None = None  # None if the files do not give it
    start: int = 0  # the first frame that has an image
    pixel_size: tuple[float, float] | None = None  # x, y in the files' physical unit, if they note one


class ImageSource(ABC):
    """Images by frame index. A context manager, whose files are open only inside `with`.

    A recording keeps its sources closed and opens a `fresh` one for each iteration over its frames. So iterations are
    independent of each other, and a recording can be pickled.

    Attributes:
        path: the file, or the folder of the first file.
        limits: of the frames and of an image's pixels, checked before an image is decoded.
        layout: set inside `with`.
    """

    layout: ImageLayout

    def __init__(self, path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        self.path = path
        self.limits = limits

    def fresh(self) -> Self:
        """Return another source of the same images, closed."""
        return copy.copy(self)

    def __enter__(self) -> Self:
        self.layout = self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def open(self) -> ImageLayout:
        """Open the file and read its layout.

        Raises:
            RecordingError: the file is missing, not of this kind, or claims more than the limits.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def read(self, frame_index: int) -> Image | None:
        """The image of a frame, or None if there is none.

        Raises:
            RecordingError: the image cannot be read.
        """


def layout_of(images: ImageSource) -> ImageLayout:
    """The layout of images. The files are opened for it and closed again.

    Raises:
        RecordingError: a file is missing, or not of its kind.
    """
    with images.fresh() as opened:
        return opened.layout


def images_of(
    images: ImageSource | None, clips: Iterable[Clip], *, one_size: bool = True
) -> Iterator[tuple[int, Image | None]]:
    """Every frame index of `clips` with its image, or with None if `images` is None.

    For frames without an image, such as those after a video's end, the image is None. One line logs their number.

    Args:
        images: the images; closed.
        clips: the frames.
        one_size: whether all images must have the size of the first.

    Raises:
        RecordingError: an image cannot be read, or has another size.
    """
    if images is None:
        yield from ((index, None) for clip in clips for index in range(clip.start, clip.stop))
        return
    missing = MissingImages(images.path)
    try:
        with images.fresh() as opened:
            for clip in clips:
                for index in range(clip.start, clip.stop):
                    image = opened.read(index)
                    if image is None:
                        missing.add(index)
                    elif one_size:
                        _check_size(image, opened.layout.frame_shape, f"{images.path}, frame {index}")
                    yield index, image
    finally:
        missing.log()


def _check_size(image: Image, expected: tuple[int, ...], where: str) -> None:
    if image.shape[:2] != expected[:2]:
        raise RecordingError(
            f"{where}: all images of a recording must have one size; this one has {in_words(image.shape)}, and the "
            f"first {in_words(expected)}"
        )


def fitting(layout: ImageLayout, noted: tuple[int, ...] | None, source: Path, labels: Path) -> ImageLayout:
    """Return the layout of images, after a comparison with the size that their label file notes.

    Args:
        layout: of the images.
        noted: (h, w) or (h, w, c) by the label file; None if it notes none.
        source: of the images.
        labels: the label file, for the error text.

    Raises:
        RecordingError: the sizes differ, so that the labels' coordinates are not those of the images.
    """
    if noted is not None and noted[:2] != layout.frame_shape[:2]:
        raise RecordingError(
            f"{source}: its images have {in_words(layout.frame_shape)}, and the labels of {labels} are for "
            f"{in_words(noted)}; name the images that were labelled"
        )
    return layout


def in_words(shape: tuple[int, ...]) -> str:
    """The size of an image of shape (h, w) or (h, w, c), for an error text."""
    return f"{shape[1]} × {shape[0]} pixels"


class MissingImages:
    """The frames of a recording that have no image, for one line of the log."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._frames: list[int] = []  # the first and the last
        self._n = 0

    def add(self, frame_index: int) -> None:
        """Add a frame."""
        self._frames = [*self._frames[:1], frame_index]
        self._n += 1

    def log(self) -> None:
        """Log the number of frames, if there are any."""
        if self._n == 1:
            logger.warning("1 frame (%d) has no image source=%s", self._frames[0], self._source)
        elif self._n:
            logger.warning(
                "%d frames (%d to %d) have no image source=%s", self._n, self._frames[0], self._frames[-1], self._source
            )


def checked(pixels: NDArray[np.generic], where: str) -> Image:
    """Check pixels, and return them as an image of a recording.

    Raises:
        RecordingError: the number of axes or channels is wrong, or the type of the numbers.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise RecordingError(f"{where}: images must have 8 or 16 bits without sign; got {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > MAX_CHANNELS):
        raise RecordingError(
            f"{where}: an image has shape (h, w) or (h, w, c), c up to {MAX_CHANNELS}; got {pixels.shape}"
        )
    # Files may have either byte order. Frames are always little endian.
    image: Image = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return image


def known_fps(wanted: float | None, layout: ImageLayout | None, name: str) -> float:
    """Frames per second: configured, else the images', else 30 with a warning. A rate that is not > 0 is not known."""
    for fps in (wanted, None if layout is None else layout.fps):
        if fps is not None and 0 < fps <= MAX_FPS:
            return fps
    logger.warning("frame rate unknown, %g is used: set dataset.test_dataset.fps recording=%s", DEFAULT_FPS, name)
    return DEFAULT_FPS
