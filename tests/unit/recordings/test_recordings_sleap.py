import numpy as np
import pytest
import sleap_io
from recording_files import make_skeleton, make_slp, make_video, predicted, shared_data, user

from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.sleap import SleapRecording

NAN = float("nan")


@pytest.fixture
def worm():
    return make_skeleton()


def play(path, video=None, **keys):
    recording = SleapRecording(path, TestDataset(**keys), video=video)
    return recording, {frame.frame_index: frame for frame in recording.frames()}


def test_every_frame_of_the_video_is_played_labelled_or_not(tmp_path, worm):
    make_video(tmp_path / "clip.mp4", 12)
    path = make_slp(tmp_path / "a.slp", {7: [user(worm, [[1, 2], [3, 4]])], 2: [user(worm, [[5, 6], [7, 8]])]})
    recording, frames = play(path)
    assert list(frames) == list(range(12))
    assert [i for i, frame in frames.items() if len(frame.detections)] == [2, 7]
    assert frames[0].detections.keypoints.shape == (0, 2, 2)
    assert all(frame.image is not None for frame in frames.values())
    assert len(recording) == 12


def test_capture_times_follow_the_frame_rate(tmp_path, worm):
    make_video(tmp_path / "clip.mp4", 3, fps=20)
    path = make_slp(tmp_path / "a.slp", {0: [user(worm, [[1, 2], [3, 4]])]})
    assert [frame.t_ns for frame in play(path)[1].values()] == [0, 50_000_000, 100_000_000]
    assert play(path, fps=10)[1][1].t_ns == 100_000_000


def test_coordinates_are_as_stored_and_hidden_nodes_are_nan(tmp_path, worm):
    points = [[1.23456789012345, 2], [NAN, NAN]]
    path = make_slp(tmp_path / "a.slp", {0: [user(worm, points)]})
    keypoints = play(path)[1][0].detections.keypoints
    assert keypoints.dtype == np.float64
    np.testing.assert_array_equal(keypoints, [points])


def test_an_instance_without_a_visible_node_is_left_out(tmp_path, worm):
    path = make_slp(tmp_path / "a.slp", {0: [user(worm, [[NAN, NAN]] * 2), user(worm, [[1, 1], [2, 2]])]})
    assert len(play(path)[1][0].detections) == 1


def test_identities_are_indices_of_the_files_tracks(tmp_path, worm):
    a, b = sleap_io.Track("left"), sleap_io.Track("left")  # equal names are allowed
    shape = [[1, 1], [2, 2]]
    path = make_slp(
        tmp_path / "a.slp",
        {0: [user(worm, shape, b), user(worm, shape), user(worm, shape, a)]},
        tracks=[a, b],
    )
    assert play(path)[1][0].detections.gt_ids.tolist() == [1, -1, 0]


def test_scores_are_those_of_predictions_and_one_for_a_users_instance(tmp_path, worm):
    shape = [[1, 1], [2, 2]]
    path = make_slp(
        tmp_path / "a.slp",
        {0: [user(worm, shape), predicted(worm, [[9, 9], [8, 8]], score=0.25)], 1: [user(worm, shape)]},
    )
    frames = play(path)[1]
    assert frames[0].detections.scores.tolist() == [1.0, 0.25]
    assert frames[0].detections.keypoint_scores.tolist() == [[1, 1], [0.25, 0.25]]
    assert frames[1].detections.keypoint_scores is None


def test_a_users_instance_replaces_the_prediction_that_it_corrects(tmp_path, worm):
    track = sleap_io.Track("one")
    linked = predicted(worm, [[10, 10], [11, 11]])
    instances = {
        0: [linked, user(worm, [[1, 1], [2, 2]], source=linked)],
        1: [predicted(worm, [[10, 10], [11, 11]], track), user(worm, [[3, 3], [4, 4]], track)],
        2: [predicted(worm, [[10, 10], [11, 11]], track), user(worm, [[3, 3], [4, 4]])],
    }
    frames = play(make_slp(tmp_path / "a.slp", instances, tracks=[track]))[1]
    assert frames[0].detections.keypoints[:, 0, 0].tolist() == [1]
    assert frames[1].detections.keypoints[:, 0, 0].tolist() == [3]
    assert len(frames[2].detections) == 2


