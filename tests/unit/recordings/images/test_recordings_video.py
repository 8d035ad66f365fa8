import numpy as np
import pytest
from recording_files import make_video, shared_data

from trackd_client.recordings.images import video as video_module
from trackd_client.recordings.images.source import images_of, known_fps, layout_of
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.recording import Clip, RecordingError


def brightness(image):
    return round((float(image.mean()) - 20) / 10)


def test_the_layout_has_the_frame_count_the_rate_and_the_shape(tmp_path):
    layout = layout_of(VideoFile(make_video(tmp_path / "a.mp4", gray=False)))
    assert (layout.stop, layout.fps, layout.frame_shape) == (12, 20, (48, 64, 3))


def test_a_colour_video_gives_rgb(tmp_path):
    with VideoFile(make_video(tmp_path / "a.mp4", gray=False)) as video:
        image = video.read(0)
    assert image.shape == (48, 64, 3)
    assert image[..., 0].mean() > 200  # all frames are red
    assert image[..., 2].mean() < 60


@pytest.mark.parametrize("clips", [[Clip(0, 12)], [Clip(3, 5), Clip(9, 11)], [Clip(8, 10), Clip(1, 3)]])
@pytest.mark.parametrize("skipped_by_decoding", [0, 32])
def test_every_frame_has_its_own_image(tmp_path, monkeypatch, clips, skipped_by_decoding):
    monkeypatch.setattr(video_module, "MAX_FRAMES_SKIPPED_BY_DECODING", skipped_by_decoding)
    path = make_video(tmp_path / "a.mp4")
    played = [(index, brightness(image)) for index, image in images_of(VideoFile(path), clips)]
    assert played == [(i, i) for clip in clips for i in range(clip.start, clip.stop)]


def test_after_an_inexact_seek_the_video_is_decoded_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(video_module, "MAX_FRAMES_SKIPPED_BY_DECODING", 0)

    class Inexact:
        """Seeks two frames too early. Not a subclass: freeing a subclass of OpenCV's type corrupts memory."""

        def __init__(self):
            self.capture = capture()

        def set(self, key, value):
            return self.capture.set(key, max(value - 2, 0))

        def __getattr__(self, name):
            return getattr(self.capture, name)

    capture = video_module.cv2.VideoCapture
    monkeypatch.setattr(video_module.cv2, "VideoCapture", Inexact)
    played = [brightness(image) for _, image in images_of(VideoFile(make_video(tmp_path / "a.mp4")), [Clip(7, 9)])]
    assert played == [7, 8]


def test_frames_after_the_end_have_no_image(tmp_path):
    images = dict(images_of(VideoFile(make_video(tmp_path / "a.mp4", 4)), [Clip(0, 6)]))
    assert [images[i] is None for i in range(6)] == [False] * 4 + [True] * 2


def test_a_file_that_is_not_a_video_is_an_error_that_names_it(tmp_path):
    (tmp_path / "notes.mp4").write_text("not a video")
    for name in ("notes.mp4", "absent.mp4"):
        with pytest.raises(RecordingError, match=name):
            layout_of(VideoFile(tmp_path / name))


def test_an_unknown_rate_is_thirty_with_a_warning(caplog):
    assert known_fps(None, None, "worms") == 30
    assert "worms" in caplog.text
    assert known_fps(7.5, None, "worms") == 7.5


@pytest.mark.shared
def test_a_gray_video_gives_single_channel_images():
    path = shared_data("dreem_two_flies", "two_flies.mp4")
    assert layout_of(VideoFile(path)).frame_shape == (1024, 1024)
    with VideoFile(path) as video:
        image = video.read(0)
    assert (image.shape, image.dtype) == ((1024, 1024), np.uint8)


@pytest.mark.shared
def test_a_seek_in_a_real_video_gives_the_same_frame_as_decoding():
    path = shared_data("sleap_centered_pair", "centered_pair_low_quality.mp4")
    straight = {i: image for i, image in images_of(VideoFile(path), [Clip(0, 150)]) if i in (10, 149)}
    jumped = dict(images_of(VideoFile(path), [Clip(149, 150), Clip(10, 11)]))
    assert all(np.array_equal(jumped[i], straight[i]) for i in (10, 149))
