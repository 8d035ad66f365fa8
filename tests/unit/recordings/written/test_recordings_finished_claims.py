"""Damaged and hostile files of finished tracks are refused in one line, before anything of a claimed size is made."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import finished_files as files
import h5py
import numpy as np
import pytest

from trackd_client.configuration import ConfigError
from trackd_client.recordings.hdf5_claims import check_heaps
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.sleap_labels import read_labels
from trackd_client.recordings.written.zarr_arrays import read_arrays

SMALL = RecordingLimits(recording_frames=1000, image_pixels=10_000, instances=10)


def refused(path, text, limits=DEFAULT_LIMITS, most_mb=64):
    """Reading ends with one line that holds the text, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises((RecordingError, ConfigError)) as caught:
            files.read(path, limits)
        assert tracemalloc.get_traced_memory()[1] < most_mb << 20
    finally:
        tracemalloc.stop()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def sparse(path, name, shape, dtype="f8", chunks=None):
    """Replace a table by one that claims a shape and holds nothing."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, shape, dtype, chunks=chunks or tuple(min(side, 64) for side in shape))
    return path


def test_an_analysis_file_may_not_claim_more_than_it_holds(tmp_path):
    path = sparse(files.analysis(tmp_path / "a.h5"), "tracks", (2, 2, 2, 10_000_000))
    refused(path, "tracks: claims 640000000 bytes in shape [2, 2, 2, 10000000], and the file holds 0 bytes of it")


def test_equal_values_that_compress_well_may_not_fill_the_memory(tmp_path):
    path = files.analysis(tmp_path / "a.h5", tracks=None)
    with h5py.File(path, "a") as file:
        file.create_dataset(
            "tracks", (2, 2, 2, 2_000_000), "f8", compression="gzip", fillvalue=1.0, chunks=(2, 2, 2, 100_000)
        )
        for start in range(0, 2_000_000, 100_000):
            file["tracks"][..., start : start + 100_000] = 1.0
    refused(path, "its instances take more than 18 MiB, and the file has")


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ({"node_names": [b"head"]}, "its shape does not fit 2 tracks, 1 nodes"),
        ({"tracks": np.zeros((2, 2, 2))}, "must have 4 axes"),
        ({"tracks": np.full((2, 2, 2, 4), b"x")}, "tracks: must have numbers"),
        ({"track_names": [1, 2]}, "track_names: must hold texts"),
        ({"point_scores": np.zeros((2, 2, 5))}, "point_scores: must have numbers for"),
        ({"edge_inds": [[0, 9]]}, "edge_inds: must be pairs of the numbers of nodes"),
        ({"frame_index": [1, 2], "t_ns": [1, 2]}, "frame_index: must list every frame that has a track"),
        ({"frame_index": [0, 0.5]}, "frame_index: must hold whole numbers"),
        ({"frame_index": [0, 1], "t_ns": [-1, 2]}, "capture times must be from 0"),
        ({"track_ids": [1, 2**40]}, "a track id must be from -1 to 2³¹ - 1"),
        ({"track_ids": [1]}, "track_ids: must have 2 rows; has 1"),
        ({"corrections": b"{"}, "corrections: not JSON"),
        ({"corrections": b"[[1, 2]]"}, "corrections: must be a list of [frame_index, [correction]]"),
    ],
)
def test_a_wrong_table_of_an_analysis_file_is_an_error_that_names_it(tables, text, tmp_path):
    path = files.analysis(tmp_path / "a.h5", **tables)
    if "track_ids" in tables and len(tables["track_ids"]) == 2:
        with h5py.File(path, "a") as file:
            file["tracks"][1, :, :, 0] = 6
    refused(path, text)


def test_limits_apply_to_frames_and_instances(tmp_path):
    refused(
        files.analysis(tmp_path / "a.h5", n_frames=1001), "claims 1001 frames; limits.recording_frames is 1000", SMALL
    )
    refused(files.dlc_csv(tmp_path / "a.csv", (0, 1, 5000)), "claims 5001 frames", SMALL)
    crowd = [{"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2]}] * 11
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a7.png"}], "annotations": crowd}))
    refused(path, "frame 7 has more than 10 instances", SMALL)


def test_a_file_of_many_nodes_and_many_frames_without_them_may_not_fill_the_memory(tmp_path):
    nodes = [f"n{number}" for number in range(4000)]
    images = [{"id": number, "frame_index": number} for number in range(500)]
    coco = {"images": images, "annotations": [{"image_id": number % 500} for number in range(2000)],
            "categories": [{"id": 1, "keypoints": nodes}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(coco))
    refused(tmp_path / "a.json", "its instances take more than 183 MiB")
    first = {"frame_index": 0, "t_ns": 0, "track_ids": [1], "keypoints": [[[1, 1]] * 4000]}
    frames = [{"frame_index": number, "t_ns": number, "track_ids": list(range(100))} for number in range(1, 20)]
    lines = [{"trackd": 1, "nodes": nodes}, first, *frames]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    refused(tmp_path / "a.jsonl", "line 13: 8800000 values of keypoints are missing so far", most_mb=160)


@pytest.mark.parametrize("name", ["a.nc", "a.slp"])
def test_a_heap_of_texts_that_has_no_end_is_refused_before_hdf5_walks_it(name, tmp_path):
    """HDF5 would never return from reading this attribute, and hold the interpreter lock."""
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        file.attrs["ds_type"] = "poses"
    data = bytearray(path.read_bytes())
    check_heaps(path)
    first = data.index(b"GCOL") + 16
    data[first : first + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=f"its heap of texts is damaged at byte {first}"):
        read_labels(path) if name == "a.slp" else files.read(path)


def test_a_link_to_another_file_is_refused(tmp_path):
    with h5py.File(files.analysis(tmp_path / "a.h5"), "a") as file:
        del file["tracks"]
        file["tracks"] = h5py.ExternalLink("/etc/passwd", "/tracks")
    refused_by_format(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["processing"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(tmp_path / "a.nwb", "processing is a link to another file")


def refused_by_format(path):
    with pytest.raises(ConfigError, match=r"must be .* looks like none of them"):
        dataset_of(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"annotations": [{"image_id": 2, "bbox": [1, 1, 1, 1]}]},
            "annotations[0]: its image_id must be that of an image",
        ),
        ({"annotations": [{"image_id": 1, "bbox": [1, 1, 1]}]}, "annotations[0].bbox must hold 4 numbers"),
        ({"annotations": [{"image_id": 1, "bbox": [1, "a", 1, 1]}]}, "bbox must be a number; got 'a'"),
        ({"annotations": [{"image_id": 1, "track_id": 1.5}]}, "track_id must be a whole number; got 1.5"),
        ({"annotations": [{"image_id": 1, "track_id": 10**18}]}, "a track id must be from -1 to 2³¹ - 1"),
        ({"annotations": [{"image_id": 1, "track_id": 3}] * 2}, "frame 0 has track 3 twice"),
        ({"annotations": 3}, "annotations must be a list of objects"),
        ({"images": [{"id": 1, "frame_index": 4}, {"id": 2, "frame_index": 4}]}, "frame 4 is there twice"),
        ({"images": [{"id": [], "frame_index": 4}]}, "images[0].id must be a number or a text"),
        ({"categories": [{"id": 1, "keypoints": ["a"], "skeleton": [[1, 2]]}]}, "skeleton must be pairs"),
    ],
)
def test_a_wrong_entry_of_coco_is_an_error_that_names_it(change, text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], **change}))
    refused(path, text)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": 1}', "3"])
def test_a_file_that_is_not_coco_is_refused(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    refused(path, "a.json: ")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("scorer,A,B\nbodyparts,a,a\ncoords,x,y\n0,1,2\n", "holds the predictions of 2 scorers"),
        ("scorer,A,A\nbodyparts,a,a\ncoords,x,z\n0,1,2\n", "coords must be x, y, likelihood; got 'z'"),
        ("scorer,A,A\nbodyparts,a,a\ncoords,x,y\nname,1,2\n", "row 4: its frame must be a number"),
        ("scorer,A,A\nbodyparts,a,a\ncoords,x,y\n0,1,b\n", "row 4: must hold numbers or empty cells; got 'b'"),
        ("scorer,A,A\nbodyparts,a,a\ncoords,x,y\n0,1\n", "row 4: must have 3 cells"),
        ("scorer,A,A\nparts,a,a\ncoords,x,y\n", "its rows must begin with scorer"),
    ],
)
def test_a_wrong_row_of_deeplabcut_is_an_error_that_names_it(row, text, tmp_path):
    (tmp_path / "a.csv").write_text(row)
    refused(tmp_path / "a.csv", text)


def zarr_array(folder, **changes):
    """An array of a Zarr folder, as its description claims it."""
    about = {"zarr_format": 2, "shape": [3], "chunks": [3], "dtype": "<i8", "compressor": None, "filters": None,
             "fill_value": 0, "order": "C", **changes}  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ".zarray").write_text(json.dumps(about))
    (folder / "0").write_bytes(np.arange(3).tobytes())
    return folder.parent


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": [10**12], "chunks": [10**6]}, "its arrays claim 8000000000000 bytes, and the folder holds 24"),
        ({"chunks": [10**9]}, "claims chunks of [1000000000] for shape [3]"),
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "must hold numbers; holds object"),
        ({"filters": [{"id": "pickle"}]}, "its codec must be one of"),
        ({"shape": [-3]}, "shape and chunks must be whole numbers"),
        ({"shape": 3}, "not an array of numbers"),
    ],
)
def test_a_zarr_array_may_not_claim_more_than_it_holds_nor_unpickle(changes, text, tmp_path):
    pytest.importorskip("zarr")
    group = zarr_array(tmp_path / "a.geff" / "ids", **changes)
    with pytest.raises(RecordingError) as caught:
        read_arrays(group, ["ids"])
    assert text in str(caught.value)


def test_an_array_of_zarr_that_is_as_it_claims_is_read(tmp_path):
    pytest.importorskip("zarr")
    assert read_arrays(zarr_array(tmp_path / "a.geff" / "ids"), ["ids"])["ids"].tolist() == [0, 1, 2]


def test_a_file_of_no_known_format_is_refused_by_its_ending(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = [1]
    refused_by_format(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    refused_by_format(tmp_path / "b.h5")
    refused_nwb = tmp_path / "c.nwb"
    refused_nwb.write_bytes(b"no HDF5")
    refused(refused_nwb, "not an NWB file with poses of ndx-pose")


@pytest.mark.parametrize("name", ["h5py", "zarr"])
def test_a_missing_package_is_one_line_with_the_extra_that_has_it(name, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    if name == "zarr":
        with pytest.raises(RecordingError, match=r"needs zarr, .* pip install 'trackd\[geff\]'"):
            read_arrays(zarr_array(tmp_path / "a.geff" / "ids"), ["ids"])
        return
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"needs h5py: pip install 'trackd-client\[recordings\]'"):
        dataset_of(tmp_path / "a.h5")
