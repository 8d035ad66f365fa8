"""What is kept: earlier files of the same name, and the frames that a killed process had written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import sleap_io
import tifffile
import zarr
from output_records import info, record, written

from trackd.output_formats import WRITERS
from trackd.outputs.files.part import read_records, read_stream
from trackd.outputs.recover import recover
from trackd.outputs.writer import open_writer
from trackd_client.configuration import ConfigError
from trackd_client.recordings.motchallenge import read_rows

NAMES = {"csv": "cells.csv", "ctc": "cells_RES", "mot": "cells.txt", "parquet": "cells.parquet", "slp": "cells.slp",
         "trackmate": "cells_spots.csv", "jsonl": "cells.jsonl", "h5": "cells.h5", "nwb": "cells.nwb",
         "dlc": "cellsDLC_trackd.csv", "coco": "cells.coco.json", "geff": "cells.geff",
         "movement": "cells.nc"}  # fmt: skip
SECOND = {"csv": "cells.1.csv", "ctc": "cells_RES.1", "mot": "cells.1.txt", "parquet": "cells.1.parquet",
          "slp": "cells.1.slp", "trackmate": "cells_spots.1.csv", "jsonl": "cells.1.jsonl", "h5": "cells.1.h5",
          "nwb": "cells.1.nwb", "dlc": "cellsDLC_trackd.1.csv", "coco": "cells.coco.1.json", "geff": "cells.1.geff",
          "movement": "cells.1.nc"}  # fmt: skip
GROWING = ("mot", "csv", "trackmate", "jsonl")  # frame by frame; the others are made of a part
N_FRAMES = 5


def n_tracked(kind, path):
    """How many tracked instances a finished file holds."""
    match kind:
        case "mot":
            return len(read_rows(path).ids)
        case "slp":
            return sum(len(frame.instances) for frame in sleap_io.load_slp(str(path), open_videos=False))
        case "parquet":
            return len(pd.read_parquet(path))
        case "csv":
            return len(pd.read_csv(path))
        case "trackmate":
            return len(pd.read_csv(path, skiprows=[1, 2, 3]))
        case "ctc":
            rows = [tuple(map(int, line.split())) for line in (path / "res_track.txt").read_text().splitlines()]
            in_images = sum(len(np.unique(tifffile.imread(image))) - 1 for image in path.glob("mask*.tif"))
            assert in_images == sum(end - begin + 1 for _, begin, end, _ in rows)
            return in_images
        case "jsonl":
            return sum(len(json.loads(line)["track_ids"]) for line in path.read_text().splitlines()[1:])
        case "h5":
            with h5py.File(path) as file:
                return int(file["track_occupancy"][:].sum())
        case "nwb":
            with h5py.File(path) as file:
                module = file["processing/behavior"]
                return sum(len(module[name]["data"]) for name in module if name.endswith("_box"))
        case "dlc":
            return int(pd.read_csv(path, header=[0, 1, 2, 3], index_col=0).count(axis=1).sum()) // 3
        case "coco":
            return len(json.loads(path.read_text())["annotations"])
        case "geff":
            return zarr.open_group(path, mode="r")["nodes/ids"].shape[0]
        case "movement":
            with h5py.File(path) as file:
                return int(np.isfinite(file["score"][:]).sum())
    raise AssertionError(kind)


def killed(kind: str, out_dir: Path) -> None:
    """Run a process that writes frames, and is killed with SIGKILL before it closes its file."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from output_records import info, record
from trackd.outputs.writer import open_writer
writer = open_writer({kind!r}, Path({str(out_dir)!r}), info())
for i in range({N_FRAMES}):
    writer.write(record(i, [0, 1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize("kind", WRITERS)
def test_an_earlier_file_is_kept_under_another_name(kind, tmp_path):
    assert written(kind, tmp_path, info(), record(0, [0])) == tmp_path / NAMES[kind]
    written(kind, tmp_path, info(), record(0, [0]), record(1, [0]))
    written(kind, tmp_path, info(), record(0, [0]), record(1, [0]), record(2, [0]))
    assert n_tracked(kind, tmp_path / NAMES[kind]) == 3
    assert n_tracked(kind, tmp_path / SECOND[kind]) == 1
    assert n_tracked(kind, tmp_path / SECOND[kind].replace(".1", ".2")) == 2
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("kind", WRITERS)
def test_frames_that_were_written_before_a_kill_are_recovered(kind, tmp_path):
    killed(kind, tmp_path)
    made = recover(tmp_path)
    assert made == ([] if kind in GROWING else [tmp_path / NAMES[kind]])
    assert n_tracked(kind, tmp_path / NAMES[kind]) == 2 * N_FRAMES
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[kind]]
    assert recover(tmp_path) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_the_next_open_of_the_same_output_recovers_them_too(kind, tmp_path):
    killed(kind, tmp_path)
    written(kind, tmp_path, info(), record(0, [0]))
    assert n_tracked(kind, tmp_path / NAMES[kind]) == 1
    assert n_tracked(kind, tmp_path / SECOND[kind]) == 2 * N_FRAMES


def test_a_folder_that_a_kill_left_half_written_is_replaced(tmp_path):
    half = tmp_path / ".cells.partial.geff" / "nodes"
    half.mkdir(parents=True)
    (half / "zarr.json").write_text("{")
    path = written("geff", tmp_path, info(), record(0, [0]))
    assert n_tracked("geff", path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_incomplete_last_frame_is_left_out(tmp_path):
    killed("slp", tmp_path)
    part = tmp_path / "cells.slp.part"
    os.truncate(part, part.stat().st_size - 3)
    assert read_stream(part) == info()
    assert [found.frame_index for found in read_records(part)] == list(range(N_FRAMES - 1))
    recover(tmp_path)
    assert n_tracked("slp", tmp_path / "cells.slp") == 2 * (N_FRAMES - 1)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_another_process_writes_is_left_alone(kind, tmp_path):
    writer = open_writer(kind, tmp_path, info())
    writer.write(record(0, [0]))
    with pytest.raises(ConfigError, match="another process"):
        open_writer(kind, tmp_path, info())
    assert recover(tmp_path) == []
    writer.write(record(1, [0]))
    writer.close()
    assert n_tracked(kind, writer.path) == 2


@pytest.mark.parametrize("kind", WRITERS)
def test_a_closed_writer_refuses_records(kind, tmp_path):
    writer = open_writer(kind, tmp_path, info())
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(record(0, [0]))


def test_a_record_is_read_from_its_part_unchanged(tmp_path):
    sent = record(4, [2, -1], keypoints=np.array([[[1.5, np.nan]], [[3, 4]]]), scores=np.array([0.1, 0.2], np.float32))
    writer = open_writer("slp", tmp_path, info())
    writer.write(sent)
    (found,) = read_records(tmp_path / "cells.slp.part")
    writer.close()
    for name in ("track_ids", "track_scores", "boxes", "keypoints", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sent, name))
        assert getattr(found, name).dtype == getattr(sent, name).dtype
    assert (found.t_ns, found.keypoint_scores) == (sent.t_ns, None)
