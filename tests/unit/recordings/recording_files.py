"""Small recordings made on the spot, and the way to the shared real ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import sleap_io

REPOSITORY = Path(__file__).resolve().parents[3]
NODES = ["head", "tail"]


def shared_data(*parts: str) -> Path:
    """A real recording's path; skips the test where it is not there."""
    root = Path(os.environ.get("TRACKD_SHARED", REPOSITORY.parent / "shared"))
    path = root.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not there: set TRACKD_SHARED to the folder that holds data/")
    return path


def make_video(path: Path, n_frames: int = 12, *, gray: bool = True, fps: float = 20) -> Path:
    """A 64 × 48 video whose frame i is about 10·i + 20 bright."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for index in range(n_frames):
        image = np.full((48, 64, 3), 10 * index + 20, np.uint8)
        if not gray:
            image[:, :, 2] = 255  # red, in OpenCV's order
        writer.write(image)
    writer.release()
    return path


def make_slp(path: Path, frames: dict[int, list], *, video: str | None = "clip.mp4", tracks: list = ()) -> Path:
    """A labels file; `frames` holds instances made by `user` and `predicted`."""
    instances = [i for found in frames.values() for i in found]
    skeleton = instances[0].skeleton if instances else make_skeleton()
    videos = [sleap_io.Video(filename=video or "absent.mp4", open_backend=False)]
    labelled = [
        sleap_io.LabeledFrame(video=videos[0], frame_idx=index, instances=found) for index, found in frames.items()
    ]
    labels = sleap_io.Labels(labelled, videos=videos, skeletons=[skeleton], tracks=list(tracks))
    sleap_io.save_slp(labels, str(path), verbose=False)
    return path


def make_skeleton() -> sleap_io.Skeleton:
    return sleap_io.Skeleton(nodes=list(NODES), edges=[("head", "tail")], name="worm")


def user(skeleton, points, track=None, source=None):
    return sleap_io.Instance.from_numpy(np.array(points, float), skeleton, track=track, from_predicted=source)


def predicted(skeleton, points, track=None, score=0.5):
    points = np.array(points, float)
    weights = np.full(len(points), score)
    return sleap_io.PredictedInstance.from_numpy(points, skeleton, point_scores=weights, score=score, track=track)
