"""A format of one file and one line in a table is read by the path that a user's YAML takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trackd_client.apps.replay import read_replay
from trackd_client.configuration import ConfigError
from trackd_client.recordings import discovery
from trackd_client.recordings.config import LABEL_KEYS, TestDataset
from trackd_client.recordings.labels import label_files
from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import SpotRows, Spots
from trackd_client.recordings.microscopy import MicroscopyRecording
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.recording_format import RecordingFormat


def read_points(path: Path) -> Spots:
    """One detection a line: frame, track, x, y in pixels."""
    rows = SpotRows()
    for line in path.read_text().splitlines():
        frame, track, x, y = line.split()
        rows.add(int(frame), float(x), float(y), track=int(track))
    return rows.spots().in_pixels((1.0, 1.0))


POINTS = LabelFormat(title="a points file", read=read_points, source="points", suffixes=(".points",))


def open_folder(folder, dataset, base, limits):
    places = [base / path for path in folder.path]
    paths = [path for place in places for path in sorted(place.glob("*.points"))]
    return [MicroscopyRecording(path, dataset, limits=limits) for path in paths]


POINTS_FOLDER = RecordingFormat(title="points", labels_suffixes=(".points",), open_folder=open_folder)


def recordings(folder, **keys):
    """The recordings of a YAML file, as `trackd-client replay` opens them."""
    path = folder / "replay.yaml"
    path.write_text(yaml.safe_dump({"dataset": {"test_dataset": keys}}))
    return read_replay(path, []).recordings


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "cells.points"
    path.write_text("0 7 1.5 2\n1 7 2.5 2\n1 8 9 9\n")
    return path


def check(recording):
    frames = list(recording.frames())
    assert recording.name == "cells"
    assert [frame.detections.gt_ids.tolist() for frame in frames] == [[7], [7, 8]]
    assert frames[0].detections.keypoints.tolist() == [[[1.5, 2]]]


def test_a_label_format_is_one_line_in_its_table(tmp_path, points, monkeypatch):
    monkeypatch.setattr(label_files, "LABEL_FORMATS", (*label_files.LABEL_FORMATS, POINTS))
    for keys in ({}, {"source": "points"}):
        (recording,) = recordings(tmp_path, tracks=points.name, **keys)
        check(recording)


def test_a_recording_format_is_one_line_in_its_table(tmp_path, points, monkeypatch):
    monkeypatch.setattr(label_files, "LABEL_FORMATS", (*label_files.LABEL_FORMATS, POINTS))
    monkeypatch.setattr(discovery, "FORMATS", (*discovery.FORMATS, POINTS_FOLDER))
    (recording,) = recordings(tmp_path, dir={"path": ".", "labels_suffix": ".points"})
    check(recording)


def test_error_texts_list_the_formats_of_the_tables(tmp_path, points, monkeypatch):
    (recording,) = recordings(tmp_path, tracks=points.name)
    with pytest.raises(RecordingError, match=r"must be a TrackMate file, .*; looks like none of them"):
        list(recording.frames())
    with pytest.raises(ConfigError, match=r"source must be one of trackmate, isbi, icy, imagej, trex, btrack, or null"):
        recordings(tmp_path, tracks=points.name, source="points")
    with pytest.raises(ConfigError, match=r'must end in one of "\.slp" \(SLEAP\), .*"\.tif" .*; got \'\.points\''):
        recordings(tmp_path, dir={"path": ".", "labels_suffix": ".points"})
    monkeypatch.setattr(label_files, "LABEL_FORMATS", (*label_files.LABEL_FORMATS, POINTS))
    monkeypatch.setattr(discovery, "FORMATS", (*discovery.FORMATS, POINTS_FOLDER))
    (recording,) = recordings(tmp_path, tracks="replay.yaml")
    with pytest.raises(RecordingError, match=r"must be a TrackMate file, .*, a points file; looks like none of them"):
        list(recording.frames())
    with pytest.raises(ConfigError, match=r"trex, btrack, points, or null"):
        recordings(tmp_path, tracks=points.name, source="pints")
    with pytest.raises(ConfigError, match=r'"\.points" \(points\); got \'\.dots\''):
        recordings(tmp_path, dir={"path": ".", "labels_suffix": ".dots"})


def test_every_key_for_label_files_belongs_to_one_format():
    keys = [known.key for known in discovery.FORMATS if known.key is not None]
    assert sorted(keys) == sorted(LABEL_KEYS)
    assert set(keys) <= set(TestDataset.model_fields)
    for known in discovery.FORMATS:
        assert (known.key is None) == (known.open_files is None)
        assert bool(known.labels_suffixes) == (known.open_folder is not None)


def test_every_label_format_has_a_reader_or_a_refusal():
    for known in label_files.LABEL_FORMATS:
        assert (known.read is None) == (known.refusal is not None) == (known.source is None)
        assert known.suffixes or known.xml_tags or known.columns or known.folder
