import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sleap_io

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer
from trackd_client.detections import Skeleton
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.sleap import SleapRecording

WORM = Skeleton(("head", "tail"), ((0, 1),))
SHARED = Path(os.environ.get("TRACKD_SHARED", Path(__file__).resolve().parents[4] / "shared"))


def info(skeleton=WORM, source="videos/clip.mp4"):
    return StreamInfo("worms", skeleton, source, (480, 640), 12.5)


def record(frame_index, ids, keypoints=None, boxes=None, **arrays):
    n = len(ids)
    return OutputRecord(
        frame_index=frame_index,
        t_ns=0,
        track_ids=np.array(ids, np.int32),
        track_scores=arrays.pop("track_scores", np.full(n, 0.75, np.float32)),
        boxes=np.zeros((n, 4), np.float32) if boxes is None else np.array(boxes, np.float32),
        keypoints=None if keypoints is None else np.array(keypoints, float),
        **arrays,
    )


def written(out_dir, stream, *records):
    with open_writer("slp", out_dir, stream) as writer:
        for each in records:
            writer.write(each)
    return sleap_io.load_slp(str(writer.path), open_videos=False)


def test_tracks_scores_video_and_skeleton_are_in_the_file(tmp_path):
    pose = [[[1.5, 2.25], [3, 4]], [[5, 6], [np.nan, np.nan]]]
    scores = {"scores": np.array([0.5, 0.25]), "keypoint_scores": np.array([[0.1, 0.2], [0.3, 0.4]])}
    labels = written(tmp_path, info(), record(4, [7, 2], pose, **scores))
    frame = labels[0]
    assert frame.frame_idx == 4
    assert [type(i).__name__ for i in frame.instances] == ["PredictedInstance"] * 2
    assert [i.track.name for i in frame.instances] == ["7", "2"]
    assert [i.score for i in frame.instances] == [0.5, 0.25]
    assert [i.tracking_score for i in frame.instances] == [0.75, 0.75]
    np.testing.assert_array_equal([i.numpy() for i in frame.instances], pose)
    np.testing.assert_allclose(frame.instances[0].points["score"], [0.1, 0.2])
    assert Path(labels.videos[0].filename) == Path("videos/clip.mp4").resolve()
    assert tuple(labels.videos[0].shape) == (5, 480, 640, 1)
    assert labels.skeletons[0].node_names == ["head", "tail"]
    assert labels.skeletons[0].edge_inds == [(0, 1)]


@pytest.mark.parametrize(
    ("source", "filename"),
    # sleap-io writes the slashes of a URL as one.
    [(None, "worms (no video)"), ("rtsp://camera/1", "rtsp:/camera/1"), ("/lab/clip.mp4", "/lab/clip.mp4")],
)
def test_the_video_is_the_source_and_no_file_is_made_up(tmp_path, source, filename):
    labels = written(tmp_path, info(source=source), record(0, [1], [[[1, 2], [3, 4]]]))
    assert labels.videos[0].filename == filename
    assert tuple(labels.videos[0].shape) == (1, 480, 640, 1)


def test_a_track_is_the_same_object_in_every_frame(tmp_path):
    pose = [[[1, 2], [3, 4]]]
    labels = written(tmp_path, info(), record(0, [5], pose), record(1, [5], pose), record(9, [0], pose))
    assert [track.name for track in labels.tracks] == ["0", "5"]
    assert [frame.instances[0].track.name for frame in labels] == ["5", "5", "0"]


def test_an_unassigned_instance_is_kept_without_a_track(tmp_path):
    missing = np.array([np.nan], np.float32)
    labels = written(tmp_path, info(), record(0, [-1], [[[1, 2], [3, 4]]], track_scores=missing))
    assert labels[0].instances[0].track is None
    assert labels[0].instances[0].tracking_score == 0
    assert labels.tracks == []


