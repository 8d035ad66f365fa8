"""`trackd render`: a finished recording as a video that browsers play."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from trackd.commands.render import render
from trackd.outputs.h264 import H264Video
from trackd.outputs.render import colour_of
from trackd_client.configuration import ConfigError


def tracks_file(path: Path, n_frames: int = 12, size: tuple[int, int] | None = (121, 90)) -> Path:
    head = {"trackd": 1, "stream": "cam", "source": None, "frame_shape": size and [size[1], size[0]], "fps": 12.5,
            "nodes": None, "edges": None}  # fmt: skip
    frames = [
        {"frame_index": i, "t_ns": 80_000_000 * i, "track_ids": [0, 3], "boxes": [[20, 30, 50, 60], [60, 30, 90, 60]],
         "names": {"3": "mouse"}}
        for i in range(n_frames)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in (head, *frames)))
    return path


def described(path: Path) -> dict:
    """What ffmpeg says about a video."""
    return imageio_ffmpeg.read_frames(str(path)).__next__()


def top_boxes(path: Path) -> list[bytes]:
    """The boxes at the top of an .mp4, in their order."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return found


def test_the_video_is_h264_of_every_frame_and_its_index_is_in_front(tmp_path):
    assert render(tracks_file(tmp_path / "cam.jsonl"), tmp_path / "cam.mp4") == 12
    meta = described(tmp_path / "cam.mp4")
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == 12.5
    assert meta["size"] == (122, 90)  # an odd side gets a column
    boxes = top_boxes(tmp_path / "cam.mp4")
    assert boxes.index(b"moov") < boxes.index(b"mdat")
    video = cv2.VideoCapture(str(tmp_path / "cam.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.jsonl", "cam.mp4"]


def test_an_id_has_its_own_colour_on_the_images_of_the_video(tmp_path):
    gray = H264Video(tmp_path / "gray.mp4", 12.5, (120, 90))
    for _ in range(12):
        gray.write(np.full((90, 120, 3), 90, np.uint8))
    gray.close()
    render(tracks_file(tmp_path / "cam.jsonl", size=None), tmp_path / "cam.mp4", video=tmp_path / "gray.mp4")
    image = cv2.VideoCapture(str(tmp_path / "cam.mp4")).read()[1].astype(int)
    for track_id, x in ((0, 20), (3, 60)):
        edge = image[35:55, x - 1 : x + 2].reshape(-1, 3)
        # Colours are stored at half the resolution; the hue remains.
        assert np.abs(edge - colour_of(track_id)).sum(axis=1).min() < 120, track_id
    assert np.abs(image[75:, 5:15] - 90).max() < 12


def test_a_file_without_a_frame_size_is_drawn_on_a_picture_that_shows_all_tracks(tmp_path):
    render(tracks_file(tmp_path / "cam.jsonl", size=None), tmp_path / "cam.mp4")
    assert described(tmp_path / "cam.mp4")["size"] == (110, 80)


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("cam.jsonl", "cam.avi", "cam.avi: its name must end in .mp4"),
        ("cam.jsonl", "none/cam.mp4", "none is not a folder"),
        ("none.slp", "cam.mp4", "no such file"),
        ("empty.jsonl", "cam.mp4", "empty.jsonl has no frame"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_leaves_no_file(source, target, text, tmp_path):
    tracks_file(tmp_path / "cam.jsonl")
    tracks_file(tmp_path / "empty.jsonl", 0)
    with pytest.raises(ConfigError, match=text):
        render(tmp_path / source, tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.jsonl", "empty.jsonl"]


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path):
    script = (
        "import resource, sys; from pathlib import Path; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "from trackd.commands.render import render\n"
        f"render(Path({str(tmp_path / 'cam.jsonl')!r}), Path({str(tmp_path / 'cam.mp4')!r}))"
    )
    tracks_file(tmp_path / "cam.jsonl", 60)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "OSError" in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["cam.jsonl"]