def test_a_video_path_of_another_machine_is_found_by_its_base_name_beside_the_labels(tmp_path, worm):
    make_video(tmp_path / "clip.mp4", 3)
    for name, stored in (("a", "/Users/someone/Downloads/clip.mp4"), ("b", "C:\\data\\clip.mp4")):
        path = make_slp(tmp_path / f"{name}.slp", {0: [user(worm, [[1, 1], [2, 2]])]}, video=stored)
        assert play(path)[0].source == tmp_path / "clip.mp4"


def test_a_given_video_takes_precedence_over_the_stored_one(tmp_path, worm):
    make_video(tmp_path / "clip.mp4", 3)
    other = make_video(tmp_path / "other.mp4", 5)
    path = make_slp(tmp_path / "a.slp", {0: [user(worm, [[1, 1], [2, 2]])]})
    recording, frames = play(path, video=other)
    assert recording.source == other
    assert len(frames) == 5


def test_poses_are_played_without_images_if_the_video_is_missing(tmp_path, worm, caplog):
    path = make_slp(tmp_path / "a.slp", {4: [user(worm, [[1, 1], [2, 2]])]}, video="/elsewhere/missing.mp4")
    recording, frames = play(path)
    assert list(frames) == [0, 1, 2, 3, 4]
    assert all(frame.image is None for frame in frames.values())
    assert recording.frame_shape is None
    assert "missing.mp4" in caplog.text


def test_a_given_video_that_is_missing_is_an_error(tmp_path, worm):
    path = make_slp(tmp_path / "a.slp", {0: [user(worm, [[1, 1], [2, 2]])]})
    with pytest.raises(RecordingError, match=r"missing\.mp4"):
        SleapRecording(path, TestDataset(), video=tmp_path / "missing.mp4")


def test_a_file_that_is_not_a_sleap_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.slp").write_bytes(b"nothing of the kind")
    with pytest.raises(RecordingError, match=r"a\.slp: not a SLEAP labels file"):
        play(tmp_path / "a.slp")


def test_the_skeleton_has_its_nodes_and_edges(tmp_path, worm):
    skeleton = play(make_slp(tmp_path / "a.slp", {0: [user(worm, [[1, 1], [2, 2]])]}))[0].skeleton
    assert (skeleton.nodes, skeleton.edges) == (("head", "tail"), ((0, 1),))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "n_frames", "n_instances", "n_tracks", "shape", "fps"),
    [
        ("dreem_two_flies/two_flies.slp", 128, 256, 2, (1024, 1024), 25),
        ("dreem_two_flies/two_flies_noisy_detections.slp", 128, 259, 2, (1024, 1024), 25),
        ("dreem_three_flies/three_flies.slp", 128, 384, 3, (1024, 1024), 25),
        ("dreem_single_fly/single_fly.slp", 128, 128, 1, (1024, 1024), 25),
        ("dreem_ten_zfish/ten_zfish.slp", 32, 320, 10, (3712, 3712), 32),
        ("sleap_clip_pair/clip.slp", 1500, 3000, 2, (1024, 1024), 25),
        ("sleap_centered_pair/centered_pair_predictions.slp", 1100, 2274, 27, (384, 384), 15),
    ],
)
def test_a_real_file_has_the_counts_of_its_manifest(file, n_frames, n_instances, n_tracks, shape, fps):
    recording = SleapRecording(shared_data(file), TestDataset())
    assert (len(recording), recording.frame_shape, recording.fps) == (n_frames, shape, fps)
    labels = recording._labels
    assert sum(len(labels.at(i)) for i in range(n_frames)) == n_instances
    ids = np.concatenate([labels.at(i).gt_ids for i in range(n_frames)])
    assert len(set(ids.tolist()) - {-1}) == n_tracks


@pytest.mark.shared
def test_a_real_video_is_played_to_its_end():
    recording = SleapRecording(shared_data("dreem_two_flies", "two_flies_noisy_detections.slp"), TestDataset())
    images = [frame.image for frame in recording.frames()]
    assert len(images) == 128
    assert {image.shape for image in images} == {(1024, 1024)}
