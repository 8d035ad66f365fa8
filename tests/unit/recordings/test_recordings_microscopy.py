import numpy as np
import pytest
from recording_files import make_stack, make_trackmate, spot
from recording_files import write_trackmate_csv as write

from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.images.image_files import in_order
from trackd_client.recordings.images.tiff_stack import TiffStack
from trackd_client.recordings.microscopy import MicroscopyRecording
from trackd_client.recordings.recording import RecordingError

FRAMES = {0: [spot(1, 5, 6, 0, 'RADIUS="2"')], 1: [spot(2, 7, 8, 1, 'RADIUS="2"'), spot(3, 20, 20, 1)]}


SMALL = 'width="24" height="16" nframes="0"'  # as `make_stack`


def play(path, images=None, **keys):
    recording = MicroscopyRecording(path, TestDataset(**keys), images=images)
    return recording, list(recording.frames())


def test_a_box_has_the_size_of_the_radius_else_of_the_crop(tmp_path):
    path = make_trackmate(tmp_path / "a.xml", FRAMES, {0: [(1, 2)]})
    recording, frames = play(path, crop_size=[20, 10])
    detections = frames[1].detections
    assert detections.boxes.tolist() == [[5, 6, 9, 10], [10, 15, 30, 25]]
    assert detections.boxes.dtype == np.float32
    assert detections.keypoints.tolist() == [[[7, 8]], [[20, 20]]]
    assert detections.gt_ids.tolist() == [0, -1]
    assert recording.skeleton.nodes == ("centroid",)


def test_the_default_crop_size_gives_the_box_if_none_is_set(tmp_path):
    path = make_trackmate(tmp_path / "a.xml", {0: [spot(1, 5, 6, 0)]}, {})
    assert play(path)[1][0].detections.boxes.tolist() == [[-59, -58, 69, 70]]


def test_frames_without_an_image_and_images_without_spots_are_played(tmp_path):
    path = make_trackmate(tmp_path / "a.xml", {**FRAMES, 9: [spot(4, 1, 1, 9)]}, {}, image=SMALL)
    stack = TiffStack(make_stack(tmp_path / "a.tif", 6))
    recording, frames = play(path, stack)
    assert [frame.frame_index for frame in frames] == list(range(10))
    assert [frame.image is not None for frame in frames] == [True] * 6 + [False] * 4
    assert [len(frame.detections) for frame in frames] == [1, 2, *[0] * 7, 1]
    assert frames[4].detections.keypoints.shape == (0, 1, 2)
    assert (recording.frame_shape, recording.source) == ((16, 24), tmp_path / "a.tif")
    _, frames = play(make_trackmate(tmp_path / "b.xml", {0: [spot(1, 1, 1, 0)]}, {}, image=SMALL), stack)
    assert len(frames) == 6


def test_a_list_of_images_is_played_in_list_order(tmp_path):
    files = [make_stack(tmp_path / f"RECEPTOR t00{2 - i} z0.tif", i + 1) for i in range(3)]
    frames = play(make_trackmate(tmp_path / "a.xml", FRAMES, {}, image=SMALL), in_order(files[:1] * 2))[1]
    assert [frame.image.shape for frame in frames] == [(16, 24)] * 2


def test_outlines_become_masks_and_boxes(tmp_path):
    roi = 'ROI_N_POINTS="4">-2 -1 3 -1 3 2 -2 2'
    frames = {0: [spot(1, 30, 25, 0, 'RADIUS="1"'), spot(2, 10, 10, 0, roi)], 1: []}
    path = make_trackmate(tmp_path / "a.xml", frames, {}, image='width="40" height="30" nframes="2"')
    first, second = play(path)[1]
    assert first.detections.boxes.tolist() == [[29, 24, 31, 26], [8, 9, 13, 12]]
    assert first.detections.masks.shape == (30, 40)
    y, x = np.nonzero(first.detections.masks == 2)
    assert (x.min(), y.min(), x.max(), y.max()) == (8, 9, 13, 12)
    assert set(np.unique(first.detections.masks)) == {0, 2}
    assert not second.detections.masks.any()


