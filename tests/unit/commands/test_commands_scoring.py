"""Frames that were rejected count as missed in every score."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.commands.scoring import RecordingScoring
from trackd.evaluation.mot_truth import MotTruth
from trackd_client.detections import Detections
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.motchallenge import MotRecording
from trackd_client.recordings.recording import RecordedFrame


@pytest.mark.parametrize("with_truth", [False, True])
def test_the_instances_of_an_untracked_frame_are_missed(tmp_path, with_truth):
    path = tmp_path / "a.txt"
    path.write_text("1,4,1,1,10,10,1\n1,5,30,30,10,10,1\n")
    scoring = RecordingScoring(MotRecording(path, TestDataset()), MotTruth(path) if with_truth else None)
    boxes = np.array([[0, 0, 10, 10], [29, 29, 39, 39]], np.float32)
    scoring.add_untracked(RecordedFrame(0, 0, None, Detections(boxes=boxes, gt_ids=np.array([4, 5]))))
    (frame,) = scoring.sequence.frames
    assert frame.gt_ids.tolist() == [4, 5]
    assert frame.similarity.shape == (2, 0)
