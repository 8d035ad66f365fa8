import pickle

from recording_files import make_skeleton, make_slp, make_video, user

from trackd_client.configuration import validate
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig
from trackd_client.recordings.discovery import open_recordings


def opened(base, loader=None, **keys):
    worm = make_skeleton()
    if not (base / "a.slp").exists():
        for name in ("a", "b"):
            make_video(base / f"{name}.mp4", 20)
            make_slp(base / f"{name}.slp", {i: [user(worm, [[i, 1], [2, 2]])] for i in range(20)}, video="missing.mp4")
    dataset = validate(DatasetConfig, {"test_dataset": {"dir": {"path": "."}, "clip_length": 6, **keys}}).test_dataset
    return open_recordings(dataset, validate(DataloaderConfig, {"test_dataloader": loader or {"shuffle": True}}), base)


def test_every_clip_is_a_separate_recording_with_true_frame_indices(tmp_path):
    found = opened(tmp_path, seed=3)
    assert sorted(recording.name for recording in found) == [f"{n}-clip000{i}" for n in "ab" for i in range(4)]
    played = {recording.name: list(recording.frames()) for recording in found}
    assert [frame.frame_index for frame in played["b-clip0002"]] == list(range(12, 18))
    assert [frame.frame_index for frame in played["a-clip0003"]] == [18, 19]
    for frames in played.values():
        for frame in frames:
            assert frame.detections.keypoints[0, 0, 0] == frame.frame_index
            assert round((float(frame.image.mean()) - 20) / 10) == frame.frame_index
            assert frame.t_ns == frame.frame_index * 50_000_000


def test_the_seed_determines_the_order(tmp_path):
    first, again, other = (opened(tmp_path, seed=seed) for seed in (3, 3, 4))
    names = [[recording.name for recording in found] for found in (first, again, other)]
    assert names[0] == names[1]
    assert names[0] != names[2]
    assert names[0] != sorted(names[0])


def test_a_sample_of_the_clips_is_shuffled(tmp_path):
    found = opened(tmp_path, seed=3, n_chunks=2)
    assert sorted(recording.name for recording in found) == [f"{n}-clip000{i}" for n in "ab" for i in range(2)]
    assert all(len(recording) == sum(1 for _ in recording.frames()) for recording in found)


def test_without_shuffling_recordings_are_whole(tmp_path):
    assert [recording.name for recording in opened(tmp_path, {"shuffle": False})] == ["a", "b"]


def test_a_clip_can_be_pickled(tmp_path):
    clip = opened(tmp_path, seed=3)[0]
    copy = pickle.loads(pickle.dumps(clip))
    assert (copy.name, copy.clips) == (clip.name, clip.clips)
