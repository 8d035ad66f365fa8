"""Files for analysts, read by the library that owns each format: ids, names, capture times, scores and lineage."""

from __future__ import annotations

import json
import sys
import types
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import sleap_io
from output_records import info, record, written

from trackd.outputs.formats import track_table
from trackd_client.detections import Skeleton

START_NS = 1_790_000_000_123_456_789  # a capture time of a live camera
SKELETON = Skeleton(("nose", "tail"), ((0, 1),))
STREAM = info(skeleton=SKELETON, source="/lab/cells.mp4", frame_shape=(40, 60, 3))
# Track 1 divides into 2 and 3; frame 3 is missing, frame 4 is empty; track 0 has a name; one instance has no track.
IDS = {0: [0, 1], 1: [0, 1, -1], 2: [1, 0], 4: [], 5: [0, 2, 3], 6: [0, 3]}
PARENTS = {5: {2: 1, 3: 1}}


def t_ns(index):
    return START_NS + index * 33_366_701 + (index % 2) * 12_345  # a real camera's frames are not equally apart


def points(index, row):
    value = [[10 * row + index + 0.25, 5.5], [10 * row + index + 4.125, 9.75]]
    return value if index != 2 else [value[0], [np.nan, np.nan]]


def frame(index, *, posed=True):
    ids = IDS[index]
    n = len(ids)
    arrays = {"scores": np.array([0.5 + 0.01 * track for track in ids], np.float32)}
    if posed:
        arrays["keypoints"] = np.array([points(index, row) for row in range(n)]).reshape(n, 2, 2)
        arrays["keypoint_scores"] = np.full((n, 2), 0.125) * np.arange(1, 3)
    scores = np.array([0.75 if index else np.nan] * n, np.float32)
    return record(index, ids, t_ns=t_ns(index), track_scores=scores, parents=PARENTS.get(index, {}),
                  names={0: "mouse/a"} if 0 in ids else {}, **arrays)  # fmt: skip


FRAMES = [frame(index) for index in IDS]
BOXES = [frame(index, posed=False) for index in IDS]
NAMES = ["mouse/a", "track_1", "track_2", "track_3"]
TRACKED = [(index, track) for index, ids in IDS.items() for track in ids if track >= 0]


def place(index, track):
    return np.array(points(index, IDS[index].index(track)))


def box(index, track):
    return BOXES[list(IDS).index(index)].boxes[IDS[index].index(track)]


def score(track):
    return pytest.approx(0.5 + 0.01 * track, abs=1e-6)


