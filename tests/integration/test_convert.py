"""Tracks that are converted from one file format into another: what both hold is equal, and what is lost is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from trackd.cli import app
from trackd.commands.convert import convert
from trackd.output_formats import WRITERS
from trackd.outputs.recorded import records_of
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer
from trackd_client.configuration import ConfigError
from trackd_client.detections import Skeleton
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.recording import RecordingError

READ = {"slp": "cells.slp", "mot": "cells.txt", "ctc": "cells_RES", "csv": "cells.csv", "parquet": "cells.parquet",
        "jsonl": "cells.jsonl", "trackmate": "cells_spots.csv"}  # fmt: skip
OUT = {**{kind: name.replace("cells", "new") for kind, name in READ.items()}, "h5": "new.h5", "nwb": "new.nwb",
       "dlc": "newDLC_trackd.csv", "coco": "new.coco.json", "geff": "new.geff", "movement": "new.nc"}  # fmt: skip
# Track 4 is away in frame 2; 5 divides into 6 and 7; an instance of frame 1 has no track; frame 3 is empty.
IDS = {0: [4, 5], 1: [5, 4, -1], 2: [5], 3: [], 4: [4, 6, 7], 5: [7, 4, 6]}
STREAM = StreamInfo("cells", Skeleton(("nose", "tail"), ((0, 1),)), None, (80, 120), 10.0)


def box(index: int, track: int) -> list[float]:
    x, y = 20.0 * (track - 3) + index, 30.0 + 2 * index
    return [x, y, x + 10, y + 12]


def frame(index: int, *, posed: bool = True, divide: bool = True) -> OutputRecord:
    ids = IDS[index]
    boxes = np.array([box(index, track) for track in ids], np.float32).reshape(-1, 4)
    return OutputRecord(
        index,
        1_000_000_000 + 100_000_000 * index + 7 * (index % 2),
        np.array(ids, np.int32),
        np.full(len(ids), 0.75, np.float32),
        boxes,
        keypoints=np.stack([boxes[:, :2], boxes[:, 2:]], axis=1).astype(np.float64) if posed else None,
        scores=np.full(len(ids), 0.5, np.float32),
        parents={6: 5, 7: 5} if divide and index == 4 else {},
        names={4: "mouse"} if 4 in ids and posed else {},
    )


def write(kind: str, folder: Path, **options: bool) -> Path:
    stream = STREAM if options.get("posed", True) else replace(STREAM, skeleton=None)
    with open_writer(kind, folder, stream) as writer:
        for index in IDS:
            writer.write(frame(index, **options))
    assert writer.path.name == READ[kind]
    return writer.path


def read(path: Path) -> list[OutputRecord]:
    (recording,) = open_recordings(TestDataset(**dataset_of(path), chunk=False), DataloaderConfig(), Path())
    return [record for _, record in records_of(recording, TestDataset())]


def tracked(records: list[OutputRecord]) -> dict[int, dict[int, list[float]]]:
    """The centre of each track's box, by frame; frames without a track are left out."""
    found = {}
    for record in records:
        rows = np.flatnonzero(record.track_ids >= 0)
        centres = (record.boxes[rows, :2] + record.boxes[rows, 2:]) / 2
        if len(rows):
            found[record.frame_index] = dict(zip(record.track_ids[rows].tolist(), centres.tolist(), strict=True))
    return found


EXPECTED = tracked([frame(index) for index in IDS])


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """A file of each format that is read; boxes alone, so that names are numbers."""
    folder = tmp_path_factory.mktemp("sources")
    return {kind: write(kind, folder, posed=False) for kind in READ}


@pytest.mark.parametrize("to", READ)
@pytest.mark.parametrize("kind", READ)
def test_ids_and_places_are_equal_in_every_pair_of_formats_that_are_read(kind, to, sources, tmp_path):
    (done,) = convert(sources[kind], tmp_path / OUT[to], video=size_of(kind, to, tmp_path), crop_size=8)
    found = tracked(read(done.path))
    assert done.tracks == 4
    # Label images hold whole pixels, and the centre of an ellipse's pixels.
    assert found.keys() == EXPECTED.keys()
    for index, places in EXPECTED.items():
        assert found[index].keys() == places.keys(), index
        for track, place in places.items():
            np.testing.assert_allclose(found[index][track], place, atol=1.1 if "ctc" in (kind, to) else 1e-4)


def size_of(kind: str, to: str, folder: Path) -> Path | None:
    """Images that give the size of the frames, where a format needs it and the other one does not note it."""
    if to != "ctc" or kind in ("ctc", "slp", "jsonl"):
        return None
    stack = folder / "stack.tif"
    if kind == "trackmate":
        tifffile.imwrite(stack, np.zeros((6, 80, 120), np.uint8), photometric="minisblack")
        return stack
    import cv2

    path = folder / "video.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (120, 80))
    for _ in range(6):
        video.write(np.zeros((80, 120, 3), np.uint8))
    video.release()
    return path


@pytest.mark.parametrize("to", [kind for kind in WRITERS if kind not in READ])
def test_a_conversion_leaves_one_file_and_nothing_else(to, sources, tmp_path):
    (done,) = convert(sources["jsonl"], tmp_path / OUT[to])
    assert done.path.exists()
    assert (done.frames, done.tracks) == (6, 4)
    assert [path.name for path in tmp_path.iterdir()] == [OUT[to]]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_trackds_own_tables_keep_times_scores_and_poses(kind, tmp_path):
    (done,) = convert(write("jsonl", tmp_path / "in"), tmp_path / OUT[kind])
    for found, index in zip(read(done.path), IDS, strict=True):
        wanted = frame(index)
        assert (found.frame_index, found.t_ns) == (index, wanted.t_ns)
        for name in ("track_ids", "track_scores", "boxes", "keypoints", "scores"):
            given, expected = getattr(found, name), getattr(wanted, name)
            np.testing.assert_array_equal(given.reshape(expected.shape), expected, err_msg=name)
        assert (found.names, found.parents) == (wanted.names, wanted.parents)


