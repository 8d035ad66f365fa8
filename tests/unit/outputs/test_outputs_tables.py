import csv
import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from output_records import info, record, written

import trackd.output_formats as table_module
from trackd.config import check_config
from trackd.outputs.writer import open_writer
from trackd_client.configuration import ConfigError
from trackd_client.detections import Skeleton
from trackd_client.recordings.labels.spreadsheet_text import unescaped
from trackd_client.recordings.labels.tables import header_of

WORM = Skeleton(("head", "tail"), ((0, 1),))
POSE = np.array([[[1.1, 2], [3, 4]], [[5, 6], [np.nan, np.nan]]])
FRAMES = (
    record(3, [7, -1], keypoints=POSE, keypoint_scores=np.full((2, 2), 0.5), scores=np.array([0.1, 0.9], np.float32),
           track_scores=np.array([0.75, np.nan], np.float32)),
    record(4, []),
)  # fmt: skip


def read(kind, path):
    return pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_one_row_per_detection_and_frame_with_unassigned_rows_kept(kind, tmp_path):
    table = read(kind, written(kind, tmp_path, info(skeleton=WORM), *FRAMES))
    assert list(table.columns) == [
        "frame_index", "t_ns", "detection", "track_id", "track_score", "score", "x1", "y1", "x2", "y2",
        "head_x", "head_y", "head_score", "tail_x", "tail_y", "tail_score",
        "track_name", "parent_id", "corrections"]  # fmt: skip
    assert table.frame_index.tolist() == [3, 3, 4]
    assert table.t_ns.tolist() == [300_000_000, 300_000_000, 400_000_000]
    assert table.track_id.tolist() == [7, -1, -1]
    assert table.detection.tolist() == [0, 1, -1]
    assert table.head_x.tolist()[:2] == [1.1, 5]
    assert table.tail_x.isna().tolist() == [False, True, True]
    assert table.x1.isna().tolist() == [False, False, True]
    assert np.float32(table.score[0]) == np.float32(0.1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_stream_of_boxes_has_no_node_columns_and_leading_empty_frames_stay(kind, tmp_path):
    table = read(kind, written(kind, tmp_path, info(), record(0, []), record(1, [2])))
    assert list(table.columns)[-4:] == ["y2", "track_name", "parent_id", "corrections"]
    assert table.track_id.tolist() == [-1, 2]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("frames", [(), (record(0, []),)])
def test_a_stream_without_tracks_still_gives_a_table(kind, frames, tmp_path):
    assert len(read(kind, written(kind, tmp_path, info(), *frames))) == len(frames)


def test_numbers_in_the_csv_are_as_short_as_they_can_be(tmp_path):
    with written("csv", tmp_path, info(), record(0, [0], [[0.1, 2, 3.25, 4]])).open() as file:
        assert list(csv.reader(file))[1][6:10] == ["0.1", "2.0", "3.25", "4.0"]


def test_names_that_a_spreadsheet_would_run_are_escaped_and_numbers_are_not(tmp_path):
    nodes = ("=1+1", "-tail", "'quoted", "plain", "@a;=b")
    pose = np.full((1, len(nodes), 2), -3.5)
    path = written("csv", tmp_path, info(skeleton=Skeleton(nodes)), record(0, [0], [[-3.5, -1, 2, 3]], keypoints=pose))
    with path.open(newline="") as file:
        header, row = csv.reader(file)
    assert header[10:-3:3] == ["'=1+1_x", "'-tail_x", "''quoted_x", "plain_x", "'@a;'=b_x"]
    assert row[6] == row[10] == "-3.5"
    assert header_of(path)[10:-3:3] == [f"{node}_x" for node in nodes]


NAMED = ("Männchen, 2", '=HYPERLINK("x")', "'quoted", "NA", "a;=b")
CORRECTIONS = ({"number": 1, "action": "rename", "author": "Ünal;=1", "t_ns": 5, "tracks": [0], "name": "a;=b"},)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_parents_and_corrections_are_read_back_by_pandas(kind, tmp_path):
    path = written(
        kind, tmp_path, info(),
        record(0, [], corrections=CORRECTIONS, t_ns=2**62 + 1),
        record(1, [0, 1, 2, 3, 4, -1], names=dict(enumerate(NAMED)), t_ns=2**62 + 33_000_007),
        record(4, [5, 6], parents={5: 0, 6: 0}),
        record(5, [6, 5]),
    )  # fmt: skip
    table = pd.read_csv(path, keep_default_na=False) if kind == "csv" else pd.read_parquet(path)
    assert table.track_id.tolist() == [-1, 0, 1, 2, 3, 4, -1, 5, 6, 6, 5]
    assert table.t_ns.tolist()[:2] == [2**62 + 1, 2**62 + 33_000_007]
    assert table.parent_id.tolist() == [-1] * 7 + [0, 0, -1, -1]
    names = table.track_name.tolist()[1:6]
    assert names == list(NAMED) if kind == "parquet" else [unescaped(name) for name in names] == list(NAMED)
    assert [unescaped(name) for name in table.track_name[6:].fillna("")] == [""] * 5
    texts = table.corrections.tolist()
    assert json.loads(texts[0]) == list(CORRECTIONS)
    assert not any(text and text == text for text in texts[1:])


def test_cells_of_names_are_no_formulas(tmp_path):
    path = written("csv", tmp_path, info(), record(1, [0, 1, 2, 3, 4], names=dict(enumerate(NAMED))))
    with path.open(newline="") as file:
        cells = [row[-3] for row in csv.reader(file)][1:]
    assert cells == ["Männchen, 2", '\'=HYPERLINK("x")', "''quoted", "NA", "a;'=b"]


def test_a_table_that_an_earlier_version_began_is_continued_with_its_columns(tmp_path):
    """Its position does not say how many columns about tracks it has: it has none."""
    path = tmp_path / "cells.csv"
    path.write_text("frame_index,t_ns,detection,track_id,track_score,score,x1,y1,x2,y2\n0,0,-1,-1,,,,,,\n")
    for position in ({"nodes": None, "rows": 1}, {"nodes": [], "bytes": path.stat().st_size}):
        with open_writer("csv", tmp_path, info(), position) as writer:
            writer.write(record(1, [3], names={3: "x"}))
        assert pd.read_csv(path).shape == (2, 10)


def test_parquet_columns_are_typed(tmp_path):
    schema = pyarrow.parquet.read_schema(written("parquet", tmp_path, info(), record(0, [0])))
    types = [str(schema.field(name).type) for name in ("t_ns", "track_id", "x1", "track_name", "parent_id")]
    assert types == ["int64", "int64", "double", "string", "int64"]


def test_parquet_without_pyarrow_is_an_error_that_names_the_package(monkeypatch):
    monkeypatch.setattr(table_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="parquet needs pyarrow, which is not installed: pip install pyarrow;"):
        check_config({"stream": {"outputs": ["parquet"]}})
    assert check_config({"stream": {"outputs": ["csv"]}}).stream.outputs == ["csv"]


def test_trackmates_four_header_rows_and_the_sign_for_no_track(tmp_path):
    path = written("trackmate", tmp_path, info(), record(2, [5, -1], [[0, 0, 4, 8], [10, 10, 12, 12]]))
    assert path.name == "cells_spots.csv"
    rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert rows[0][:3] == ["ID", "LABEL", "TRACK_ID"]
    assert rows[3][rows[0].index("POSITION_X")] == "(pixels)"
    spots = pd.read_csv(path, skiprows=[1, 2, 3], na_values=["ø", "None"])
    assert spots.TRACK_ID.tolist()[0] == 5
    assert spots.TRACK_ID.isna().tolist() == [False, True]
    assert spots[["POSITION_X", "POSITION_Y"]].to_numpy().tolist() == [[2, 4], [11, 11]]
    assert spots.FRAME.tolist() == [2, 2]
    assert spots.ID.is_unique
    assert np.pi * spots.RADIUS[0] ** 2 == pytest.approx(32)
