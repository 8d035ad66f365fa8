"""A TIFF file of many images, read page by page."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import ParseError

import numpy as np
import tifffile
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.protocol.image_header import image_size
from trackd_client.recordings.images.source import MAX_CHANNELS, ImageLayout, ImageSource, checked
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

# The compressions whose decoders stop at the size that the page states.
COMPRESSIONS = {
    1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34925: "LZMA", 50000: "ZSTD",
}  # fmt: skip
BIG_TIFF = 43  # the version in a file's head
JPEG = (6, 7)  # its segments state their own size
TIME_AXES = "TIQZ"  # time, and unnamed axes; a stack of slices counts as one over time
PIXEL_UNITS = ("pixel", "pixels", "px", "")


class TiffStack(ImageSource):
    """Frame i is the stack's image i: (h, w), or (h, w, c) if it has channels or colours.

    Pages are read one at a time, so that a stack may be larger than the memory.
    """

    def __init__(self, path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        super().__init__(path, limits)
        self._file: tifffile.TiffFile | None = None
        self._mapped: NDArray[Any] | None = None

    def open(self) -> ImageLayout:
        """The layout, from the file's tags.

        Raises:
            RecordingError: the file is missing, is not a TIFF file, its axes are not those of a stack of images, or it
                claims more than the limits.
        """
        with readable(self.path, "not a TIFF file that can be read"):
            self._file = opened(self.path)
            self._find_pages(self._file.series)
        first = self.read(0)
        if first is None:
            raise RecordingError(f"{self.path}: holds no image")
        assert self._file is not None
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
        with readable(where, "cannot be read"):
            pages = [self._page(first + i) for i in range(self._pages_per_frame)]
        return checked(pages[0] if len(pages) == 1 else np.stack(pages, axis=-1), where)

    def _page(self, number: int) -> NDArray[Any]:
        if self._mapped is not None:
            pixels: NDArray[Any] = self._mapped[number]
        else:
            page = self._pages[number]
            check_page(page, self.limits, self.path)
            pixels = np.squeeze(page.asarray())
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
        channels = [n for axis, n in sizes if axis in "SC"]
        if channels and channels[-1] > MAX_CHANNELS:
            raise RecordingError(
                f"{self.path}: an image has up to {MAX_CHANNELS} channels; its axes are {' '.join(axes)}, "
                f"sizes {list(shape)}"
            )
        self.limits.check_shape(tuple(n for axis, n in sizes if axis in "YX"), self.path)
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
        self.limits.check_frames(self._n_frames, self.path)


def read_tiff(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> NDArray[Any]:
    """The pixels of a TIFF file of one image, unchanged.

    Raises:
        RecordingError: the file is missing, is not a TIFF file, or claims an image that is larger than the limits.
    """
    with readable(path, "not a TIFF image that can be read"), opened(path) as file:
        first = file.series[0]
        check_page(first.keyframe, limits, path)
        if math.prod(first.shape) > limits.image_pixels * MAX_CHANNELS:
            raise RecordingError(
                f"{path}: claims one image of {list(first.shape)}; limits.image_pixels is {limits.image_pixels}"
            )
        pixels: NDArray[Any] = np.squeeze(first.asarray())
        return pixels


@contextmanager
def readable(where: object, what: str) -> Iterator[None]:
    """Turn the errors of tifffile and its codecs, which are of many types, into one line."""
    try:
        yield
    except RecordingError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecordingError(f"{where}: {what}: {text[:200]}") from None


def opened(path: Path) -> tifffile.TiffFile:
    """An open TIFF file, whose pages end, and whose OME metadata claim no more planes than the file has bytes.

    Raises:
        RecordingError: the file is missing, its pages form a circle, or the metadata claim more.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such TIFF file")
    _check_chain(path)
    file = tifffile.TiffFile(path)
    try:
        if file.is_ome:
            _check_ome(file.ome_metadata or "", path)
    except BaseException:
        file.close()
        raise
    return file


