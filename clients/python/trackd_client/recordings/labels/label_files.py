"""The label-file formats of `dataset.test_dataset.tracks`, and the choice of a file's format.

A new format is one new file beside this one, and one line in `LABEL_FORMATS`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from trackd_client.recordings.labels.btrack import BTRACK
from trackd_client.recordings.labels.icy import ICY
from trackd_client.recordings.labels.idtracker import IDTRACKER
from trackd_client.recordings.labels.imagej import IMAGEJ
from trackd_client.recordings.labels.isbi import ISBI
from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import Spots
from trackd_client.recordings.labels.tables import header_of
from trackd_client.recordings.labels.trackmate_csv import TRACKMATE_EDGES, TRACKMATE_SPOTS, TRACKMATE_TRACKS
from trackd_client.recordings.labels.trackmate_xml import TRACKMATE_XML
from trackd_client.recordings.labels.trex import TREX, TREX_FOLDER
from trackd_client.recordings.labels.xml_elements import elements
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

# The first format that recognises a file reads it: TREX accepts some of BTRACK's tables, TREX_FOLDER every folder.
LABEL_FORMATS: tuple[LabelFormat, ...] = (
    TRACKMATE_XML,
    ISBI,
    ICY,
    IMAGEJ,
    TRACKMATE_SPOTS,
    TRACKMATE_EDGES,
    TRACKMATE_TRACKS,
    TREX,
    BTRACK,
    IDTRACKER,
    TREX_FOLDER,
)


def sources() -> tuple[str, ...]:
    """The names that `dataset.test_dataset.source` may have."""
    return tuple(dict.fromkeys(known.source for known in LABEL_FORMATS if known.source is not None))


def read_spots(path: Path, source: str | None = None, limits: RecordingLimits = DEFAULT_LIMITS) -> Spots:
    """The spots of a label file.

    Args:
        path: the file, or a folder.
        source: the name of the format that it must have; None: any.
        limits: of the frame numbers, the images and the spots of a frame.

    Raises:
        RecordingError: the file looks like another format, its reader fails, or it exceeds a limit.
    """
    found = format_of(path)
    if found.read is None:
        raise RecordingError(f"{path}: looks like {found.title}: {found.refusal}")
    if source is not None and found.source != source:
        if source not in found.other_sources:
            raise RecordingError(
                f"{path}: dataset.test_dataset.source is {source!r}, but the file looks like {found.title}: "
                f"set source to {found.source!r} or null"
            )
        logger.info("read as %s file=%s source=%s", found.title, path, source)
    spots = found.read(path)  # in memory by its rows, whatever the frame numbers are
    limits.check_frames(spots.stop, path)
    limits.check_crowds(spots.frame_index, path)
    if spots.frame_shape is not None:
        limits.check_shape(spots.frame_shape, path)
    return spots


def format_of(path: Path) -> LabelFormat:
    """The format of a label file, or of a folder of them.

    Raises:
        RecordingError: no format recognises it, or it cannot be read.
    """
    found = _recognised(path)
    if found is None:
        titles = dict.fromkeys(known.title for known in LABEL_FORMATS if known.read is not None)
        raise RecordingError(f"{path}: must be {', '.join(titles)}; looks like none of them")
    return found


def _recognised(path: Path) -> LabelFormat | None:
    if path.is_dir():
        return next((known for known in LABEL_FORMATS if known.folder is not None and known.folder(path)), None)
    by_suffix = next((known for known in LABEL_FORMATS if path.name.lower().endswith(known.suffixes)), None)
    if by_suffix is not None:
        return by_suffix
    if path.suffix.lower() == ".xml":
        return _recognised_xml(path)
    header = header_of(path)
    return next((known for known in LABEL_FORMATS if known.columns is not None and known.columns(header)), None)


def _recognised_xml(path: Path) -> LabelFormat | None:
    # One pass for all formats, which ends at the first element with a known tag, because such files may be large.
    for element in elements(path):
        tags = {element.tag, *(ancestor.tag for ancestor in element.ancestors)}
        for known in LABEL_FORMATS:
            if known.xml_tags & tags:
                return known
    return None
