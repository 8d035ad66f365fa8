"""Finished tracks of other programs: what they hold is read, whatever their layout."""

from __future__ import annotations

import json

import finished_files as files
import numpy as np
import pytest
import sleap_io
from recording_files import make_skeleton, make_slp, predicted, shared_data

from trackd_client.recordings.sleap_labels import read_labels
from trackd_client.recordings.written.track_names import given_names, ids_of


def slp_of_two(path):
    worm = make_skeleton()
    tracks = [sleap_io.Track(name="Anna"), sleap_io.Track(name="Bert")]
    return make_slp(
        path,
        {
            0: [predicted(worm, [[1, 2], [3, 4]], tracks[0]), predicted(worm, [[5, 6], [7, 8]], tracks[1], 0.75)],
            2: [predicted(worm, [[1.5, 2], [np.nan, np.nan]], tracks[1])],
        },
        tracks=tracks,
    )


def compare(found, labels):
    """The same points and identities in every frame of a SLEAP file."""
    place = {index: number for number, index in enumerate(found.frame_index.tolist())}
    for index in labels.frame_index.tolist():
        wanted, given = labels.at(index), found.at(place[index])
        order = np.argsort(wanted.gt_ids)
        np.testing.assert_array_equal(given.gt_ids, wanted.gt_ids[order])
        np.testing.assert_allclose(given.keypoints, wanted.keypoints[order])


@pytest.mark.parametrize("preset", ["matlab", "standard"])
def test_an_analysis_file_of_sleap_io_is_read_in_both_orders_of_its_axes(preset, tmp_path):
    slp = slp_of_two(tmp_path / "a.slp")
    sleap_io.save_analysis_h5(sleap_io.load_slp(str(slp), open_videos=False), str(tmp_path / "a.h5"), preset=preset)
    found = files.read(tmp_path / "a.h5")
    compare(found, read_labels(slp))
    assert found.names == {0: "Anna", 1: "Bert"}
    assert found.skeleton == read_labels(slp).skeleton
    assert found.at(0).scores.tolist() == [0.5, 0.75]
    assert found.t_ns is None
    assert [frame.t_ns for frame in files.played(tmp_path / "a.h5")] == [0, 33_333_333, 66_666_667]


def test_a_real_recording_is_the_same_as_slp_and_as_analysis_file(tmp_path):
    slp = next(shared_data("dreem_two_flies").glob("*.slp"))
    labels = sleap_io.load_slp(str(slp), open_videos=False)
    sleap_io.save_analysis_h5(labels, str(tmp_path / "flies.h5"))
    wanted, found = read_labels(slp), files.read(tmp_path / "flies.h5")
    named = {name: place for place, name in enumerate(wanted.tracks)}
    ids = {found_id: named[found.names.get(found_id, str(found_id))] for found_id in set(found.track_ids.tolist())}
    place = {index: number for number, index in enumerate(found.frame_index.tolist())}
    for index in wanted.frame_index[::10].tolist():
        tracked = wanted.at(index).gt_ids >= 0
        given = found.at(place[index])
        order = np.argsort(wanted.at(index).gt_ids[tracked])
        assert sorted(ids[track] for track in given.gt_ids.tolist()) == sorted(
            wanted.at(index).gt_ids[tracked].tolist()
        )
        rows = np.argsort([ids[track] for track in given.gt_ids.tolist()])
        np.testing.assert_allclose(given.keypoints[rows], wanted.at(index).keypoints[tracked][order])


def test_poses_that_sleap_io_writes_into_nwb_are_read(tmp_path):
    pytest.importorskip("ndx_pose")
    worm, track = make_skeleton(), sleap_io.Track(name="Anna")
    frames = {index: [predicted(worm, [[1, 2 + index], [3, 4]], track)] for index in range(3)}  # sparse ones it cannot
    slp = make_slp(tmp_path / "a.slp", frames, tracks=[track])
    labels = sleap_io.load_slp(str(slp), open_videos=False)
    sleap_io.save_nwb(labels, str(tmp_path / "a.nwb"), nwb_format="predictions")
    found = files.read(tmp_path / "a.nwb")
    assert found.names == {0: "Anna"}
    assert found.frame_index.tolist() == [0, 1, 2]
    compare(found, read_labels(slp))


