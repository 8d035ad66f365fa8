"""A list of image files, one for each frame."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.protocol.image_header import chunks_end, image_size
from trackd_client.recordings.images.source import ImageLayout, ImageSource, checked
from trackd_client.recordings.images.tiff_stack import TiffStack, read_tiff
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")
BMP_CORE_HEADER = 12  # its size in bytes; the sides have 16 bits in it
_NUMBER_AT_THE_END = re.compile(r"(\d+)$")


class ImageFiles(ImageSource):
    """Images in single files: TIFF, PNG, JPEG or BMP.

    Args:
        files: the file of each frame that has one, by frame index; at least one.
        limits: of the frame numbers, and of an image's pixels.
    """

    def __init__(self, files: Mapping[int, Path], limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        super().__init__(files[min(files)].parent, limits)
        self.files = files

    def open(self) -> ImageLayout:
        """The layout, from the first image.

        Raises:
            RecordingError: a file is missing, the first image cannot be read, or a frame number exceeds the limits.
        """
        last = max(self.files)
        self.limits.check_frames(last + 1, self.files[last])
        for path in self.files.values():
            if not path.is_file():
                raise RecordingError(f"{path}: no such image")
        first = self.read(min(self.files))
        assert first is not None
        return ImageLayout(stop=last + 1, frame_shape=first.shape, start=min(self.files))

    def close(self) -> None:
        """Do nothing: no file stays open between images."""

    def read(self, frame_index: int) -> Image | None:
        """The image of a frame, or None if the list has none for it.

        Raises:
            RecordingError: the file is damaged, or does not hold an image.
        """
        path = self.files.get(frame_index)
        return None if path is None else checked(read_pixels(path, self.limits), str(path))


def read_pixels(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> NDArray[Any]:
    """The pixels of one image file, unchanged; colour as RGB.

    Raises:
        RecordingError: the file is missing, is not an image, or claims one that is larger than the limits.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        return read_tiff(path, limits)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    shape = _claimed_size(data.tobytes())
    if shape is None or not chunks_end(data.data):
        raise RecordingError(f"{path}: not an image that OpenCV can decode; expected PNG, JPEG or BMP")
    limits.check_shape(shape, path)
    read = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if read is None:
        raise RecordingError(f"{path}: not an image that OpenCV can decode")
    if read.ndim == 3:
        read = cv2.cvtColor(read, cv2.COLOR_BGR2RGB if read.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return np.asarray(read)


def _claimed_size(data: bytes) -> tuple[int, int] | None:
    """(h, w) by the header of a PNG, JPEG or BMP file; None for other files."""
    if data[:2] == b"BM" and len(data) >= 26:
        if struct.unpack_from("<I", data, 14)[0] == BMP_CORE_HEADER:
            width, height = struct.unpack_from("<HH", data, 18)
        else:
            width, height = struct.unpack_from("<ii", data, 18)
        return abs(height), abs(width)  # a negative height: the first row is the top
    size = image_size("png", data) or image_size("jpeg", data)
    return None if size is None else size[:2]


def in_order(paths: Sequence[Path], limits: RecordingLimits = DEFAULT_LIMITS) -> ImageFiles:
    """The files as images, of which the first is frame 0, the next frame 1."""
    return ImageFiles(dict(enumerate(paths)), limits)


def by_number(paths: Sequence[Path], limits: RecordingLimits = DEFAULT_LIMITS) -> ImageFiles:
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
    return ImageFiles(dict(sorted(files.items())), limits)


def image_source(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> ImageSource:
    """The images at a path: of a TIFF stack, of a video, or of a folder's files by name.

    Raises:
        RecordingError: the folder holds no image.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise RecordingError(f"{path}: no image in this folder; expected {', '.join(IMAGE_SUFFIXES)}")
        return in_order(files, limits)
    return TiffStack(path, limits) if path.suffix.lower() in TIFF_SUFFIXES else VideoFile(path, limits)
