import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from output_records import info, record, written

from trackd.outputs.formats.label_image import paint_labels
from trackd.outputs.formats.tracklets import Tracklets


def table(folder):
    return [tuple(map(int, line.split())) for line in (folder / "res_track.txt").read_text().splitlines()]


def masks(folder):
    return {int(path.stem[4:]): tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))}


def test_a_label_is_the_track_id_plus_one_in_images_and_table(tmp_path):
    folder = written("ctc", tmp_path, info(), record(0, [0, 4]), record(1, [4, -1]))
    assert folder == tmp_path / "cells_RES"
    assert table(folder) == [(1, 0, 0, 0), (5, 0, 1, 0)]
    images = masks(folder)
    assert [sorted(np.unique(images[i]).tolist()) for i in (0, 1)] == [[0, 1, 5], [0, 5]]
    assert images[0].dtype == np.uint16
    assert images[0].shape == (40, 60)
    assert sorted(path.name for path in folder.iterdir()) == ["mask000.tif", "mask001.tif", "res_track.txt"]


def test_the_masks_of_the_stream_are_relabelled_and_not_redrawn(tmp_path):
    image = np.zeros((40, 60), np.uint16)
    image[3:7, 2:5], image[20:30, 20:40] = 1, 2
    folder = written("ctc", tmp_path, info(frame_shape=None), record(0, [6, -1], masks=image))
    assert np.array_equal(masks(folder)[0], np.where(image == 1, 7, 0))


def test_without_masks_an_ellipse_fills_each_box(tmp_path):
    image = masks(written("ctc", tmp_path, info(), record(0, [0], [[10, 10, 30, 20]])))[0]
    rows, columns = np.nonzero(image)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 29, 10, 19)
    assert image.astype(bool).sum() == pytest.approx(np.pi * 10 * 5, rel=0.15)
    assert image[10, 10] == 0


def test_a_track_after_a_gap_is_a_new_row_whose_parent_is_the_first(tmp_path):
    frames = [record(i, ids) for i, ids in enumerate([[0, 1], [0], [0, 1], [0, 1]])]
    folder = written("ctc", tmp_path, info(), *frames)
    assert table(folder) == [(1, 0, 3, 0), (2, 0, 0, 0), (3, 2, 3, 2)]
    assert [sorted(np.unique(image).tolist()) for image in masks(folder).values()] == [
        [0, 1, 2], [0, 1], [0, 1, 3], [0, 1, 3]]  # fmt: skip


def test_children_have_their_parent_in_the_table(tmp_path):
    frames = [record(0, [0]), record(1, [1, 2], parents={1: 0, 2: 0}), record(2, [1, 2])]
    assert table(written("ctc", tmp_path, info(), *frames)) == [(1, 0, 0, 0), (2, 1, 2, 1), (3, 1, 2, 1)]


def test_empty_frames_and_frames_that_were_not_tracked_have_an_image(tmp_path):
    folder = written("ctc", tmp_path, info(), record(150, [0]), record(151, []), record(154, [0]))
    images = masks(folder)
    assert sorted(images) == [150, 151, 152, 153, 154]
    assert not any(images[i].any() for i in (151, 152, 153))
    assert table(folder) == [(1, 150, 150, 0), (2, 154, 154, 1)]


def test_beyond_a_thousand_frames_all_names_have_four_digits(tmp_path):
    folder = written("ctc", tmp_path, info(), record(998, [0]), record(1001, [0]))
    assert sorted(path.name for path in folder.glob("*.tif")) == [
        f"mask{i:04d}.tif" for i in (998, 999, 1000, 1001)]  # fmt: skip


def test_without_a_frame_size_the_error_says_what_to_send(tmp_path):
    with pytest.raises(ValueError, match="send masks, or open with frame_shape"):
        written("ctc", tmp_path, info(frame_shape=None), record(0, [0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-30, 90, width=32)] * 4), min_size=1, max_size=12), st.booleans())
def test_every_tracked_instance_has_a_pixel(corners, masked):
    boxes = np.array(corners, np.float32)
    boxes[:, 2:] += boxes[:, :2]
    rows = np.arange(len(boxes))
    image = paint_labels((40, 60), np.zeros((40, 60), np.uint16) if masked else None, boxes, rows, rows + 1)
    assert set(np.unique(image)) - {0} == set(range(1, len(boxes) + 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=15))
def test_tracklets_have_no_gap_and_cover_every_tracked_instance(frames):
    tracklets = Tracklets.of([(i, np.array(sorted(ids), int)) for i, ids in enumerate(frames)], {})
    assert sum(row.end - row.begin + 1 for row in tracklets.rows) == sum(map(len, frames))
    assert len({row.label for row in tracklets.rows}) == len(tracklets.rows)
    ends = {row.label: row.end for row in tracklets.rows}
    assert all(ends[row.parent] < row.begin for row in tracklets.rows if row.parent)


def test_a_parent_that_is_still_present_does_not_count():
    frames = [(0, np.array([0])), (1, np.array([1, 0])), (2, np.array([2]))]
    rows = Tracklets.of(frames, {1: 0, 2: 0}).rows
    assert [row.parent for row in rows] == [0, 0, 1]