def test_series_of_nwb_with_a_rate_have_their_frames_and_times(tmp_path):
    """A file of another laboratory: no table of tracks, a constant rate, three-dimensional places."""
    import h5py

    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["session_start_time"] = "2024-05-01T12:00:00+00:00"
        pose = file.create_group("processing/behavior/Mouse")
        pose.attrs["neurodata_type"] = "PoseEstimation"
        series = pose.create_group("nose")
        series.attrs["neurodata_type"] = "PoseEstimationSeries"
        series["data"] = np.array([[1.0, 2, 0], [np.nan, np.nan, 0], [3, 4, 0]])
        series["starting_time"] = 2.0
        series["starting_time"].attrs["rate"] = 50.0
    found = files.read(tmp_path / "a.nwb")
    assert found.frame_index.tolist() == [100, 101, 102]
    assert found.t_ns.tolist() == [1_714_564_802_000_000_000 + 20_000_000 * number for number in range(3)]
    assert [len(found.at(place)) for place in range(3)] == [1, 0, 1]
    assert found.skeleton.nodes == ("nose",)
    assert found.names == {0: "Mouse"}


@pytest.mark.parametrize(
    ("make", "name"), [(files.dlc_csv, "aDLC.csv"), (files.dlc_table, "a.h5"), (files.dlc_fixed, "b.h5")]
)
def test_the_tables_of_deeplabcut_hold_the_same_in_each_layout(make, name, tmp_path):
    found = files.read(make(tmp_path / name))
    assert found.skeleton.nodes == files.PARTS
    assert found.names == dict(enumerate(files.ANIMALS))
    assert found.track_ids.tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_array_equal(found.at(0).keypoints[1], files.ROWS[0, [6, 7, 9, 10]].reshape(2, 2))
    np.testing.assert_array_equal(found.keypoint_scores[2], files.ROWS[1, [8, 11]])
    assert [frame.frame_index for frame in files.played(tmp_path / name)] == [0, 1, 2]


def test_labelled_images_of_one_animal_have_the_frames_of_their_names(tmp_path):
    path = tmp_path / "CollectedData_Ada.csv"
    path.write_text(
        "scorer,,,Ada,Ada\nbodyparts,,,nose,nose\ncoords,,,x,y\n"
        "labeled-data,m1,img0007.png,1.5,2\nlabeled-data,m1,img0012.png,,\n"
    )
    found = files.read(path)
    assert found.frame_index.tolist() == [7, 12]
    assert (found.track_ids.tolist(), found.names) == ([0], {})
    assert found.keypoints.tolist() == [[[1.5, 2.0]]]


def test_the_names_of_columns_are_read_in_every_protocol_of_pickle_and_no_object_is_made(tmp_path):
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = files.dlc_table(tmp_path / "a.h5", names=pickle.dumps([(1, files.COLUMNS)], protocol) + b"#")
        assert len(files.read(path)) == 3
    made = tmp_path / "made"
    evil = b"cos\nsystem\n(S'touch " + str(made).encode() + b"'\ntR."
    with pytest.raises(ValueError, match="the names of its columns cannot be read: holds more than lists of texts"):
        files.read(files.dlc_table(tmp_path / "a.h5", names=evil))
    assert not made.exists()


