import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd.outputs.formats.mot import MotWriter, mot_box
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer
from trackd_client.configuration import ConfigError
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.motchallenge import MotRecording, read_rows

INFO = StreamInfo(name="walk", skeleton=None, source=None, frame_shape=(480, 640), fps=25.0)
SHARED = Path(os.environ.get("TRACKD_SHARED", Path(__file__).resolve().parents[4] / "shared"))


def record(frame_index, ids, boxes, scores=None):
    return OutputRecord(
        frame_index=frame_index,
        t_ns=0,
        track_ids=np.array(ids, np.int32),
        track_scores=np.ones(len(ids), np.float32),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=None if scores is None else np.array(scores, np.float32),
    )


def test_rows_count_frames_ids_and_pixels_from_one(tmp_path):
    with open_writer("mot", tmp_path / "new", INFO) as writer:
        writer.write(record(0, [3], [[0, 0, 10, 20]], [0.5]))
    assert writer.path == tmp_path / "new" / "walk.txt"
    assert writer.path.read_text() == "1,4,1,1,10,20,0.5,-1,-1,-1\n"


def test_unassigned_instances_and_empty_frames_leave_no_row(tmp_path):
    with open_writer("mot", tmp_path, INFO) as writer:
        writer.write(record(0, [-1, 2], [[0, 0, 1, 1], [1, 1, 2, 2]]))
        writer.write(record(1, [], []))
        writer.write(record(2, [-1], [[0, 0, 1, 1]]))
    assert read_rows(writer.path).ids.tolist() == [3]


def test_a_written_frame_is_on_disk_before_the_file_is_closed(tmp_path):
    writer = MotWriter(tmp_path, INFO)
    writer.write(record(0, [0], [[0, 0, 10, 20]]))
    assert len(read_rows(writer.path).ids) == 1
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(record(1, [0], [[0, 0, 10, 20]]))


@settings(max_examples=300)
@given(st.lists(st.floats(-2000, 5000, width=32, allow_subnormal=False), min_size=4, max_size=4))
def test_any_box_reads_back_as_itself(values):
    box = np.array(values, np.float32)
    left, top, width, height = (float(text) for text in mot_box(box))
    corner, extent = np.array([left - 1, top - 1]), np.array([width, height])
    np.testing.assert_allclose(np.concatenate([corner, corner + extent]).astype(np.float32), box, rtol=0, atol=1e-9)


def test_a_box_is_written_with_no_more_decimals_than_it_needs():
    box = np.array([281.931 - 1, 187.466 - 1, 281.931 - 1 + 79.93, 187.466 - 1 + 209.537], np.float32)
    assert mot_box(box) == ("281.931", "187.466", "79.93", "209.537")


def test_an_unknown_output_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'slp'"):
        open_writer("slpp", tmp_path, INFO)


def replayed(path, out_dir):
    recording = MotRecording(path, TestDataset(fps=25))
    with open_writer("mot", out_dir, INFO) as writer:
        for frame in recording.frames():
            found = frame.detections
            ids = np.arange(len(found))
            writer.write(record(frame.frame_index, ids, found.boxes, found.scores))
    return writer.path


def test_a_file_that_is_read_and_written_changes_only_its_ids(tmp_path):
    lines = ["1,-1,281.931,187.466,79.93,209.537,0.997784,-1,-1,-1", "1,-1,-3,-2.5,10,20,1,-1,-1,-1"]
    lines.append("3,-1,1691.7,383.5,169.9,358.1,0.25,-1,-1,-1")
    (tmp_path / "det.txt").write_text("\n".join(lines))
    written = replayed(tmp_path / "det.txt", tmp_path / "out").read_text().splitlines()
    without_ids = [line.split(",")[:1] + line.split(",")[2:] for line in lines]
    assert [line.split(",")[:1] + line.split(",")[2:] for line in written] == without_ids


@pytest.mark.shared
@pytest.mark.parametrize("file", ["mot15_TUD-Campus/det.txt", "mot17_09/gt.txt", "mot15_PETS09-S2L1_detonly/det.txt"])
def test_a_real_file_that_is_read_and_written_changes_only_its_ids(file, tmp_path):
    path = SHARED / "data" / file
    if not path.exists():
        pytest.skip(f"{path} is missing: set TRACKD_SHARED to the folder that holds data/")
    before, after = read_rows(path), read_rows(replayed(path, tmp_path))
    for name in ("frame_index", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
