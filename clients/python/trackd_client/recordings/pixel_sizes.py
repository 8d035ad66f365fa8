"""The size of a pixel in the unit of a label file's coordinates."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from trackd_client.recordings.images.source import ImageLayout, layout_of
from trackd_client.recordings.images.tiff_stack import TiffStack
from trackd_client.recordings.labels.spots import PIXEL_UNITS, Spots
from trackd_client.recordings.labels.trackmate_xml import read_image_notes
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

_TABLE_AT_THE_END = re.compile(r"_?(all_|tracked_)?spots$", re.IGNORECASE)


def known_pixel_size(
    spots: Spots,
    path: Path,
    layout: ImageLayout | None,
    given: list[float] | None,
    limits: RecordingLimits = DEFAULT_LIMITS,
) -> tuple[float, float]:
    """The sides x, y of a pixel: configured, else from the label file, from the images, or from a file beside it.

    The file beside it is a TrackMate .xml or a TIFF file of the same name.

    Args:
        spots: as read, with the file's unit and pixel size.
        path: the label file.
        layout: the layout of the recording's images.
        given: `dataset.test_dataset.pixel_size`.
        limits: of the images beside the label file.

    Raises:
        RecordingError: the unit is a physical one, and no file gives the pixel size.
    """
    if given is not None:
        return given[0], given[1]
    if spots.unit in PIXEL_UNITS:
        return 1.0, 1.0
    found = spots.pixel_size or (layout.pixel_size if layout is not None else None) or next(_beside(path, limits), None)
    if found is not None:
        return found
    if spots.unit is None:
        logger.warning("coordinates taken as pixels: set dataset.test_dataset.pixel_size if they are not file=%s", path)
        return 1.0, 1.0
    raise RecordingError(
        f"{path}: coordinates are in {spots.unit!r}, and neither the file nor an .xml or .tif of the same name beside "
        "it gives the pixel size: set dataset.test_dataset.pixel_size"
    )


def _beside(path: Path, limits: RecordingLimits) -> Iterator[tuple[float, float]]:
    for stem in dict.fromkeys((path.stem, _TABLE_AT_THE_END.sub("", path.stem))):
        notes = path.with_name(f"{stem}.xml")
        if stem and notes != path and notes.is_file() and (size := read_image_notes(notes).pixel_size) is not None:
            yield size
        for suffix in (".tif", ".tiff"):
            stack = path.with_name(stem + suffix)
            if stem and stack.is_file() and (size := layout_of(TiffStack(stack, limits)).pixel_size) is not None:
                yield size