def test_nwb_is_read_by_pynwb_with_each_track_at_its_capture_times(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    pytest.importorskip("ndx_pose")
    with pynwb.NWBHDF5IO(str(written("nwb", tmp_path, STREAM, *FRAMES)), "r", load_namespaces=True) as io:
        file = io.read()
        module = file.processing["behavior"]
        start_ns = round(file.session_start_time.timestamp() * 1e6) * 1000

        def times(series):
            return (start_ns + np.round(series.timestamps[:] * 1e9).astype(np.int64)).tolist()

        assert module["frames"].data[:].tolist() == list(IDS)
        assert times(module["frames"]) == [t_ns(index) for index in IDS]
        tracks = module["tracks"].to_dataframe()
        assert tracks.track_id.tolist() == [0, 1, 2, 3]
        assert tracks.track_name.tolist() == NAMES
        assert tracks.parent_id.tolist() == [-1, -1, 1, 1]
        assert (tracks.first_frame.tolist(), tracks.last_frame.tolist()) == ([0, 0, 5, 5], [6, 2, 5, 6])
        for track, name in enumerate(["mouse_a", *NAMES[1:]]):
            frames = [index for index, other in TRACKED if other == track]
            pose = module[name]
            assert pose.skeleton.nodes[:].tolist() == ["nose", "tail"]
            assert pose.skeleton.edges[:].tolist() == [[0, 1]]
            assert pose.original_videos[:].tolist() == ["/lab/cells.mp4"]
            for node, weight in (("nose", 0.125), ("tail", 0.25)):
                series = pose[node]
                assert times(series) == [t_ns(index) for index in frames]
                np.testing.assert_array_equal(series.confidence[:], np.full(len(frames), weight))
                expected = [place(index, track)[["nose", "tail"].index(node)] for index in frames]
                np.testing.assert_array_equal(series.data[:], expected)
            np.testing.assert_array_equal(module[f"{name}_box"].data[:], [box(index, track) for index in frames])
            assert module[f"{name}_scores"].data[:, 0].tolist() == [score(track)] * len(frames)
            np.testing.assert_array_equal(
                module[f"{name}_scores"].data[:, 1], [0.75 if index else np.nan for index in frames]
            )


def check_analysis(path):
    import h5py

    with h5py.File(path) as file:
        assert file["frame_index"][:].tolist() == list(IDS)
        assert file["t_ns"][:].tolist() == [t_ns(index) for index in IDS]
        assert file["track_ids"][:].tolist() == [0, 1, 2, 3]
        assert file["parent_ids"][:].tolist() == [-1, -1, 1, 1]
        return [name.decode() for name in file["track_names"][:]]


def test_the_analysis_file_is_read_by_sleap_io_with_the_tracks_in_the_order_of_their_ids(tmp_path):
    path = written("h5", tmp_path, STREAM, *FRAMES)
    labels = sleap_io.load_analysis_h5(str(path))
    found = {(lf.frame_idx, labels.tracks.index(i.track)): i for lf in labels for i in lf.instances}
    assert sorted(found) == sorted(TRACKED)
    assert labels.skeletons[0].node_names == ["nose", "tail"]
    assert labels.skeletons[0].edge_inds == [(0, 1)]
    for (index, track), instance in found.items():
        np.testing.assert_array_equal(instance.numpy(), place(index, track))
        assert instance.score == score(track)
        assert instance.tracking_score == (0.75 if index else 0.0)
        assert instance.points["score"].tolist() == [0.125, 0.25]
    assert check_analysis(path) == [track.name for track in labels.tracks]


def test_dlc_is_a_multi_animal_table_with_a_row_for_each_frame(tmp_path):
    path = written("dlc", tmp_path, STREAM, *FRAMES)
    assert path.name == "cellsDLC_trackd.csv"
    table = pd.read_csv(path, header=[0, 1, 2, 3], index_col=0)  # as DeepLabCut reads it
    assert table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert table.index.tolist() == list(range(7))
    assert table.columns.unique("individuals").tolist() == NAMES
    for track, name in enumerate(NAMES):
        animal = table["DLC_trackd"][name]
        for index in range(7):
            here = animal.loc[index].to_numpy().reshape(2, 3)
            if (index, track) not in TRACKED:
                assert np.isnan(here).all()
                continue
            np.testing.assert_array_equal(here[:, :2], place(index, track))
            assert here[:, 2].tolist() == [0.125, 0.25]


def test_a_jump_of_the_camera_counter_makes_no_empty_rows_in_dlc(tmp_path):
    path = written("dlc", tmp_path, info(), record(2_000_000, [0]), record(2_000_002, [0]))
    assert [line.split(",")[0] for line in path.read_text().splitlines()[4:]] == ["2000000", "2000001", "2000002"]


def test_movement_poses_are_a_valid_dataset_with_capture_times(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(written("movement", tmp_path, STREAM, *FRAMES), engine="h5netcdf") as dataset:
        dataset.load()
    assert dataset.attrs["ds_type"] == "poses"
    assert dataset.attrs["fps"] == 10.0
    assert dataset.position.dims == ("time", "space", "keypoints", "individuals")
    assert dataset.confidence.dims == ("time", "keypoints", "individuals")
    assert dataset.individuals.values.tolist() == NAMES
    assert dataset.keypoints.values.tolist() == ["nose", "tail"]
    assert dataset.frame_index.values.tolist() == list(IDS)
    assert dataset.t_ns.values.tolist() == [t_ns(index) for index in IDS]
    np.testing.assert_allclose(dataset.time, [(t_ns(index) - START_NS) / 1e9 for index in IDS], rtol=0, atol=1e-12)
    assert dataset.track_id.values.tolist() == [0, 1, 2, 3]
    assert dataset.parent_id.values.tolist() == [-1, -1, 1, 1]
    assert np.isfinite(dataset.score).sum() == len(TRACKED)
    for index, track in TRACKED:
        here = dataset.isel(time=list(IDS).index(index), individuals=track)
        np.testing.assert_array_equal(here.position.T, place(index, track))
        np.testing.assert_array_equal(here.confidence, [0.125, 0.25])
        assert float(here.score) == score(track)
        np.testing.assert_array_equal(here.track_score, 0.75 if index else np.nan)
    movement_validator("ValidPosesInputs").validate(dataset)


def test_movement_boxes_are_a_valid_dataset(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(written("movement", tmp_path, info(), *BOXES), engine="h5netcdf") as dataset:
        dataset.load()
    assert dataset.attrs["ds_type"] == "bboxes"
    for index, track in TRACKED:
        here = dataset.isel(time=list(IDS).index(index), individuals=track)
        x1, y1, x2, y2 = box(index, track).tolist()
        assert here.position.values.tolist() == [(x1 + x2) / 2, (y1 + y2) / 2]
        assert here["shape"].values.tolist() == [x2 - x1, y2 - y1]
        assert float(here.confidence) == score(track)
    movement_validator("ValidBboxesInputs").validate(dataset)


def movement_validator(name):
    """movement's own validator; where movement is not installed, one that checks its documented schema."""
    try:
        from movement.validators import datasets
    except ImportError:
        needed = {
            "ValidPosesInputs": ({"position", "confidence"}, {"time", "space", "keypoints", "individuals"}),
            "ValidBboxesInputs": ({"position", "shape", "confidence"}, {"time", "space", "individuals"}),
        }[name]

        def validate(dataset):
            assert needed[0] <= set(dataset.data_vars)
            assert needed[1] <= set(dataset.sizes)

        return types.SimpleNamespace(validate=validate)
    return getattr(datasets, name)


def test_coco_is_read_by_pycocotools_with_tracks_and_scores(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco").COCO(str(written("coco", tmp_path, STREAM, *FRAMES)))
    images = coco.loadImgs(coco.getImgIds())
    assert [(image["frame_index"], image["t_ns"]) for image in images] == [(i, t_ns(i)) for i in IDS]
    assert (images[0]["width"], images[0]["height"]) == (60, 40)
    (category,) = coco.loadCats(coco.getCatIds())
    assert (category["keypoints"], category["skeleton"]) == (["nose", "tail"], [[1, 2]])
    for image in images:
        index = image["frame_index"]
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert [annotation.get("track_id", -1) for annotation in found] == IDS[index]
        for row, annotation in enumerate(found):
            x1, y1, x2, y2 = FRAMES[list(IDS).index(index)].boxes[row].tolist()
            assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
            assert annotation["score"] == score(IDS[index][row])
            assert annotation.get("track_score") == (0.75 if index and annotation.get("track_id", -1) >= 0 else None)
            seen = np.array(annotation["keypoints"]).reshape(2, 3)
            visible = ~np.isnan(points(index, row)).any(axis=1)
            assert (seen[:, 2] == 2).tolist() == visible.tolist()
            np.testing.assert_array_equal(seen[visible, :2], np.array(points(index, row))[visible])
            assert annotation["keypoint_scores"] == [0.125, 0.25]
    parents = {track["id"]: track["parent_id"] for track in coco.dataset["tracks"]}
    assert parents == {0: None, 1: None, 2: 1, 3: 1}
    assert [track["name"] for track in coco.dataset["tracks"]] == NAMES


def test_coco_is_read_by_sleap_io_with_every_track(tmp_path):
    path = written("coco", tmp_path, STREAM, *FRAMES)
    for image in json.loads(path.read_text())["images"]:
        (tmp_path / image["file_name"]).write_bytes(b"")  # sleap-io leaves out frames whose image does not exist
    labels = sleap_io.load_coco(str(path))
    found = {(list(IDS)[lf.frame_idx], i.track.name) for lf in labels for i in lf.instances if i.track is not None}
    assert found == {(index, f"track_{track}") for index, track in TRACKED}


def test_geff_is_read_by_geff_with_edges_along_tracks_and_to_children(tmp_path):
    geff = pytest.importorskip("geff")
    graph, metadata = geff.read(written("geff", tmp_path, STREAM, *FRAMES), structure_validation=True)
    nodes = dict(graph.nodes(data=True))
    key = {node: (values["t"], values.get("track_id", -1)) for node, values in nodes.items()}
    assert sorted(key.values()) == sorted((index, track) for index, ids in IDS.items() for track in ids)
    within = {(key[a], key[b]) for a, b in graph.edges if key[a][1] == key[b][1]}
    between = {(key[a], key[b]) for a, b in graph.edges if key[a][1] != key[b][1]}
    steps = {track: [index for index, other in TRACKED if other == track] for track in range(4)}
    assert within == {((a, track), (b, track)) for track, at in steps.items() for a, b in pairwise(at)}
    assert between == {((2, 1), (5, 2)), ((2, 1), (5, 3))}
    for node, values in nodes.items():
        index, track = key[node]
        assert values["t_ns"] == t_ns(index)
        if track >= 0:
            assert [values["x"], values["y"]] == pytest.approx(np.nanmean(place(index, track), axis=0))
            assert values["score"] == score(track)
            assert values.get("track_score") == (0.75 if index else None)
            np.testing.assert_array_equal(values["box"], box(index, track))
    assert metadata.extra["trackd"]["names"] == dict(zip("0123", NAMES, strict=True))
    assert metadata.extra["trackd"]["parents"] == {"2": 1, "3": 1}
    assert metadata.track_node_props == {"tracklet": "track_id"}


@pytest.mark.parametrize("kind", ["h5", "nwb", "movement", "coco", "geff"])
def test_corrections_are_kept_with_the_frame_after_them(kind, tmp_path):
    made = {"number": 1, "action": "rename", "author": "Ünal", "t_ns": 5, "tracks": [0], "name": "mouse; a"}
    frames = [record(0, [0]), record(3, [0], corrections=(made,), names={0: "mouse; a"})]
    path = written(kind, tmp_path, info(), *frames)
    match kind:
        case "h5":
            import h5py

            with h5py.File(path) as file:
                found = json.loads(file["corrections"][()])
        case "nwb":
            pynwb = pytest.importorskip("pynwb")
            pytest.importorskip("ndx_pose")
            with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
                table = io.read().processing["behavior"]["corrections"].to_dataframe()
            found = [
                [frame, json.loads(text)] for frame, text in zip(table.frame_index, table.corrections, strict=True)
            ]
        case "movement":
            xarray = pytest.importorskip("xarray")
            with xarray.open_dataset(path, engine="h5netcdf") as dataset:
                found = json.loads(dataset.attrs["corrections"])
        case "coco":
            found = json.loads(path.read_text())["corrections"]
        case "geff":
            _, metadata = pytest.importorskip("geff").read(path)
            found = metadata.extra["trackd"]["corrections"]
    assert found == [[3, [made]]]


def test_jsonl_has_a_line_for_the_stream_and_one_for_each_frame(tmp_path):
    head, *lines = map(json.loads, written("jsonl", tmp_path, STREAM, *FRAMES).read_text().splitlines())
    assert head == {"trackd": 1, "stream": "cells", "source": "/lab/cells.mp4", "frame_shape": [40, 60, 3],
                    "fps": 10.0, "nodes": ["nose", "tail"], "edges": [[0, 1]]}  # fmt: skip
    for index, line in zip(IDS, lines, strict=True):
        assert (line["frame_index"], line["t_ns"], line["track_ids"]) == (index, t_ns(index), IDS[index])
        assert line.get("parents", {}) == {str(a): b for a, b in PARENTS.get(index, {}).items()}
        assert line["scores"] == [score(track) for track in IDS[index]]
        assert line["track_scores"] == [0.75 if index else None] * len(IDS[index])
        found = np.array(line["keypoints"], float).reshape(-1, 2, 2)
        np.testing.assert_array_equal(found, np.array([points(index, i) for i in range(len(found))]).reshape(-1, 2, 2))
    assert [line.get("names") for line in lines] == [{"0": "mouse/a"} if 0 in IDS[i] else None for i in IDS]
    assert lines[0]["scores"] == [0.5, 0.51]  # and not 0.5099999904632568


@pytest.mark.parametrize("kind", ["dlc", "h5", "movement", "nwb"])
def test_a_table_that_does_not_fit_into_memory_is_refused_and_its_part_remains(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(track_table, "MAX_PLACES", 8)
    with pytest.raises(ValueError, match="9 frames × 1 tracks × 1 nodes are more than 8"):
        written(kind, tmp_path, info(), *(record(index, [0]) for index in range(9)))
    assert len(list(tmp_path.glob("*.part"))) == 1


@pytest.mark.parametrize("kind", ["nwb", "dlc", "h5", "movement", "coco", "geff", "jsonl"])
def test_a_stream_without_any_instance_gives_a_file(kind, tmp_path):
    assert written(kind, tmp_path, info(), record(0, []), record(1, [])).exists()


def test_a_name_that_two_tracks_have_is_made_unique(tmp_path):
    path = written("dlc", tmp_path, info(), record(0, [0, 7], names={0: "mouse", 7: "mouse"}))
    assert path.read_text().splitlines()[1].split(",")[1::3] == ["mouse", "mouse (7)"]


@pytest.mark.parametrize(("kind", "other"), [("dlc", "track_0"), ("h5", "0"), ("coco", "track_0"), ("geff", "track_0")])
def test_the_last_name_of_a_track_counts_and_one_that_was_removed_does_not(kind, other, tmp_path):
    frames = [
        record(0, [0, 1], names={0: "mouse", 1: "rat"}),
        record(1, [0], names={}),
        record(2, [1], names={1: "vole"}),
    ]
    path = written(kind, tmp_path, info(), *frames)
    match kind:
        case "dlc":
            names = path.read_text().splitlines()[1].split(",")[1::3]
        case "h5":
            names = [track.name for track in sleap_io.load_analysis_h5(str(path)).tracks]
        case "coco":
            names = [track["name"] for track in json.loads(path.read_text())["tracks"]]
        case "geff":
            names = list(json.loads((path / ".zattrs").read_text())["geff"]["extra"]["trackd"]["names"].values())
    assert names == [other, "vole"]


def test_importing_the_writers_imports_none_of_the_large_libraries():
    import subprocess

    code = (
        "import sys\n"
        "from trackd.output_formats import WRITERS\n"
        "from trackd.outputs.writer import writer_class\n"
        "for kind in WRITERS: writer_class(kind)\n"
        "print([m for m in ('pynwb', 'xarray', 'geff', 'zarr', 'sleap_io', 'h5py', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
