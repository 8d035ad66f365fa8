"""A list of image files, one for each frame."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.recordings.images.source import ImageLayout, ImageSource, checked
from trackd_client.recordings.images.tiff_stack import DAMAGED, TiffStack
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.recording import RecordingError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")
_NUMBER_AT_THE_END = re.compile(r"(\d+)$")


class ImageFiles(ImageSource):
    """Images in single files: TIFF, PNG, JPEG or BMP.

    Args:
        files: the file of each frame that has one, by frame index; at least one.
    """

    def __init__(self, files: Mapping[int, Path]) -> None:
        super().__init__(files[min(files)].parent)
        self.files = files

    def open(self) -> ImageLayout:
        """The layout, from the first image.

        Raises:
            RecordingError: a file is missing, or the first image cannot be read.
        """
        for path in self.files.values():
            if not path.is_file():
                raise RecordingError(f"{path}: no such image")
        first = self.read(min(self.files))
        assert first is not None
        return ImageLayout(stop=max(self.files) + 1, frame_shape=first.shape, start=min(self.files))

    def close(self) -> None:
        """Do nothing: no file stays open between images."""

    def read(self, frame_index: int) -> Image | None:
        """The image of a frame, or None if the list has none for it.

        Raises:
            RecordingError: the file is damaged, or does not hold an image.
        """
        path = self.files.get(frame_index)
        return None if path is None else checked(read_pixels(path), str(path))


def read_pixels(path: Path) -> NDArray[Any]:
    """The pixels of one image file, unchanged; colour as RGB.

    Raises:
        RecordingError: the file is missing, or is not an image.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        try:
            pixels: NDArray[Any] = np.squeeze(tifffile.imread(path))
        except DAMAGED as error:
            raise RecordingError(f"{path}: not a TIFF image that can be read: {error}") from None
        return pixels
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise RecordingError(f"{path}: not an image that OpenCV can decode")
    if read.ndim == 3:
        read = cv2.cvtColor(read, cv2.COLOR_BGR2RGB if read.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return np.asarray(read)


def in_order(paths: Sequence[Path]) -> ImageFiles:
    """The files as images, of which the first is frame 0, the next frame 1."""
    return ImageFiles(dict(enumerate(paths)))


def by_number(paths: Sequence[Path]) -> ImageFiles:
    """The files as images, whose frame index is the number at the end of the stem: `t150.tif` is frame 150.

    Raises:
        RecordingError: a name has no number, or two files have the same number.
    """
    files: dict[int, Path] = {}
    for path in paths:
        found = _NUMBER_AT_THE_END.search(path.stem)
        if found is None:
            raise RecordingError(f"{path}: the name must end in the frame's number, as t012.tif does")
        number = int(found[1])
        if number in files:
            raise RecordingError(f"{path}: {files[number].name} already has frame {number}")
        files[number] = path
    return ImageFiles(dict(sorted(files.items())))


def image_source(path: Path) -> ImageSource:
    """The images at a path: of a TIFF stack, of a video, or of a folder's files by name.

    Raises:
        RecordingError: the folder holds no image.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise RecordingError(f"{path}: no image in this folder; expected {', '.join(IMAGE_SUFFIXES)}")
        return in_order(files)
    return TiffStack(path) if path.suffix.lower() in TIFF_SUFFIXES else VideoFile(path)
