"""Crops of a real video equal the input of DREEM's encoder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import oracle
import pytest
import torch

from trackd.models.encoder.crops import crop_boxes, crop_shape, cut_crops

sleap_io = pytest.importorskip("sleap_io", reason="benchmarks/gpu.py runs on machines without it")

FOLDER = oracle.shared_root() / "data" / "dreem_two_flies"
CROP_SIZE, PADDING = (64, 64), 5

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings under {FOLDER}; set TRACKD_SHARED"),
]


def test_boxes_and_crops_of_a_sleap_recording_are_bit_for_bit_dreems():
    recording = oracle.read_recording("two_flies")
    labels = sleap_io.load_slp(str(FOLDER / "two_flies.slp"), open_videos=False)
    poses = {frame.frame_idx: [instance.numpy() for instance in frame.instances] for frame in labels}
    shape = crop_shape(CROP_SIZE, PADDING)
    for position, frame in enumerate(_frames(FOLDER / "two_flies.mp4", recording.frame_id)):
        uids = recording.uids(position)
        centres = np.stack([np.nanmean(pose, axis=0) for pose in poses[int(recording.frame_id[position])]])
        boxes = crop_boxes(centres[:, None], CROP_SIZE, PADDING)
        np.testing.assert_array_equal(boxes, recording.boxes_px[uids])
        crops = cut_crops(torch.from_numpy(frame), boxes, shape, channels=3, unit_range=True)
        assert torch.equal(crops, recording.crops(uids))


def _frames(path: Path, wanted: np.ndarray) -> list[np.ndarray]:
    """The grey frames at the given indices, (H, W) uint8 each."""
    video = cv2.VideoCapture(str(path))
    frames = {}
    for index in range(int(wanted.max()) + 1):
        ok, frame = video.read()
        assert ok
        frames[index] = frame[..., 0].copy()
    video.release()
    return [frames[int(index)] for index in wanted]
