"""The parts of the camera program that need no daemon: sources, frame numbers, options, rates, the recorded video."""

from __future__ import annotations

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from trackd_client.apps.camera.command import camera_command
from trackd_client.apps.camera.frame_numbers import MOST_LOST, FrameNumbers
from trackd_client.apps.camera.grabber import MAX_SPEED, Grabber, Playing
from trackd_client.apps.camera.options import CameraOptions, Images, checked_config, images_for, stream_config
from trackd_client.apps.camera.progress import Progress, Rate, Settlements
from trackd_client.apps.camera.run import parsed_options
from trackd_client.apps.camera.source import (
    SourceError,
    SourceKind,
    channels,
    open_capture,
    parse_source,
    spread_images,
)
from trackd_client.apps.camera.video import OpenCv, RecordedVideo, ffmpeg_executable, free_path
from trackd_client.configuration import ConfigError
from trackd_client.detectors.detector import DetectorError
from trackd_client.errors import TrackdError
from trackd_client.exit_codes import exit_code
from trackd_client.protocol import Status, Tracks

N_FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video whose frame i has the gray level 20 i."""
    path = tmp_path_factory.mktemp("source") / "my video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 100, (64, 48))
    for i in range(N_FRAMES):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path


def level(image: np.ndarray) -> int:
    return round(float(image.mean()) / 20)


def grabbed(grabber: Grabber, n: int | None = None):
    grabber.start()
    frames = []
    while (n is None or len(frames) < n) and (frame := grabber.next(10)) is not None:
        frames.append(frame)
    grabber.stop()
    return frames


@pytest.mark.parametrize(
    ("text", "kind", "stream"),
    [
        ("0", SourceKind.DEVICE, "camera0"),
        ("rtsp://user:secret@10.0.0.7/live", SourceKind.ADDRESS, "camera"),
        ("videotestsrc ! videoconvert ! appsink", SourceKind.PIPELINE, "camera"),
    ],
)
def test_a_word_names_a_source(text, kind, stream):
    source = parse_source(text)
    assert (source.kind, source.stream, source.is_live) == (kind, stream, True)
    assert "secret" not in source.shown


def test_a_file_is_no_live_source_and_names_its_stream(video):
    source = parse_source(str(video))
    assert (source.kind, source.is_live, source.stream) == (SourceKind.FILE, False, "my-video")
    assert parse_source(f"file://{video}").shown == str(video)


@pytest.mark.parametrize("text", ["no/such.mp4", "", "/"])
def test_a_word_that_names_no_source_is_one_line_and_wrong_input(text):
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert "\n" not in str(caught.value)
    assert exit_code(caught.value) == 2


def test_a_file_that_is_no_video_is_one_line(tmp_path):
    (tmp_path / "a.mp4").write_text("text")
    with pytest.raises(SourceError, match=r"a\.mp4: not a video that OpenCV can open"):
        Grabber(parse_source(str(tmp_path / "a.mp4")))


def test_a_camera_that_is_absent_is_one_line():
    with pytest.raises(SourceError, match="99: no such camera"):
        open_capture(parse_source("99"))


def test_frames_are_numbered_by_their_times():
    numbers = FrameNumbers()
    times = [*(i / 30 for i in range(30)), 33 / 30, 34 / 30, 37 / 30]
    assert [numbers.next(t) for t in times][-4:] == [29, 33, 34, 37]


def test_an_outage_is_a_bounded_gap_and_jitter_is_none():
    numbers = FrameNumbers()
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 100)
    assert [numbers.next(i / 30 + jitter[i]) for i in range(100)] == list(range(100))
    assert numbers.next(100 / 30 + 3600) == 100 + MOST_LOST


def test_a_camera_that_becomes_slower_has_no_gaps_for_long():
    numbers = FrameNumbers()
    for i in range(100):
        numbers.next(i / 30)
    indices = [numbers.next(100 / 30 + i / 15) for i in range(100)]
    assert np.diff(indices)[-40:].tolist() == [1] * 40


def test_all_frames_of_a_file_are_read_in_order_if_none_may_be_lost(video):
    frames = grabbed(Grabber(parse_source(str(video)), Playing(speed=MAX_SPEED)))
    assert [frame.index for frame in frames] == list(range(N_FRAMES))
    assert [level(frame.image) for frame in frames] == list(range(N_FRAMES))
    times = [frame.t_ns for frame in frames]
    assert times == sorted(set(times))


def test_a_looping_file_goes_on_counting(video):
    frames = grabbed(Grabber(parse_source(str(video)), Playing(MAX_SPEED, loop=True, gray=True)), 30)
    assert [frame.index for frame in frames] == list(range(30))
    assert [level(frame.image) for frame in frames] == [i % N_FRAMES for i in range(30)]
    assert frames[0].image.shape == (48, 64)


def test_a_slow_reader_gets_the_newest_frame_and_its_true_number(video):
    grabber = Grabber(parse_source(str(video)), Playing(speed=2.0))
    grabber.start()
    first = grabber.next(10)
    assert first is not None
    with grabber._changed:
        assert grabber._changed.wait_for(lambda: grabber._ended, 30)
    last = grabber.next(10)
    assert (last.index, level(last.image)) == (N_FRAMES - 1, N_FRAMES - 1)
    assert grabber.grabbed == N_FRAMES
    assert grabber.next(1) is None
    assert grabber.ended


def test_a_grabber_that_was_not_started_can_be_stopped(video):
    grabber = Grabber(parse_source(str(video)))
    assert (grabber.shape, grabber.fps) == ((48, 64, 3), 100)
    grabber.stop()


def test_images_of_a_file_are_spread_over_its_length(video):
    images = spread_images(parse_source(str(video)), 4, gray=True)
    assert [level(image) for image in images] == [0, 3, 6, 9]


def test_images_become_rgb_of_8_bits():
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[..., 0] = 200
    assert channels(bgr, gray=False)[0, 0].tolist() == [0, 0, 200]
    assert channels(np.full((4, 6), 0x1234, np.uint16), gray=False)[0, 0] == 0x12


def test_images_go_through_shared_memory_to_a_daemon_on_this_host():
    assert images_for(Images.AUTO, "tcp://127.0.0.1:5570") is Images.SHARED
    assert images_for(Images.AUTO, "ipc:///run/trackd/ingest") is Images.SHARED
    assert images_for(Images.AUTO, "tcp://10.0.0.7:5570") is Images.JPEG
    assert images_for(Images.NONE, "tcp://127.0.0.1:5570") is Images.NONE


def test_the_stream_gets_the_number_of_animals_and_the_outputs(tmp_path):
    options = CameraOptions(config={"tracker": {"max_gap_s": 2}}, record=tmp_path)
    assert stream_config(options, 3) == {
        "tracker": {"max_gap_s": 2, "max_tracks": 3},
        "stream": {"outputs": ["slp", "csv"]},
    }
    assert stream_config(CameraOptions(), None) == {}
    assert checked_config({"dataset": {"test_dataset": {"crop_size": 64}}}) == {"dataset": {"crop_size": 64}}
    with pytest.raises(TrackdError, match="--set daemon: a stream has the keys of"):
        checked_config({"daemon": {"http": None}})


def command(**changed):
    words = {
        "detector": "background", "detector_options": [], "animals": None, "stream": None, "overrides": [],
        "record": None, "outputs": "slp, mot", "speed": "1.0", "loop": False, "lossless": False, "gray": False,
        "images": "auto", "no_images": False, "jpeg_quality": None, "takeover": False,
    }  # fmt: skip
    return camera_command("0", **{**words, **changed})


def test_a_command_line_becomes_a_camera():
    made = command(speed="max", jpeg_quality=70, loop=True)
    assert (made.playing.speed, made.playing.loop) == (MAX_SPEED, True)
    assert (made.options.images, made.options.jpeg_quality) == (Images.JPEG, 70)
    assert made.options.outputs == ("slp", "mot")
    assert command(no_images=True).options.images is Images.NONE
    for changed in ({"speed": "0"}, {"speed": "fast"}, {"images": "png"}):
        with pytest.raises(ConfigError):
            command(**changed)


def test_options_of_a_detector_are_parsed_as_yaml():
    assert parsed_options(["hue=[340,20]", "animals=3", "method=mog2"]) == {
        "hue": [340, 20],
        "animals": 3,
        "method": "mog2",
    }
    for word in ("threshold", "=3", "a.b=3"):
        with pytest.raises(DetectorError, match="--detector-option takes K=V"):
            parsed_options([word])


def test_rates_and_latencies_are_measured():
    now = 0.0
    rate = Rate(lambda: now)
    for i in range(100):
        now = i / 10
        fps = rate.per_second(3 * i)
    assert fps == pytest.approx(30)
    settlements = Settlements(lambda: 10_000_000)
    assert settlements.percentiles() is None
    for t_ns in (8_000_000, 6_000_000, 9_000_000):
        settlements.add(Tracks("s", 0, 0, 0, t_ns, Status.TRACKED, track_ids=np.array([4, -1, 2], np.int32)))
    settlements.add(Tracks("s", 0, 1, 1, 0, Status.DROPPED))
    assert settlements.percentiles() == pytest.approx((2.0, 3.96))
    assert settlements.ids == (2, 4)


def test_a_state_is_one_line():
    state = Progress(2.0, 60, 59, 58, 1, 0, 30.0, 29.0, 4, (0, 1, 2, 3), 3.14, 9.9, 1)
    assert state.line == (
        "60 grabbed (30.0 fps) · 59 detected · 58 sent (29.0 fps) · 1 lost · reconnected 1 times · 4 detections · "
        "ids 0, 1, 2, 3 · capture to ids p50 3.1 ms, p99 9.9 ms"
    )
    assert state.summary == "58 frames in 2.0 s, 29.0 fps, 1 lost; capture to ids p50 3.1 ms, p99 9.9 ms"


def levels_of(path) -> list[int]:
    capture = cv2.VideoCapture(str(path))
    levels = []
    while True:
        ok, image = capture.read()
        if not ok:
            return levels
        levels.append(level(image))


def gray_level(i: int) -> np.ndarray:
    return np.full((47, 63), 20 * i, np.uint8)


@pytest.mark.skipif(ffmpeg_executable() is None, reason="imageio-ffmpeg is not installed")
def test_image_k_of_a_video_is_frame_k_and_a_lost_one_repeats_the_one_before(tmp_path):
    recorded = RecordedVideo(tmp_path / "new", "cam", (47, 63), 10)
    for i in (0, 1, 4, 5):
        recorded.write(i, gray_level(i))
    recorded.close()
    assert recorded.path == tmp_path / "new" / "cam.mp4"
    assert levels_of(recorded.path) == [0, 1, 1, 1, 4, 5]
    assert cv2.VideoCapture(str(recorded.path)).get(cv2.CAP_PROP_FRAME_COUNT) == recorded.n_frames == 6
    assert free_path(tmp_path / "new", "cam", ".mp4").name == "cam-2.mp4"


@pytest.mark.skipif(ffmpeg_executable() is None, reason="imageio-ffmpeg is not installed")
def test_a_video_without_images_is_no_file(tmp_path):
    recorded = RecordedVideo(tmp_path, "cam", (48, 64), 10)
    recorded.close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys, numpy as np
from pathlib import Path
from trackd_client.apps.camera.video import RecordedVideo
video = RecordedVideo(Path(sys.argv[1]), "cam", (48, 64), 10)
for i in range(40):
    video.write(i, np.full((48, 64), 5 * i, np.uint8))
while not video._queue.empty():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(ffmpeg_executable() is None, reason="imageio-ffmpeg is not installed")
def test_the_video_of_a_program_that_was_killed_can_be_played(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60).returncode == -9
    for _ in range(600):  # ffmpeg notices the end of its input by itself
        n = len(levels_of(tmp_path / "cam.mp4")) if (tmp_path / "cam.mp4").exists() else 0
        if n >= 38:
            break
        time.sleep(0.05)
    assert n >= 38


def test_without_ffmpeg_a_video_is_written_by_opencv(tmp_path):
    writer = OpenCv(tmp_path / "cam.mkv", (48, 64), 10)
    for i in range(5):
        writer.write(np.full((48, 64), 20 * i, np.uint8))
    writer.close()
    assert levels_of(tmp_path / "cam.mkv") == [0, 1, 2, 3, 4]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackdError, match=r"--record .*/file: ") as caught:
        RecordedVideo(tmp_path / "file", "cam", (48, 64), 10)
    assert "\n" not in str(caught.value)
