import json

import pytest

from trackd_client.recordings.labels.label_files import read_spots
from trackd_client.recordings.recording import RecordingError

TABLE = "t,x,y,z,states,label\n0,1,2,0,5,0\n2,7,8,0,5,0\n1,3,4,0,5,0\n2,5,6,0,5,0\n2,9,9,0,5,0\n"
TRUTH = {"1": [0, 2], "2": [1], "3": [3, -1]}


def cells(folder, truth=None, graph=None, *, text=TABLE, name="cells_data.csv"):
    for what, value in (("ground_truth", truth), ("graph", graph)):
        if value is not None:
            (folder / f"cells_{what}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("name", ["cells_data.csv", "cells.csv"])
def test_tracks_and_their_graph_are_read_from_files_beside_the_objects(tmp_path, name):
    spots = read_spots(cells(tmp_path, TRUTH, {"2": [1], "3": [1]}, name=name), "btrack")
    assert spots.frame_index.tolist() == [0, 1, 2, 2, 2]
    assert spots.points.tolist() == [[1, 2], [3, 4], [7, 8], [5, 6], [9, 9]]
    assert spots.spot_ids.tolist() == [0, 2, 1, 3, 4]
    assert spots.gt_ids.tolist() == [1, 1, 2, 3, -1]
    assert spots.lineage == {2: 1, 3: 1}


def test_objects_without_a_ground_truth_file_have_no_identities(tmp_path):
    spots = read_spots(cells(tmp_path, graph={"2": [1]}))
    assert spots.gt_ids.tolist() == [-1] * 5
    assert spots.lineage == {}


@pytest.mark.parametrize(
    ("truth", "graph", "message"),
    [
        ({"1": [0, 5]}, None, r"cells_ground_truth\.json, track 1: has object 5, but cells_data\.csv has 5"),
        ({"1": [0], "2": [0]}, None, "track 2: object 0 already belongs to track 1"),
        ({"1": [0.5]}, None, "track '1': must be a number with a list of whole numbers"),
        ({"one": [0]}, None, "track 'one': must be a number with a list"),
        ([[0, 1]], None, "must be a number with a list"),
        ("{", None, r"cells_ground_truth\.json: cannot be read as JSON"),
        (TRUTH, {"2": [7]}, r"cells_graph\.json, track 2: must be a track with one other track as parent"),
        (TRUTH, {"2": [1, 3]}, "track 2: must be a track with one other"),
        (TRUTH, {"2": [2]}, "track 2: must be a track with one other"),
    ],
)
def test_a_btrack_error_names_the_file_and_the_track(tmp_path, truth, graph, message):
    with pytest.raises(RecordingError, match=message):
        read_spots(cells(tmp_path, truth, graph))


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        (TABLE + "3,a,1,0,5,0\n", None, "row 7: x must be a number; got 'a'"),
        (TABLE + "-1,1,1,0,5,0\n", None, "row 7: t must be a whole number ≥ 0"),
        (TABLE, "trex", "looks like a btrack table of objects: set source to 'btrack'"),
        ("t,x,y\n0,1,2\n", "btrack", "looks like none of them"),
    ],
)
def test_a_table_that_is_not_a_btrack_table_is_an_error(tmp_path, text, source, message):
    with pytest.raises(RecordingError, match=message):
        read_spots(cells(tmp_path, text=text), source)
