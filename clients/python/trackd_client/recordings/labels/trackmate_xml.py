"""Spots and tracks of TrackMate's own XML files."""

from __future__ import annotations

import logging
import math
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots
from trackd_client.recordings.labels.tracklets import Links, linear_tracklets
from trackd_client.recordings.labels.xml_elements import Element, elements
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

SECONDS = {
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageNotes:
    """A file's notes on its images; None for what it does not note."""

    frame_shape: tuple[int, int] | None = None  # (h, w)
    n_frames: int | None = None
    pixel_size: tuple[float, float] | None = None  # x, y sides in the file's unit
    fps: float | None = None


@dataclass(slots=True)
class TrackMateModel:
    """The contents of a file, before its links become tracks."""

    rows: SpotRows = field(default_factory=SpotRows)  # the visible spots
    edges: array[int] = field(default_factory=lambda: array("q"))  # source, target, track, line of each
    kept_tracks: set[int] | None = None  # None: the file has no list of them, so all are kept
    names: dict[int, str] = field(default_factory=dict)  # of the tracks whose name is not Track_ and their number
    hidden: set[int] = field(default_factory=set)  # spots that a filter made invisible
    unit: str | None = None
    time_unit: str | None = None
    image: ImageNotes = field(default_factory=ImageNotes)

    @property
    def links(self) -> NDArray[np.int64]:
        """Links of the tracks that passed the filters (m, 4): source spot, target spot, track, line."""
        table = np.array(self.edges, np.int64).reshape(-1, 4)
        return table if self.kept_tracks is None else table[np.isin(table[:, 2], list(self.kept_tracks))]


def read_trackmate_xml(path: Path) -> Spots:
    """All visible spots, in the file's unit. Spots of the kept tracks have the identity of their tracklet.

    Raises:
        RecordingError: names the file, the line and the element.
    """
    model = read_model(path)
    spots = model.rows.spots()
    row_of = {int(spot): row for row, spot in enumerate(spots.spot_ids)}
    if len(row_of) < len(spots):
        raise RecordingError(f"{path}: <Spot>: two have the same ID")
    ids, lineage = linear_tracklets(spots.frame_index, spots.points, _rows_linked(model, spots, row_of, path))
    return replace(
        spots,
        gt_ids=ids,
        lineage=lineage,
        names={track: model.names[track] for track in set(ids.tolist()) & model.names.keys()},
        unit=model.unit,
        pixel_size=model.image.pixel_size,
        n_frames=model.image.n_frames,
        frame_shape=model.image.frame_shape,
        fps=model.image.fps,
    )


def read_model(path: Path) -> TrackMateModel:
    """The file's spots and links, unchanged.

    Raises:
        RecordingError: names the file, the line and the element.
    """
    model = TrackMateModel()
    root = None
    for element in elements(path, text_of="Spot"):
        root = element
        match element.tag:
            case "Spot" if element.within("SpotsInFrame"):
                _add_spot(model, element)
            case "Edge" if element.within("AllTracks", "Track"):
                assert element.parent is not None
                ends = (element.whole("SPOT_SOURCE_ID"), element.whole("SPOT_TARGET_ID"))
                track = element.parent.whole("TRACK_ID")
                model.edges.extend((*ends, track, element.line))
                name = element.parent.attributes.get("name")
                if name and name != f"Track_{track}":
                    model.names[track] = name
            case "TrackID" if element.within("FilteredTracks"):
                model.kept_tracks = set() if model.kept_tracks is None else model.kept_tracks
                model.kept_tracks.add(element.whole("TRACK_ID"))
            case "FilteredTracks":
                model.kept_tracks = set() if model.kept_tracks is None else model.kept_tracks
            case "Model":
                model.unit = element.attributes.get("spatialunits", "").lower() or None
                model.time_unit = element.attributes.get("timeunits", "").lower() or None
            case "ImageData" if element.within("Settings"):
                model.image = image_notes(element, model.time_unit)
    if root is None or root.tag != "TrackMate":
        raise RecordingError(f"{path}: must be a TrackMate file; its root is <{'' if root is None else root.tag}>")
    return model


def _add_spot(model: TrackMateModel, spot: Element) -> None:
    if spot.attributes.get("VISIBILITY", "1") == "0":
        model.hidden.add(spot.whole("ID"))
        return
    assert spot.parent is not None
    # Very old files give the frame only once, for all its spots.
    frame = spot.frame("FRAME") if "FRAME" in spot.attributes else spot.parent.frame("frame")
    outline: list[float] = []
    if spot.attributes.get("ROI_N_POINTS"):
        n = spot.whole("ROI_N_POINTS")
        try:
            outline = [float(word) for word in spot.text.split()]
        except ValueError:
            outline = []
        if n < 0 or len(outline) != 2 * n or not all(map(math.isfinite, outline)):
            raise RecordingError(
                f"{spot.where}: ROI_N_POINTS is {n}, so its text must be {2 * n} finite numbers, x y x y …; "
                f"got {spot.text.strip()[:60]!r}"
            )
    radius = spot.real("RADIUS") if "RADIUS" in spot.attributes else float("nan")
    model.rows.add(
        frame,
        spot.real("POSITION_X"),
        spot.real("POSITION_Y"),
        spot_id=spot.whole("ID"),
        radius=radius,
        outline=outline,
    )


def _rows_linked(model: TrackMateModel, spots: Spots, row_of: dict[int, int], path: Path) -> Links:
    """The links between rows of `spots`, each from the earlier to the later one."""
    found = []
    for source, target, track, line in model.links.tolist():
        where = f"{path}, line {line}, <Edge>"
        for spot in (source, target):
            if spot not in row_of and spot not in model.hidden:
                raise RecordingError(f"{where}: there is no spot {spot}")
        if source in model.hidden or target in model.hidden:
            continue
        earlier, later = sorted((row_of[source], row_of[target]))  # the direction in the file may be reversed
        if spots.frame_index[earlier] == spots.frame_index[later]:
            raise RecordingError(f"{where}: links spots {source} and {target} of the same frame")
        found.append((earlier, later, track))
    table = np.array(found, np.int64).reshape(-1, 3)
    return Links(table[:, 0], table[:, 1], table[:, 2])


def read_image_notes(path: Path) -> ImageNotes:
    """A TrackMate file's notes on its images; empty if the file is another kind of XML.

    Raises:
        RecordingError: the file is not XML, or an attribute is not a number.
    """
    time_unit, notes = None, ImageNotes()
    for element in elements(path):
        if element.tag == "Model":
            time_unit = element.attributes.get("timeunits")
        elif element.tag == "ImageData" and element.within("TrackMate", "Settings"):
            notes = image_notes(element, time_unit)
    return notes


def image_notes(image: Element, time_unit: str | None) -> ImageNotes:
    """`ImageData` as values. In it, a 0 stands for an unknown value.

    Raises:
        RecordingError: an attribute is not a number.
    """

    def positive(name: str) -> float | None:
        value = image.real(name) if image.attributes.get(name) else 0.0
        return value if value > 0 else None

    width, height, n_frames = positive("width"), positive("height"), positive("nframes")
    x, y, interval = positive("pixelwidth"), positive("pixelheight"), positive("timeinterval")
    seconds = SECONDS.get((time_unit or "").lower())
    return ImageNotes(
        frame_shape=(int(height), int(width)) if height and width else None,
        n_frames=int(n_frames) if n_frames else None,
        pixel_size=(x, y or x) if x else None,
        fps=1 / (interval * seconds) if interval and seconds else None,
    )


TRACKMATE_XML = LabelFormat(
    title="a TrackMate file",
    read=read_trackmate_xml,
    source="trackmate",
    xml_tags=frozenset({"TrackMate"}),
)