def test_the_time_interval_of_the_file_is_the_frame_rate(tmp_path):
    image = 'width="40" height="30" nframes="2" timeinterval="0.25"'
    path = make_trackmate(tmp_path / "a.xml", FRAMES, {}, image=image, model='spatialunits="pixel" timeunits="sec"')
    assert play(path)[0].fps == 4
    assert play(path, fps=7)[0].fps == 7
    assert [frame.t_ns for frame in play(path)[1]] == [0, 250_000_000]


ROW = "1,ID1,0,2.0,3.0,0,0.5,1"


def place(path, images=None, **keys):
    detections = play(path, images, **keys)[1][0].detections
    return [*detections.keypoints[0, 0].tolist(), *detections.boxes[0].tolist()]


def test_physical_units_are_divided_by_the_pixel_size_given(tmp_path):
    path = write(tmp_path / "a.csv", ROW)
    assert place(path, pixel_size=0.5) == [4, 6, 3, 5, 5, 7]
    assert place(path, pixel_size=[0.5, 0.25]) == [4, 12, 3, 10, 5, 14]


def test_the_pixel_size_is_read_from_the_trackmate_file_beside_the_table(tmp_path):
    image = 'width="4" height="3" nframes="2" pixelwidth="0.5" pixelheight="0.25"'
    make_trackmate(tmp_path / "cells.xml", {}, {}, image=image)
    for name in ("cells.csv", "cells_all_spots.csv", "cells_spots.csv"):
        assert place(write(tmp_path / name, ROW))[:2] == [4, 12]


def test_the_pixel_size_is_read_from_the_stack(tmp_path):
    notes = {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "micron", "axes": "TYX"}}
    stack = make_stack(tmp_path / "stack.tif", 2, **notes)
    assert place(write(tmp_path / "a.csv", ROW), TiffStack(stack))[:2] == [4, 12]
    stack.rename(tmp_path / "b.tif")  # or from a stack beside the table
    assert place(write(tmp_path / "b.csv", ROW))[:2] == [4, 12]


def test_physical_units_without_a_pixel_size_are_an_error(tmp_path):
    with pytest.raises(
        RecordingError, match=r"a\.csv: coordinates are in 'micron'.* set dataset\.test_dataset\.pixel_size"
    ):
        play(write(tmp_path / "a.csv", ROW))


def test_coordinates_in_pixels_ignore_the_files_beside_them(tmp_path):
    make_trackmate(tmp_path / "a.xml", {}, {}, image='pixelwidth="0.5" pixelheight="0.5"')
    assert place(write(tmp_path / "a.csv", ROW, unit="(pixels)"))[:2] == [2, 3]


def test_a_table_without_units_is_read_as_pixels_with_a_warning(tmp_path, caplog):
    assert place(write(tmp_path / "a.csv", ROW, version=6))[:2] == [2, 3]
    assert "coordinates taken as pixels" in caplog.text


def test_a_trackmate_file_is_divided_by_its_own_pixel_size(tmp_path):
    path = make_trackmate(
        tmp_path / "a.xml", FRAMES, {}, model='spatialunits="µm" timeunits="frame"',
        image='width="40" height="30" nframes="2" pixelwidth="0.5" pixelheight="0.5"',
    )  # fmt: skip
    assert place(path) == [10, 12, 6, 8, 14, 16]


def test_a_recording_has_the_lineage_of_its_label_file(tmp_path):
    frames = {0: [spot(1, 5, 5, 0)], 1: [spot(2, 4, 6, 1), spot(3, 6, 6, 1)]}
    path = make_trackmate(tmp_path / "a.xml", frames, {0: [(1, 2), (1, 3)]})
    assert play(path)[0].lineage == {1: 0, 2: 0}