def test_a_name_of_a_sleap_track_becomes_a_name_and_one_that_is_a_number_becomes_the_id(tmp_path):
    (named,) = convert(write("jsonl", tmp_path / "in"), tmp_path / "named.slp")
    (numbered,) = convert(write("csv", tmp_path / "in", posed=False), tmp_path / "numbered.slp")
    names = {track: name for record in read(named.path) for track, name in record.names.items()}
    assert names == {0: "mouse", 1: "5", 2: "6", 3: "7"}
    assert {track for record in read(numbered.path) for track in record.track_ids.tolist()} == {-1, 4, 5, 6, 7}


def test_what_a_format_does_not_hold_is_one_line_with_counts(tmp_path):
    source = write("jsonl", tmp_path / "in")
    (done,) = convert(source, tmp_path / "new.txt")
    assert done.notes == [
        "mot holds no keypoints (12 instances), capture times (6 frames), names (1 tracks), parents (2 tracks), "
        "instances without a track (1): left out"
    ]
    (done,) = convert(write("ctc", tmp_path / "in"), tmp_path / "from_masks.txt")
    assert done.notes == ["mot holds no masks (5 frames), parents (2 tracks): left out"]
    (done,) = convert(source, tmp_path / "new.jsonl")
    assert done.notes == []


def test_a_division_and_a_gap_are_kept_between_label_images_and_json_lines(tmp_path):
    (done,) = convert(write("ctc", tmp_path / "in"), tmp_path / "new.jsonl")
    parents = {child: parent for record in read(done.path) for child, parent in record.parents.items()}
    assert parents == {6: 5, 7: 5}
    again = tmp_path / "again_RES"
    list(convert(done.path, again))
    assert (again / "res_track.txt").read_text() == (tmp_path / "in" / "cells_RES" / "res_track.txt").read_text()


def test_an_earlier_file_is_renamed_and_an_error_leaves_nothing(tmp_path):
    source = write("csv", tmp_path / "in")
    list(convert(source, tmp_path / "new.txt"))
    list(convert(source, tmp_path / "new.txt"))
    with pytest.raises(ConfigError, match="ctc needs the size of the frames, which cells does not note"):
        list(convert(source, tmp_path / "new_RES"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "new.1.txt", "new.txt"]


@pytest.mark.parametrize(
    ("source", "target", "options", "text"),
    [
        ("no.slp", "new.csv", {}, "no.slp: no such file or folder"),
        ("cells.csv", "new.xyz", {}, "its name must end in one of _spots.csv"),
        ("cells.csv", "new.txt", {"to_kind": "sleap"}, "--to: no such format: 'sleap'; did you mean 'slp'"),
        ("cells.csv", "new.txt", {"from_kind": "mott"}, "--from: no such format: 'mott'; did you mean 'mot'"),
        ("cells.csv", "none/new.txt", {}, "none is not a folder"),
        ("notes.md", "new.txt", {}, "notes.md: not a known recording"),
        ("empty", "new.txt", {}, "empty: holds no recording"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(source, target, options, text, tmp_path):
    write("csv", tmp_path)
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        list(convert(tmp_path / source, tmp_path / target, **options))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"frame_index": 0, "t_ns": 0}', "line 2: must hold the whole numbers frame_index and t_ns"),
        ('{"frame_index": 0, "t_ns": 0, "track_ids": [1.5]}', "line 2: track_ids must be whole numbers"),
        ('{"frame_index": 0, "t_ns": 0, "track_ids": [1], "boxes": [[1, 2]]}', "line 2: boxes must hold 4 numbers"),
        ('{"frame_index": -1, "t_ns": 0, "track_ids": []}', "line 2: the frame index must be from 0"),
        ('{"frame_index": 99999999, "t_ns": 0, "track_ids": []}', "claims 100000000 frames; limits.recording_frames"),
        ("{", "line 2: not JSON"),
    ],
)
def test_a_wrong_json_line_is_an_error_that_names_it(line, text, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"trackd": 1, "stream": "a"}\n' + line + "\n")
    with pytest.raises(RecordingError) as caught:
        read(tmp_path / "a.jsonl")
    assert text in str(caught.value)


def test_the_command_converts_a_folder_and_prints_a_line_for_each_file(tmp_path):
    for name in ("left", "right"):
        write("slp", tmp_path / "slp" / name).rename(tmp_path / "slp" / f"{name}.slp")
        (tmp_path / "slp" / name).rmdir()
    (tmp_path / "new").mkdir()
    command = [sys.executable, "-m", "trackd.cli", "convert", "slp", "new", "--to", "csv"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "TRACKD_LOG": "ERROR"}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"wrote new/{name}.csv: 6 frames, 4 tracks" for name in ("left", "right")]


def test_the_commands_of_the_formats_page_run(tmp_path, monkeypatch):
    tracked = tmp_path / "demo" / "tracked"
    for kind, name in (("slp", "demo.slp"), ("mot", "demo.txt")):
        write(kind, tracked, posed=False).rename(tracked / name)
    size_of("mot", "ctc", tmp_path / "demo").rename(tmp_path / "demo" / "demo.mp4")
    (tmp_path / "results").mkdir()
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    commands = re.findall(r"^ {4}trackd ((?:convert|render) .*)$", text, re.MULTILINE)
    assert len(commands) == 7
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert {"my.csv", "my.nwb", "my.geff", "my_RES", "my.jsonl", "my.mp4"} < {path.name for path in tmp_path.iterdir()}
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["demo.nc"]