def test_boxes_alone_become_centroids(tmp_path):
    labels = written(tmp_path, info(skeleton=None), record(0, [1], boxes=[[10, 20, 30, 60]]))
    assert labels.skeletons[0].node_names == ["centroid"]
    np.testing.assert_array_equal(labels[0].instances[0].numpy(), [[20, 40]])


def test_a_stream_without_tracks_still_gives_a_file_that_opens(tmp_path):
    labels = written(tmp_path, info(), record(0, []))
    assert len(labels) == 0
    assert labels.skeletons[0].node_names == ["head", "tail"]


def test_the_file_appears_complete_at_close_and_its_part_is_removed(tmp_path):
    writer = open_writer("slp", tmp_path, info())
    writer.write(record(0, [0], [[[1, 2], [3, 4]]]))
    assert [path.name for path in tmp_path.iterdir()] == ["worms.slp.part"]
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["worms.slp"]
    with pytest.raises(ValueError, match="closed"):
        writer.write(record(1, [0], [[[1, 2], [3, 4]]]))


def replayed(recording, out_dir):
    stream = StreamInfo("again", recording.skeleton, str(recording.source), recording.frame_shape, recording.fps)
    with open_writer("slp", out_dir, stream) as writer:
        for index in range(len(recording)):
            found = recording._labels.at(index)
            ids, weights = np.arange(len(found)), found.keypoint_scores
            writer.write(record(index, ids, found.keypoints, scores=found.scores, keypoint_scores=weights))
    return SleapRecording(writer.path, TestDataset())


@pytest.mark.shared
@pytest.mark.parametrize(
    "file", ["dreem_three_flies/three_flies.slp", "sleap_centered_pair/centered_pair_predictions.slp"]
)
def test_a_real_file_that_is_read_and_written_changes_only_its_ids(file, tmp_path):
    path = SHARED / "data" / file
    if not path.exists():
        pytest.skip(f"{path} is missing: set TRACKD_SHARED to the folder that holds data/")
    before = SleapRecording(path, TestDataset())
    after = replayed(before, tmp_path)
    assert (after.skeleton, after.fps, after.frame_shape) == (before.skeleton, before.fps, before.frame_shape)
    assert after.source == before.source.resolve()
    for index in range(len(before)):
        old, new = before._labels.at(index), after._labels.at(index)
        np.testing.assert_array_equal(old.keypoints, new.keypoints)
        np.testing.assert_array_equal(old.scores, new.scores)
        if old.keypoint_scores is not None:
            np.testing.assert_array_equal(old.keypoint_scores, new.keypoint_scores)


def test_the_frame_rate_is_computed_from_the_time_stamps_where_the_stream_has_none(tmp_path):
    pose = [[[1, 2], [3, 4]]]
    stream = StreamInfo("worms", WORM, None, (480, 640), None)
    frames = [dataclasses.replace(record(i, [0], pose), t_ns=round(i * 1e9 / 12.5)) for i in (0, 1, 5)]
    labels = written(tmp_path, stream, *frames)
    assert labels.videos[0].backend_metadata["fps"] == 12.5


# A process of its own, since HDF5 reads its settings once.
WHILE_PROCESSES_START = """
import subprocess, sys, threading
from pathlib import Path
from trackd.outputs.formats.slp import SlpWriter
from trackd.outputs.records import StreamInfo

done = threading.Event()

def start_processes():
    while not done.wait(0.002):  # each has a copy of the handle of a file that is open now
        started.append(subprocess.Popen(["sleep", "0.2"], close_fds=False))

started = []
starter = threading.Thread(target=start_processes)
starter.start()
try:
    for number in range(5):
        SlpWriter(Path(sys.argv[1]), StreamInfo(f"cam{number}", None, None, (100, 100), None)).close()
finally:
    done.set()
    starter.join()
    [process.wait() for process in started]
"""


def test_files_are_finished_while_other_processes_are_started(tmp_path):
    command = [sys.executable, "-c", WHILE_PROCESSES_START, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"cam{number}.slp" for number in range(5)]
