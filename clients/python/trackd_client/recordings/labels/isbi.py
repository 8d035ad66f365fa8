"""Tracks of the ISBI 2012 particle tracking challenge."""

from __future__ import annotations

from pathlib import Path

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.xml_elements import elements


def read_isbi(path: Path) -> Spots:
    """The detections of all particles, in pixels. A particle's identity is its position in the file, from 0.

    Raises:
        RecordingError: names the file, the line and the element.
    """
    rows = SpotRows()
    for element in elements(path):
        if element.tag == "detection" and element.within("particle"):
            particle = element.parent
            assert particle is not None
            rows.add(element.frame("t"), element.real("x"), element.real("y"), track=particle.number)
    return one_a_frame(rows.spots().in_pixels((1.0, 1.0)), path)


ISBI = LabelFormat(
    title="an ISBI 2012 challenge file",
    read=read_isbi,
    source="isbi",
    xml_tags=frozenset({"TrackContestISBI2012"}),
)
