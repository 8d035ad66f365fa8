"""The memory that a replay needs, measured in a separate process."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from recording_files import make_skeleton, make_slp, user

REPLAY = """
import sys
from pathlib import Path
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings

keys = dict(pair.split("=") for pair in sys.argv[1:])
dataset = TestDataset(**{key: [value] for key, value in keys.items()})
(recording,) = open_recordings(dataset, DataloaderConfig(), Path.cwd())
n = n_images = 0
for frame in recording.frames():
    n += len(frame.detections)
    n_images += frame.image is not None
# Not getrusage: its peak includes the parent's memory before exec.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(n, n_images, int(peak.split()[1]) // 1024)
"""
N_FRAMES = 10_000


def replayed(folder, **keys):
    """The number of detections and images played, and the peak resident memory in MB."""
    words = [f"{key}={value}" for key, value in keys.items()]
    result = subprocess.run(
        [sys.executable, "-c", REPLAY, *words], capture_output=True, text=True, check=True, cwd=folder, timeout=170
    )
    return tuple(int(word) for word in result.stdout.split())


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 64))
    generator = np.random.default_rng(0)
    for _ in range(N_FRAMES):
        writer.write(generator.integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.slow
def test_ten_thousand_frames_of_a_video_with_poses_need_less_than_300_mb(video):
    worm = make_skeleton()
    labels = {i: [user(worm, [[i % 64, 1], [2, 2]]), user(worm, [[1, 1], [2, 9]])] for i in range(N_FRAMES)}
    make_slp(video.with_name("long.slp"), labels, video="long.mp4")
    n, n_images, megabytes = replayed(video.parent, slp_files="long.slp", video_files="long.mp4")
    assert (n, n_images) == (2 * N_FRAMES, N_FRAMES)
    assert megabytes < 300


@pytest.mark.slow
def test_ten_thousand_frames_of_a_video_with_boxes_need_less_than_200_mb(video):
    rows = "".join(f"{i + 1},{j},{i % 60 + 1},{9 * j},8,8,1\n" for i in range(N_FRAMES) for j in range(5))
    (video.parent / "long.txt").write_text(rows)
    n, n_images, megabytes = replayed(video.parent, det_files="long.txt", video_files="long.mp4")
    assert (n, n_images) == (5 * N_FRAMES, N_FRAMES)
    assert megabytes < 200


@pytest.mark.slow
def test_a_stack_larger_than_the_limit_is_read_page_by_page(tmp_path):
    page = np.zeros((1024, 1024), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(400):  # 800 MB of pixels
            writer.write(page, contiguous=False, compression="zlib")
    detections = "".join(f'<detection t="{i}" x="5" y="5"/>' for i in range(400))
    (tmp_path / "a.xml").write_text(
        f"<root><TrackContestISBI2012><particle>{detections}</particle></TrackContestISBI2012></root>"
    )
    n, n_images, megabytes = replayed(tmp_path, tracks="a.xml", videos="a.tif")
    assert (n, n_images) == (400, 400)
    assert megabytes < 300
