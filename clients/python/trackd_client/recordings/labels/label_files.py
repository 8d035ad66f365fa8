"""Microscopy's label files: telling what a file is, and reading it with the reader of its kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.labels.btrack import COLUMNS, read_btrack
from trackd_client.recordings.labels.icy import read_icy
from trackd_client.recordings.labels.imagej import plain_name, read_imagej
from trackd_client.recordings.labels.isbi import read_isbi
from trackd_client.recordings.labels.spots import Spots
from trackd_client.recordings.labels.tables import header_of
from trackd_client.recordings.labels.trackmate_csv import read_trackmate_csv
from trackd_client.recordings.labels.trackmate_xml import read_trackmate_xml
from trackd_client.recordings.labels.trex import is_animal_table, is_point_table, read_trex
from trackd_client.recordings.labels.xml_elements import elements
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

# `source: trackmate` is what DREEM calls ImageJ's tables too.
ALSO_TAKEN = {"trackmate": ("imagej",)}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of label file."""

    source: str | None  # its name in `source`; None: no spots in it
    looks_like: str
    read: Callable[[Path], Spots] | None = None


TRACKMATE_XML = Kind("trackmate", "a TrackMate file", read_trackmate_xml)
TRACKMATE_SPOTS = Kind("trackmate", "a TrackMate table of spots", read_trackmate_csv)
TRACKMATE_EDGES = Kind(None, "a TrackMate table of edges: name the table of spots instead")
TRACKMATE_TRACKS = Kind(None, "a TrackMate table of tracks: name the table of spots instead")
ISBI = Kind("isbi", "an ISBI 2012 challenge file", read_isbi)
ICY = Kind("icy", "an ICY file", read_icy)
IMAGEJ = Kind("imagej", "an ImageJ Manual Tracking table", read_imagej)
TREX = Kind("trex", "a TRex table", read_trex)
TREX_FOLDER = Kind("trex", "a folder of TRex tables", read_trex)
BTRACK = Kind("btrack", "a btrack table of objects", read_btrack)


def read_spots(path: Path, source: str | None = None) -> Spots:
    """The spots of a label file.

    Args:
        path: `.xml` or `.csv`, or a folder.
        source: the kind that it must be; None: what it looks like.

    Raises:
        RecordingError: it looks like another kind, or cannot be read as its own.
    """
    kind = kind_of(path)
    if kind.read is None:
        raise RecordingError(f"{path}: looks like {kind.looks_like}")
    if source is not None and kind.source != source:
        if kind.source not in ALSO_TAKEN.get(source, ()):
            raise RecordingError(
                f"{path}: dataset.test_dataset.source is {source!r}, but the file looks like {kind.looks_like}: "
                f"set source to {kind.source!r} or null"
            )
        logger.info("read as %s file=%s source=%s", kind.looks_like, path, source)
    return kind.read(path)


def kind_of(path: Path) -> Kind:
    """What a label file looks like.

    Raises:
        RecordingError: nothing that is known.
    """
    if path.is_dir():
        return TREX_FOLDER
    if path.suffix.lower() == ".npy":
        raise RecordingError(
            f"{path}: not read: a .npy as of idtracker.ai is a pickle, and to open one can run any code in it: "
            "write it as a .csv with the columns frame,id,x,y"
        )
    kind = _xml_kind(path) if path.suffix.lower() == ".xml" else _table_kind(path)
    if kind is None:
        raise RecordingError(
            f"{path}: must be a TrackMate, ISBI 2012 or ICY .xml, a TrackMate, ImageJ Manual Tracking, TRex or "
            "btrack .csv, or a folder of TRex's; looks like none of them"
        )
    return kind


def _xml_kind(path: Path) -> Kind | None:
    for element in elements(path):
        tags = {element.tag, *(ancestor.tag for ancestor in element.ancestors)}
        if "TrackMate" in tags:
            return TRACKMATE_XML
        if "TrackContestISBI2012" in tags:
            return ISBI
        if tags & {"trackfile", "trackgroup"}:
            return ICY
    return None


def _table_kind(path: Path) -> Kind | None:
    header = header_of(path)
    if {"track n", "slice n"} <= {plain_name(name) for name in header}:
        return IMAGEJ
    if "POSITION_X" in header:
        return TRACKMATE_SPOTS
    if "SPOT_SOURCE_ID" in header:
        return TRACKMATE_EDGES
    if "NUMBER_SPOTS" in header:
        return TRACKMATE_TRACKS
    if is_animal_table(header) or is_point_table(header):
        return TREX
    return BTRACK if set(COLUMNS) <= set(header) else None
