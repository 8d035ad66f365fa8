"""Detections from the results of other libraries, by their documented interfaces; SLEAP's by its own library."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace as Object

import numpy as np
import pytest

from trackd_client import Detections

BOXES = [[1, 2, 3, 4], [5, 6, 7, 8]]


def tensor(values) -> object:
    torch = pytest.importorskip("torch")
    return torch.tensor(values, dtype=torch.float32)


def test_boxes_and_masks_of_supervision():
    masks = np.zeros((2, 6, 8), bool)
    masks[0, :3], masks[1, 2:] = True, True
    found = Detections.from_supervision(
        Object(xyxy=np.array(BOXES, float), confidence=np.array([0.5, 0.25]), class_id=np.array([3, 4]), mask=masks)
    )
    assert found.boxes.tolist() == BOXES
    assert (found.scores.tolist(), found.classes.tolist()) == ([0.5, 0.25], [3, 4])
    assert found.masks[:, 0].tolist() == [1, 1, 2, 2, 2, 2]
    assert (found.boxes.dtype, found.classes.dtype, found.masks.dtype) == (np.float32, np.int32, np.uint16)


def test_supervision_without_anything_optional_or_without_detections():
    empty = Object(xyxy=np.empty((0, 4)), confidence=None, class_id=None, mask=None)
    found = Detections.from_supervision(empty)
    assert (len(found), found.boxes.shape, found.scores, found.masks) == (0, (0, 4), None, None)


def test_keypoints_of_supervision():
    given = Object(xy=np.array([[[1, 2], [0, 0]]]), confidence=np.array([[0.5, 0.0]]), class_id=None)
    found = Detections.from_supervision(given)
    np.testing.assert_array_equal(found.keypoints, np.array([[[1, 2], [np.nan, np.nan]]], np.float32))
    assert found.keypoint_scores.tolist() == [[0.5, 0.0]]


def test_boxes_keypoints_and_masks_of_ultralytics_are_tensors():
    boxes = Object(xyxy=tensor(BOXES), conf=tensor([0.5, 0.25]), cls=tensor([0, 2]))
    keypoints = Object(xy=tensor([[[1, 2], [0, 0]], [[3, 4], [5, 6]]]), conf=None)
    masks = Object(data=tensor(np.ones((2, 4, 5))))
    found = Detections.from_ultralytics(Object(boxes=boxes, keypoints=keypoints, masks=masks, orig_shape=(4, 5)))
    assert found.boxes.tolist() == BOXES
    assert found.classes.tolist() == [0, 2]
    assert np.isnan(found.keypoints[0, 1]).all()
    assert found.masks.tolist() == [[2] * 5] * 4
    scaled = Object(boxes=boxes, keypoints=None, masks=masks, orig_shape=(8, 10))
    assert Detections.from_ultralytics(scaled).masks is None


def test_what_is_no_result_is_named():
    with pytest.raises(ValueError, match="Results of ultralytics with boxes"):
        Detections.from_ultralytics(Object(boxes=None))
    with pytest.raises(ValueError, match="Detections or KeyPoints of supervision"):
        Detections.from_supervision(Object())
    with pytest.raises(ValueError, match=r"\(k, 3\) or \(n, k, 3\); got \(4, 2\)"):
        Detections.from_dlc(np.zeros((4, 2)))


def test_the_instances_of_a_frame_of_sleap():
    sio = pytest.importorskip("sleap_io")
    skeleton = sio.Skeleton(["nose", "tail"])
    predicted = sio.PredictedInstance.from_numpy(
        np.array([[1.0, 2.0], [np.nan, np.nan]]), skeleton=skeleton, point_scores=np.array([0.75, 0.0]), score=0.5
    )
    nothing = sio.PredictedInstance.from_numpy(
        np.full((2, 2), np.nan), skeleton=skeleton, point_scores=np.zeros(2), score=0.1
    )
    video = sio.Video(filename="a.mp4", open_backend=False)
    frame = sio.LabeledFrame(video=video, frame_idx=0, instances=[nothing, predicted])
    found = Detections.from_sleap(frame)
    np.testing.assert_array_equal(found.keypoints, np.array([[[1, 2], [np.nan, np.nan]]], np.float32))
    assert (found.scores.tolist(), found.keypoint_scores.tolist()) == ([0.5], [[0.75, 0.0]])
    by_hand = sio.Instance.from_numpy(np.array([[1.0, 2.0], [3.0, 4.0]]), skeleton=skeleton)
    found = Detections.from_sleap([by_hand])
    assert (found.scores, found.keypoint_scores, len(found)) == (None, None, 1)
    assert len(Detections.from_sleap([nothing])) == 0


def test_a_pose_of_one_animal_and_of_several_of_deeplabcut_live():
    pose = np.array([[1, 2, 0.9], [3, 4, 0.1]])
    found = Detections.from_dlc(pose, confidence=0.5)
    np.testing.assert_array_equal(found.keypoints, np.array([[[1, 2], [np.nan, np.nan]]], np.float32))
    assert found.scores == pytest.approx([0.5])
    several = Detections.from_dlc(np.stack([pose, np.full((2, 3), np.nan)]))
    assert several.keypoints.shape == (1, 2, 2)


def test_a_shell_gets_the_names_of_commands():
    environment = {"_TRACKD_CLIENT_COMPLETE": "complete_bash", "COMP_WORDS": "trackd-client tr", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['trackd-client']; from trackd_client.apps.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.split() == ["trigger"]
