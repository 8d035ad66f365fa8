"""Where a recording's images come from: one interface for videos, TIFF stacks and lists of files."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.recordings.recording import Clip, RecordingError

logger = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
MAX_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """What the images' headers and the first image say."""

    stop: int  # one past the last frame that has an image, as the header counts; it may fail to decode
    frame_shape: tuple[int, ...]  # (h, w) or (h, w, c)
    fps: float | None = None  # None where the files do not know
    start: int = 0  # the first frame that has an image
    pixel_size: tuple[float, float] | None = None  # x, y in the files' physical unit, where they note one


class ImageSource(ABC):
    """Images by frame index. A context manager: files are open inside `with` only.

    A recording keeps its sources closed and opens a `fresh` one for each run through its frames, so that runs do
    not disturb each other, and so that a recording can be pickled.

    Attributes:
        path: the file, or the folder of the first one.
        layout: known inside `with`.
    """

    layout: ImageLayout

    def __init__(self, path: Path) -> None:
        self.path = path

    def fresh(self) -> Self:
        """Another source of the same images, closed."""
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
            RecordingError: missing, or not of this kind.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @abstractmethod
    def read(self, frame_index: int) -> Image | None:
        """The image of a frame, or None where there is none.

        Raises:
            RecordingError: there is one, and it cannot be read.
        """


def layout_of(images: ImageSource) -> ImageLayout:
    """The layout of images; what was opened for it is closed again.

    Raises:
        RecordingError: missing, or not of their kind.
    """
    with images.fresh() as opened:
        return opened.layout


def images_of(images: ImageSource | None, clips: Sequence[Clip]) -> Iterator[tuple[int, Image | None]]:
    """Every frame index of `clips` with its image; None for all where there are no images.

    Frames without an image, as past a video's end, come with None and one warning.
    """
    if images is None:
        yield from ((index, None) for clip in clips for index in range(clip.start, clip.stop))
        return
    n_missing = 0
    with images.fresh() as opened:
        for clip in clips:
            for index in range(clip.start, clip.stop):
                image = opened.read(index)
                n_missing += image is None
                if n_missing == 1 and image is None:
                    logger.warning("a frame has no image source=%s frame=%d", images.path, index)
                yield index, image


def checked(pixels: NDArray[np.generic], where: str) -> Image:
    """Pixels as an image of a recording.

    Raises:
        RecordingError: another number of axes or channels, or another kind of number.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise RecordingError(f"{where}: images must have 8 or 16 bits without sign; got {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > MAX_CHANNELS):
        raise RecordingError(
            f"{where}: an image has shape (h, w) or (h, w, c), c up to {MAX_CHANNELS}; got {pixels.shape}"
        )
    # Files may be in either byte order; frames are little-endian everywhere.
    image: Image = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return image


def known_fps(wanted: float | None, layout: ImageLayout | None, name: str) -> float:
    """Frames per second: as configured, else the images', else 30 with a warning."""
    if wanted is not None:
        return wanted
    if layout is not None and layout.fps is not None:
        return layout.fps
    logger.warning("frame rate unknown, taken as %g: set dataset.test_dataset.fps recording=%s", DEFAULT_FPS, name)
    return DEFAULT_FPS
