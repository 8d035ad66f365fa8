import numpy as np
import pytest
import sleap_io

from trackd.commands.demo.recording import make_recording
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.sleap import SleapRecording

SMALL = {"n_frames": 40, "n_animals": 3, "size": (320, 240)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The recording as `trackd demo` makes it."""
    demo = make_recording(tmp_path_factory.mktemp("demo"), seed=0)
    return demo, np.load(demo.truth)


def gaps(visible):
    """Lengths of the runs of False between runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], visible, [True]]).astype(int)))
    return np.diff(edges.reshape(-1, 2), axis=1).ravel()


def test_the_same_seed_gives_the_same_recording(tmp_path):
    one, two = (make_recording(tmp_path / name, seed=3, **SMALL) for name in ("one", "two"))
    other = make_recording(tmp_path / "other", seed=4, **SMALL)
    a, b, c = (np.load(demo.truth) for demo in (one, two, other))
    for name in a.files:
        np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(a["keypoints"], c["keypoints"])
    assert one.video.read_bytes() == two.video.read_bytes()


def test_the_files_open_as_a_recording_with_its_identities(tmp_path):
    demo = make_recording(tmp_path, seed=1, **SMALL)
    truth = np.load(demo.truth)
    recording = SleapRecording(demo.slp, TestDataset())
    frames = list(recording.frames())
    assert recording.source == demo.video
    assert (len(frames), recording.fps, recording.frame_shape) == (40, 30, (240, 320, 3))
    assert recording.skeleton.nodes == ("head", "thorax", "tail")
    for frame, keypoints, detected in zip(frames, truth["keypoints"], truth["detected"], strict=True):
        assert frame.detections.gt_ids.tolist() == np.flatnonzero(detected).tolist()
        assert np.abs(frame.detections.keypoints - keypoints[detected]).max() < 5


def test_an_instance_is_a_prediction_with_a_score(tmp_path):
    demo = make_recording(tmp_path, seed=1, **SMALL)
    labels = sleap_io.load_slp(str(demo.slp), open_videos=False)
    assert all(0.7 < i.score < 1 for frame in labels for i in frame.instances)
    assert [track.name for track in labels.tracks] == ["fish1", "fish2", "fish3"]


def test_animals_move_smoothly_and_stay_in_view(whole):
    thorax = whole[1]["keypoints"][:, :, 1]
    steps = np.linalg.norm(np.diff(thorax, axis=0), axis=-1)
    assert steps.max() < 8
    assert steps.mean() > 1.5
    assert (thorax > 0).all()
    assert (thorax < [640, 480]).all()


def test_animals_touch_and_separate_again(whole):
    thorax = whole[1]["keypoints"][:, :, 1]
    distance = np.linalg.norm(thorax[:, :, None] - thorax[:, None], axis=-1) + 1000 * np.eye(5)
    touching = distance.min(axis=(1, 2)) < 20
    assert np.diff(touching.astype(int)).clip(0).sum() >= 3


def test_the_first_animal_hides_for_about_a_second(whole):
    hidden = gaps(whole[1]["visible"][:, 0])
    assert 20 <= hidden.max() <= 60


def test_a_few_visible_instances_are_missed(whole):
    visible, detected = whole[1]["visible"], whole[1]["detected"]
    assert not (detected & ~visible).any()
    assert 0.01 < 1 - detected.sum() / visible.sum() < 0.06
