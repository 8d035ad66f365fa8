"""A TIFF file of many images, read page by page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.recordings.images.source import ImageLayout, ImageSource, checked
from trackd_client.recordings.recording import RecordingError

# The errors of tifffile and its codecs for files that are damaged, or for which there is no codec.
DAMAGED = (
    tifffile.TiffFileError,
    ValueError,
    KeyError,
    IndexError,
    RuntimeError,
    OSError,
    ParseError,
    MemoryError,
    AttributeError,
)
TIME_AXES = "TIQZ"  # time, and unnamed axes; a stack of slices counts as one over time
PIXEL_UNITS = ("pixel", "pixels", "px", "")


class TiffStack(ImageSource):
    """Frame i is the stack's image i: (h, w), or (h, w, c) if it has channels or colours.

    Pages are read one at a time, so that a stack may be larger than the memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: tifffile.TiffFile | None = None
        self._mapped: NDArray[Any] | None = None

    def open(self) -> ImageLayout:
        """The layout, from the file's tags.

        Raises:
            RecordingError: the file is missing, is not a TIFF file, or its axes are not those of a stack of images.
        """
        if not self.path.is_file():
            raise RecordingError(f"{self.path}: no such TIFF file")
        try:
            self._file = tifffile.TiffFile(self.path)
            self._find_pages(self._file.series)
        except DAMAGED as error:
            raise RecordingError(f"{self.path}: not a TIFF file that can be read: {error}") from None
        first = self.read(0)
        if first is None:
            raise RecordingError(f"{self.path}: holds no image")
        return ImageLayout(self._n_frames, first.shape, pixel_size=_pixel_size(self._file))

    def close(self) -> None:
        """Close the file."""
        self._mapped = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, frame_index: int) -> Image | None:
        """The stack's image of that number, or None after its end.

        Raises:
            RecordingError: the page is damaged, or holds no image.
        """
        if self._file is None or not 0 <= frame_index < self._n_frames:
            return None
        where = f"{self.path}, image {frame_index}"
        first = frame_index * self._pages_per_frame
        try:
            pages = [self._page(first + i) for i in range(self._pages_per_frame)]
        except DAMAGED as error:
            raise RecordingError(f"{where}: cannot be read: {error}") from None
        return checked(pages[0] if len(pages) == 1 else np.stack(pages, axis=-1), where)

    def _page(self, number: int) -> NDArray[Any]:
        if self._mapped is not None:
            pixels: NDArray[Any] = self._mapped[number]
        else:
            pixels = np.squeeze(self._pages[number].asarray())
        # Colours may be stored plane by plane: (c, h, w).
        return np.moveaxis(pixels, 0, -1) if self._planar else pixels

    def _find_pages(self, series: Sequence[Any]) -> None:
        """Find the pages, and the number of pages for each frame."""
        first = series[0]
        sizes = [(a, n) for a, n in zip(first.axes, first.shape, strict=True) if n > 1 or a in "YX"]
        axes, shape = "".join(a for a, _ in sizes), tuple(n for _, n in sizes)
        within = axes.lstrip(TIME_AXES)
        n_time = len(axes) - len(within)
        if n_time > 1 or within not in ("YX", "YXS", "SYX", "CYX"):
            raise RecordingError(
                f"{self.path}: must be a stack of images over time (T Y X, perhaps with channels); "
                f"its axes are {' '.join(axes)}, sizes {list(shape)}"
            )
        self._planar = within == "SYX"
        self._pages_per_frame = shape[n_time] if within == "CYX" else 1
        self._n_frames = shape[0] if n_time else 1
        self._pages = first.pages
        n_pages = self._n_frames * self._pages_per_frame
        if not n_time and len(series) > 1 and all((s.shape, s.dtype) == (first.shape, first.dtype) for s in series):
            # Many scripts write page by page. Each image is then a separate series.
            self._pages = [page for one in series for page in one.pages]
            self._n_frames = len(series)
        elif first.dataoffset is not None and len(first.pages) < n_pages:
            # ImageJ writes one page header for a whole stack that is too large for a classic TIFF file.
            mapped = np.memmap(self.path, first.dtype, "r", first.dataoffset, first.shape)
            self._mapped = mapped.reshape(n_pages, *shape[n_time + (within == "CYX") :])


def _pixel_size(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """The sides of a pixel in ImageJ's or OME's metadata. A plain TIFF's resolution applies to printing only."""
    try:
        if file.is_ome and file.ome_metadata:
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
            pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
            return float(pixels["PhysicalSizeX"]), float(pixels["PhysicalSizeY"])
        if file.is_imagej and str((file.imagej_metadata or {}).get("unit", "")).lower() not in PIXEL_UNITS:
            tags = file.pages[0].tags
            (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
            return x_units / x_pixels, y_units / y_pixels
    except (KeyError, TypeError, ValueError, ZeroDivisionError, ParseError):
        pass  # no metadata, or not a number
    return None
