"""Names that people gave to tracks, in output files."""

from __future__ import annotations

import csv

from output_records import info, record, written
from sleap_io import load_slp

from trackd.outputs.files.part import PartFile, read_records


def test_a_track_of_a_slp_has_its_last_name_else_its_id(tmp_path):
    path = written(
        "slp", tmp_path, info(),
        record(0, [0, 1, 2]),
        record(1, [0, 1, 2], names={0: "old", 1: "Änne"}),
        record(2, [0, 2, 5], names={0: "Bob", 5: "Änne"}),
        record(3, [2, -1]),
    )  # fmt: skip
    labels = load_slp(str(path), open_videos=False)
    assert [track.name for track in labels.tracks] == ["Bob", "Änne", "2", "Änne (5)"]
    assert [i.track.name for i in labels[1].instances] == ["Bob", "Änne", "2"]


def test_a_name_that_was_removed_is_not_in_the_slp(tmp_path):
    frames = record(0, [0], names={0: "Ann"}), record(1, [0])
    labels = load_slp(str(written("slp", tmp_path, info(), *frames)), open_videos=False)
    assert [track.name for track in labels.tracks] == ["0"]


def test_trackmate_has_the_name_of_each_moment_as_one_cell(tmp_path):
    path = written(
        "trackmate", tmp_path, info(), record(0, [0, 1]), record(1, [0, 1], names={0: 'a, "b"'}),
        record(2, [0, 1], names={0: "=1+1"}),
    )  # fmt: skip
    with path.open(encoding="utf-8", newline="") as file:
        names = [row[3] for row in csv.reader(file)][4:]
    assert names == ["Track_0", "Track_1", 'a, "b"', "Track_1", "'=1+1", "Track_1"]


def test_a_part_has_the_names_of_its_frames(tmp_path):
    part = PartFile(tmp_path / "cells.slp.part", info())
    part.append(record(0, [0]))
    part.append(record(1, [0, 1], names={0: "Änne"}))
    part.close()
    assert [each.names for each in read_records(tmp_path / "cells.slp.part")] == [{}, {0: "Änne"}]