def _check_chain(path: Path) -> None:
    """Follow the pages of a file, each of which names the next one. tifffile would go round a circle 2³² times."""
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            return  # not a TIFF file, which tifffile finds out
        big = struct.unpack_from(f"{order}H", head, 2)[0] == BIG_TIFF
        count = struct.Struct(f"{order}{'Q' if big else 'H'}")
        link, tag_bytes = struct.Struct(f"{order}{'Q' if big else 'I'}"), 20 if big else 12
        (offset,) = link.unpack_from(head, 8 if big else 4)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise RecordingError(f"{path}: its pages form a circle: page {len(seen)} is an earlier one")
            seen.add(offset)
            file.seek(offset)
            n_tags = file.read(count.size)
            if len(n_tags) < count.size:
                return
            file.seek(min(offset + count.size + count.unpack(n_tags)[0] * tag_bytes, 2**62))
            following = file.read(link.size)
            offset = link.unpack(following)[0] if len(following) == link.size else 0
            offset = 0 if offset > 2**62 else offset


def _check_ome(text: str, path: Path) -> None:
    """Check the numbers of planes in OME-XML, for which tifffile makes lists."""
    size = path.stat().st_size

    def check(count: float, what: str) -> None:
        if not 0 <= count <= size:
            raise RecordingError(f"{path}: claims {count:.15g} planes ({what}), and the file has {size} bytes")

    for element in ElementTree.fromstring(text).iter():
        value = element.attrib.get
        if element.tag.endswith("Pixels"):
            check(math.prod(int(value(f"Size{axis}", 1)) for axis in "ZCT"), "SizeZ · SizeC · SizeT")
        elif element.tag.endswith("TiffData"):
            for name in ("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT"):
                check(int(value(name, 0)), name)
        elif element.tag[:-1].endswith("Along") and "Start" in element.attrib:
            first, last, step = float(value("Start", 0)), float(value("End", 0)), float(value("Step", 1))
            check(abs(last - first) / abs(step) if step else math.inf, element.tag.rpartition("}")[2])


def check_page(page: Any, limits: RecordingLimits, where: object) -> None:
    """Check the sizes that a page states, before tifffile allocates them.

    Raises:
        RecordingError: its image or its tiles are larger than the limits, or its compression has no bound.
    """
    key = page.keyframe
    limits.check_shape((key.imagelength, key.imagewidth), where)
    if key.imagedepth * key.samplesperpixel > MAX_CHANNELS:
        raise RecordingError(
            f"{where}: an image has up to {MAX_CHANNELS} channels; got {key.samplesperpixel} and depth {key.imagedepth}"
        )
    if key.is_tiled and math.prod(key.tile) > limits.image_pixels:
        raise RecordingError(
            f"{where}: claims tiles of {list(key.tile)} pixels; limits.image_pixels is {limits.image_pixels}"
        )
    if key.compression in JPEG:
        _check_jpeg(page, limits, where)
    elif key.compression not in COMPRESSIONS:
        names = ", ".join([*dict.fromkeys(COMPRESSIONS.values()), "JPEG"])
        raise RecordingError(f"{where}: compression {key.compression} is not read; supported: {names}")


def _check_jpeg(page: Any, limits: RecordingLimits, where: object) -> None:
    handle = page.parent.filehandle
    for data, _ in handle.read_segments(page.dataoffsets, page.databytecounts):
        shape = None if data is None else image_size("jpeg", data)
        if shape is not None:
            limits.check_shape(shape, where)


def _pixel_size(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """The sides of a pixel in ImageJ's or OME's metadata. A plain TIFF's resolution applies to printing only."""
    try:
        if file.is_ome and file.ome_metadata:
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
            pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
            return _positive(float(pixels["PhysicalSizeX"]), float(pixels["PhysicalSizeY"]))
        if file.is_imagej and str((file.imagej_metadata or {}).get("unit", "")).lower() not in PIXEL_UNITS:
            tags = file.pages[0].tags
            (x_pixels, x_units), (y_pixels, y_units) = tags["XResolution"].value, tags["YResolution"].value
            return _positive(x_units / x_pixels, y_units / y_pixels)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RuntimeError, ParseError):
        pass  # no metadata, or not a number
    return None


def _positive(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None
