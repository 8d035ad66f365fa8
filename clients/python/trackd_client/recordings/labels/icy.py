"""Tracks of the bioimage software ICY."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.xml_elements import Element, elements
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)


def read_icy(path: Path) -> Spots:
    """The detections of all tracks, in pixels. A track's identity is its position in the file, from 0.

    A link in `linklist` goes from the parent track to the child track.

    Raises:
        RecordingError: names the file, the line and the element.
    """
    rows = SpotRows()
    numbers: dict[str, int] = {}  # by the file's own id, a hash
    links = []
    n_tracks = 0
    current: Element | None = None
    for element in elements(path):
        if element.tag == "detection" and element.within("track"):
            if current is not element.parent:
                current, n_tracks = element.parent, n_tracks + 1
            rows.add(element.frame("t"), element.real("x"), element.real("y"), track=n_tracks - 1)
        elif element.tag == "track":
            if current is element and "id" in element.attributes:
                numbers[element.attributes["id"]] = n_tracks - 1
        elif element.tag == "link" and element.within("linklist"):
            links.append(element)
    spots = rows.spots().in_pixels((1.0, 1.0))
    return one_a_frame(replace(spots, lineage=_lineage(links, numbers)), path)


def _lineage(links: list[Element], numbers: dict[str, int]) -> dict[int, int]:
    lineage: dict[int, int] = {}
    for link in links:
        ends = []
        for name in ("from", "to"):
            track = link.attributes.get(name)
            if track not in numbers:
                raise RecordingError(f"{link.where}: attribute {name} must be a track's id; got {track!r}")
            ends.append(numbers[track])
        parent, child = ends
        if child in lineage:
            logger.warning("a merge: only its first parent is kept file=%s line=%d", link.path, link.line)
            continue
        lineage[child] = parent
    return lineage


ICY = LabelFormat(
    title="an ICY file",
    read=read_icy,
    source="icy",
    xml_tags=frozenset({"trackfile", "trackgroup"}),
)
