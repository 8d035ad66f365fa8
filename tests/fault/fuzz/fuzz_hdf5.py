"""Fuzz target: finished tracks in HDF5, of SLEAP's analysis, DeepLabCut, NWB and movement, and plain pickles in them.

A file is played, or refused in one line.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import finished_files
import h5py
import numpy as np
from fuzz_harness import check_text, work_folder
from fuzz_recordings import play

from trackd_client.recordings.recording import RecordingError

PACKAGES = ["trackd_client.recordings"]
MOST_MS = 2000
MOST_MB = 64
WORDS = (b"\xff\xff\xff\xff", b"TREE", b"SNOD", b"HEAP", b"tracks", b"dims", b"pandas_type", b"PoseEstimation",
         b"cos\nsystem\n(S'ls'\ntR.", b"(lp0\n", b"\x80\x04")  # fmt: skip
FOLDER = work_folder()
NAMES = ("a.h5", "b.h5", "c.h5", "a.nwb", "a.nc")  # the first byte of an input selects one
RAW, REPLACED, PICKLED = 0, 1, 2  # the second: a file; numbers that replace some of a valid file; a pickle of names
VALUES = (0, -1, 1, 2, 7, 255, 10_001, 2**31, 2**53, 2**63 - 1, 0.5, np.nan, np.inf)


def seeds() -> Iterator[bytes]:
    """A small file of each format, and replaced numbers in each."""
    for number, name in enumerate(NAMES):
        yield bytes([number, RAW]) + _valid(name)
        yield bytes([number, REPLACED, 0, 0, 2, 1, 1, 5, 2, 0, 9, 3, 2, 11])
    yield bytes([1, PICKLED]) + pickle.dumps([(1, finished_files.COLUMNS)], 0)
    yield bytes([1, PICKLED]) + pickle.dumps([(1, finished_files.COLUMNS)], 4)


def run(data: bytes) -> None:
    """Write the file, and play it."""
    name, form, body = (
        NAMES[data[0] % len(NAMES)] if data else NAMES[0],
        data[1] % 3 if len(data) > 1 else RAW,
        data[2:],
    )
    path = FOLDER / name
    if form == PICKLED:
        name, path = "b.h5", FOLDER / "b.h5"
        finished_files.dlc_table(path, names=body[:4096] + b"#")
    else:
        path.write_bytes(_valid(name) if form == REPLACED else body)
    if form == REPLACED:
        _replace(path, body)
    try:
        play(FOLDER, {"track_files": [name]})
    except RecordingError as error:
        check_text(error)


_VALID: dict[str, bytes] = {}


def _valid(name: str) -> bytes:
    if name not in _VALID:
        path = FOLDER / "seed.h5"
        path.unlink(missing_ok=True)
        match name:
            case "a.h5":
                finished_files.analysis(path, frame_index=[0, 1], t_ns=[5, 9], track_ids=[3, 4], parent_ids=[-1, 3])
            case "b.h5":
                finished_files.dlc_table(path)
            case "c.h5":
                finished_files.dlc_fixed(path)
            case "a.nwb":
                _nwb(path)
            case "a.nc":
                _movement(path)
        _VALID[name] = path.read_bytes()
    return _VALID[name]


def _nwb(path: Any) -> None:
    with h5py.File(path, "w") as file:
        file["session_start_time"] = "2024-05-01T12:00:00+00:00"
        module = file.create_group("processing/behavior")
        tracks = module.create_group("tracks")
        tracks["track_id"], tracks["track_name"], tracks["parent_id"] = [3], ["Ann"], [-1]
        frames = module.create_group("frames")
        frames["data"], frames["timestamps"] = [0, 2], [0.0, 0.1]
        pose = module.create_group("Ann")
        pose.attrs["neurodata_type"], pose["description"] = "PoseEstimation", "track 3"
        series = pose.create_group("nose")
        series.attrs["neurodata_type"] = "PoseEstimationSeries"
        series["data"], series["timestamps"], series["confidence"] = [[1.0, 2], [3, 4]], [0.0, 0.1], [0.5, 1]


def _movement(path: Any) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["ds_type"] = "poses"
        sizes = {"time": 2, "space": 2, "keypoints": 1, "individuals": 1}
        file["time"], file["space"], file["keypoints"], file["individuals"] = [0.0, 0.1], ["x", "y"], ["nose"], ["a"]
        for name in sizes:
            file[name].make_scale(name)
        file["position"], file["confidence"] = np.ones((2, 2, 1, 1)), np.ones((2, 1, 1))
        for name, axes in (("position", list(sizes)), ("confidence", ["time", "keypoints", "individuals"])):
            for axis, scale in enumerate(axes):
                file[name].dims[axis].attach_scale(file[scale])


def _replace(path: Any, edits: bytes) -> None:
    """Put other numbers into the tables of a file: an edit has a byte each for table, place and value."""
    with h5py.File(path, "a") as file:
        tables: list[Any] = []
        file.visititems(lambda _, item: tables.append(item) if isinstance(item, h5py.Dataset) else None)
        tables = [table for table in tables if table.dtype.kind in "iuf" and table.size]
        for at in range(0, min(len(edits) - 2, 60), 3) if tables else ():
            table = tables[edits[at] % len(tables)]
            values = table[()]
            value = VALUES[edits[at + 2] % len(VALUES)]
            flat = np.atleast_1d(values).reshape(-1)
            with np.errstate(all="ignore"):
                flat[edits[at + 1] % len(flat)] = np.array(value).astype(values.dtype)
            table[...] = flat.reshape(values.shape)