def test_plain_coco_detections_are_read_with_frames_by_the_names_of_images(tmp_path):
    path = tmp_path / "annotations.json"
    images = [{"id": 7, "file_name": "cam/img_12.jpg", "width": 64, "height": 48},
              {"id": "b", "file_name": "cam/img_3.jpg", "width": 64, "height": 48}]  # fmt: skip
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "attributes": {"track_id": 5}},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": [[10, 10, 14, 10, 12, 16]], "score": 0.5},
        {"id": 3, "image_id": "b", "category_id": 3, "keypoints": [1, 2, 2, 0, 0, 0], "attributes": {"object_id": "4"}},
    ]
    categories = [{"id": 1, "name": "cell"}, {"id": 3, "name": "fly", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    found = files.read(path)
    assert found.frame_index.tolist() == [3, 12]
    assert found.track_ids.tolist() == [4, 5, -1]
    assert found.boxes.tolist() == [[1, 2, 1, 2], [1, 2, 4, 6], [10, 10, 14, 16]]
    assert np.isnan(found.keypoints).all(axis=2).tolist() == [[False, True], [True, True], [True, True]]
    assert (found.frame_shape, found.skeleton.edges) == ((48, 64), ((0, 1),))
    assert found.t_ns is None


def test_a_graph_without_tracklets_has_the_tracks_of_its_edges(tmp_path):
    write_arrays = pytest.importorskip("geff.core_io._base_write").write_arrays
    from geff_spec import Axis, GeffMetadata

    time = np.array([0, 1, 3, 3, 1], np.int64)  # 10 leads over 11 to the children 12 and 13; 14 has no edge
    metadata = GeffMetadata(
        directed=True,
        axes=[Axis(name=name, type=kind) for name, kind in (("frame", "time"), ("y", "space"), ("x", "space"))],
        node_props_metadata={},
        edge_props_metadata={},
    )
    values = {"frame": time, "y": np.arange(5.0), "x": 10 + np.arange(5.0)}
    write_arrays(
        tmp_path / "a.geff", np.arange(10, 15, dtype=np.uint64),
        {name: {"values": each, "missing": None} for name, each in values.items()},
        np.array([[10, 11], [11, 12], [11, 13]], np.uint64), {}, metadata,
    )  # fmt: skip
    found = files.read(tmp_path / "a.geff")
    assert found.frame_index.tolist() == [0, 1, 3]
    assert found.track_ids.tolist() == [0, 0, -1, 1, 2]
    assert found.lineage == {1: 0, 2: 0}
    assert found.at(0).keypoints.tolist() == [[[10.0, 0.0]]]
    assert [len(frame.detections) for frame in files.played(tmp_path / "a.geff")] == [1, 2, 2]


@pytest.mark.parametrize(("unit", "frames"), [("seconds", [0, 25, 50]), ("frames", [0, 1, 2])])
def test_a_dataset_of_movement_is_read_in_any_order_of_its_axes(unit, frames, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    place = np.arange(12.0).reshape(3, 2, 2)  # time, space, individuals
    place[1, :, 0] = np.nan
    dataset = xarray.Dataset(
        {"position": (("individuals", "time", "space"), place.transpose(2, 0, 1)),
         "shape": (("time", "space", "individuals"), np.full((3, 2, 2), 4.0)),
         "confidence": (("time", "individuals"), np.full((3, 2), 0.5))},
        {"time": np.arange(3.0), "space": ["x", "y"], "individuals": ["id_0", "id_1"]},
        {"ds_type": "bboxes", "time_unit": unit, **({"fps": 25.0} if unit == "seconds" else {})},
    )  # fmt: skip
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = files.read(tmp_path / "a.nc")
    assert found.frame_index.tolist() == frames
    assert (found.t_ns is None) == (unit == "frames")
    assert found.track_ids.tolist() == [0, 1, 1, 0, 1]
    assert found.at(0).boxes.tolist() == [[-2, 0, 2, 4], [-1, 1, 3, 5]]
    assert found.names == {0: "id_0", 1: "id_1"}


def test_tracks_with_nothing_but_names_have_these_as_ids_if_all_are_numbers():
    assert ids_of(["7", "track_3", "track9"]) == ([7, 3, 9], {})
    assert ids_of(["7", "07"]) == ([0, 1], {0: "7", 1: "07"})
    assert ids_of(["Anna", "7"]) == ([0, 1], {0: "Anna", 1: "7"})


def test_a_name_that_was_made_unique_is_the_given_one_again():
    assert given_names([3, 5, 7, 9], ["mouse", "track_5", "mouse (7)", "rat (9)"]) == {
        3: "mouse",
        7: "mouse",
        9: "rat (9)",
    }
