from itertools import pairwise

import cv2
import numpy as np
import pytest

from trackd.outputs.records import OutputRecord
from trackd.outputs.render import RenderedVideo, TrackDrawing, colour_of
from trackd_client.detections import Skeleton

GRAY = np.full((100, 120), 90, np.uint8)


def record(frame_index, ids, boxes, keypoints=None):
    n = len(ids)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return OutputRecord(frame_index, 0, np.array(ids, np.int32), np.ones(n, np.float32), boxes, keypoints)


def has(canvas, colour):
    return bool((canvas == colour).all(axis=-1).any())


def test_an_id_has_one_colour_and_neighbours_differ():
    colours = [colour_of(i) for i in range(12)]
    assert len(set(colours)) == 12
    assert all(np.abs(np.subtract(a, b)).max() > 60 for a, b in pairwise(colours))
    assert colour_of(3) == colours[3]


@pytest.mark.parametrize("image", [GRAY, GRAY.astype(np.uint16) * 256, np.dstack([GRAY] * 3)])
def test_drawing_leaves_the_image_unchanged(image):
    before = image.copy()
    canvas = TrackDrawing().draw(image, record(0, [2], [[20, 30, 60, 70]]))
    assert (canvas.shape, canvas.dtype) == ((100, 120, 3), np.uint8)
    assert canvas[5, 5].tolist() == [90, 90, 90]
    assert has(canvas, colour_of(2))
    np.testing.assert_array_equal(image, before)


def test_colours_of_the_image_are_kept():
    red = np.zeros((100, 120, 3), np.uint8)
    red[..., 0] = 200  # RGB
    assert TrackDrawing().draw(red, record(0, [], []))[0, 0].tolist() == [0, 0, 200]  # BGR


def test_a_pose_is_drawn_by_its_edges_and_hidden_nodes_are_left_out():
    pose = np.array([[[20, 20], [80, 20], [np.nan, np.nan]]])
    canvas = TrackDrawing(Skeleton(("a", "b", "c"), ((0, 1), (1, 2)))).draw(
        GRAY, record(0, [1], [[10, 10, 90, 90]], pose)
    )
    assert canvas[20, 50].tolist() == list(colour_of(1))
    assert canvas[50:, :].tolist() == np.full((50, 120, 3), 90).tolist()


def test_a_label_covers_the_same_part_of_a_large_picture_as_of_a_small_one():
    parts = []
    for times in (1, 4):
        picture = np.full((480 * times, 640 * times), 90, np.uint8)
        box = np.array([[100, 200, 300, 400]]) * times
        canvas = TrackDrawing().draw(picture, record(0, [7], box))
        above = canvas[: 195 * times]  # the label lies above the box
        parts.append((above != 90).any(axis=-1).sum() / picture.size)
    assert parts[1] == pytest.approx(parts[0], rel=0.3)


def test_a_trail_fades_with_age_and_ends():
    drawing = TrackDrawing(trail_frames=10)
    for i in range(5):
        drawing.draw(GRAY, record(i, [0], [[10 * i, 40, 10 * i + 20, 60]]))
    strengths = []
    for now in (5, 9, 30):
        canvas = drawing.draw(GRAY, record(now, [], []))
        strengths.append(int(np.abs(canvas.astype(int) - 90).sum()))
    assert strengths[0] > strengths[1] > strengths[2] == 0


def test_the_trail_of_an_ended_track_is_removed():
    drawing = TrackDrawing(trail_frames=10)
    for i in range(100):
        drawing.draw(GRAY, record(i, [i], [[10, 40, 30, 60]]))
    assert len(drawing._trails) <= 11


def test_rows_that_are_not_finite_are_left_out():
    canvas = TrackDrawing().draw(GRAY, record(0, [-1], [[np.nan] * 4]))
    np.testing.assert_array_equal(canvas, np.dstack([GRAY] * 3))


def test_the_video_holds_every_frame_and_appears_at_close(tmp_path):
    video = RenderedVideo(tmp_path / "out.mp4", fps=15)
    for i in range(7):
        video.write(GRAY, record(i, [0], [[i, 10, i + 20, 30]]))
    assert not (tmp_path / "out.mp4").exists()
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (7, 15)
