import os
import queue
import select
import subprocess
import sys
import threading

import numpy as np
import pytest
from prefetch_recordings import Counted
from recording_files import make_skeleton, make_slp, make_video, user

from trackd_client.configuration import validate
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.recording import Clip, RecordingError
from trackd_client.recordings.transforms import prefetch_worker
from trackd_client.recordings.transforms.prefetch import PrefetchedRecording
from trackd_client.recordings.transforms.prefetch_worker import AHEAD_FRAMES, BLOCK_FRAMES, blocks_of


def ended(pid, timeout_s=15):
    """A process has ended, or ends within the timeout; it need not be a child of this one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def workers_in(log):
    return {int(path.name.split()[1]) for path in log.iterdir()}


def test_blocks_cover_the_clips_and_each_lies_in_one_clip():
    assert list(blocks_of([Clip(0, 5), Clip(9, 10)], 2)) == [Clip(0, 2), Clip(2, 4), Clip(4, 5), Clip(9, 10)]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_frames_are_received_in_order_from_other_processes(tmp_path, num_workers):
    frames = list(PrefetchedRecording(Counted(tmp_path), num_workers).frames())
    assert [frame.frame_index for frame in frames] == [*range(25), *range(30, 45)]
    assert all((frame.image == frame.frame_index).all() for frame in frames)
    pids = workers_in(tmp_path)
    assert len(pids) == num_workers
    assert os.getpid() not in pids
    assert len(list(tmp_path.iterdir())) == 40  # no frame was read twice
    assert all(ended(pid, 0) for pid in pids)


class BlockedPipe:
    """A pipe that nobody reads: `send` blocks until the pipe is closed."""

    def __init__(self):
        self.closed = threading.Event()

    def send(self, item):
        self.closed.wait(60)
        raise BrokenPipeError


def test_a_worker_reads_a_few_frames_ahead_and_ends_when_its_pipe_is_closed(tmp_path, monkeypatch):
    full = threading.Event()

    class ObservedQueue(queue.Queue):
        def put(self, item, block=True, timeout=None):
            try:
                super().put(item, block, 0.01)
            except queue.Full:
                full.set()
                raise

    monkeypatch.setattr(prefetch_worker.queue, "Queue", ObservedQueue)
    # Not in this process: the first is allowed in the main thread only, the second changes other tests.
    monkeypatch.setattr(prefetch_worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(prefetch_worker.cv2, "setNumThreads", lambda _: None)
    pipe = BlockedPipe()
    thread = threading.Thread(
        target=prefetch_worker.work, args=(Counted(tmp_path), [Clip(0, 25)], 0, 1, pipe), daemon=True
    )
    thread.start()
    # The first frame is in `send`, or still in the queue; one frame waits for a place in the queue.
    while not full.wait(60) or len(list(tmp_path.iterdir())) < AHEAD_FRAMES + 2:
        assert full.is_set()
        full.clear()
    assert len(list(tmp_path.iterdir())) == AHEAD_FRAMES + 2
    pipe.closed.set()
    thread.join(60)
    assert not thread.is_alive()
    assert len(list(tmp_path.iterdir())) == AHEAD_FRAMES + 2


def test_workers_end_when_the_iterator_is_closed(tmp_path):
    frames = PrefetchedRecording(Counted(tmp_path), 2).frames()
    first = [next(frames).frame_index for _ in range(BLOCK_FRAMES + 1)]
    assert first == list(range(BLOCK_FRAMES + 1))  # the last one is the second worker's
    pids = workers_in(tmp_path)
    assert len(pids) == 2
    frames.close()
    assert all(ended(pid, 0) for pid in pids)


ABANDONED = """
import os, signal, sys
from pathlib import Path
from prefetch_recordings import Counted
from trackd_client.recordings.transforms.prefetch import PrefetchedRecording
from trackd_client.recordings.transforms.prefetch_worker import BLOCK_FRAMES

if __name__ == "__main__":
    # Frames so large that a pipe holds less than one.
    frames = PrefetchedRecording(Counted(Path(sys.argv[1]), shape=(512, 512)), 2).frames()
    for _ in range(BLOCK_FRAMES + 1):  # the last one is the second worker's
        next(frames)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_the_replaying_process_is_killed(tmp_path):
    (tmp_path / "log").mkdir()
    script = tmp_path / "abandon.py"
    script.write_text(ABANDONED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, script, tmp_path / "log"], env=environment, timeout=60, check=False)
    pids = workers_in(tmp_path / "log")
    assert len(pids) == 2
    assert all(ended(pid) for pid in pids)


@pytest.mark.timeout(30)
def test_a_worker_that_was_killed_is_an_error():
    with pytest.raises(RecordingError, match=r"worker process \d+ ended before frame \d+ \(exit code -9\)"):
        list(PrefetchedRecording(Counted(dies_at=17), 2).frames())


def test_an_error_of_reading_is_raised_in_the_place_of_its_frame():
    frames = PrefetchedRecording(Counted(fails_at=17), 2).frames()
    assert [next(frames).frame_index for _ in range(17)] == list(range(17))
    with pytest.raises(RecordingError, match="frame 17: made to fail"):
        next(frames)


def test_few_frames_start_few_workers(tmp_path):
    frames = list(PrefetchedRecording(Counted(tmp_path), 4).frames([Clip(0, BLOCK_FRAMES + 1)]))
    assert len(frames) == BLOCK_FRAMES + 1
    assert len(workers_in(tmp_path)) == 2
    assert list(PrefetchedRecording(Counted(tmp_path), 4).frames([])) == []


def streams(base, n_workers, **keys):
    worm = make_skeleton()
    if not (base / "a.slp").exists():
        make_video(base / "a.mp4", 30, gray=False)
        labels = {i: [user(worm, [[i, j], [20 + j, 20]]) for j in range(4)] for i in range(30)}
        make_slp(base / "a.slp", labels, video="a.mp4")
    tree = {"test_dataset": {"slp_files": "a.slp", "video_files": "a.mp4", "clip_length": 7, **keys}}
    loader = validate(DataloaderConfig, {"test_dataloader": {"num_workers": n_workers}})
    (recording,) = open_recordings(validate(DatasetConfig, tree).test_dataset, loader, base)
    return list(recording.frames())


AUGMENTATIONS = {
    "Rotate": {"limit": 45, "p": 0.7},
    "MotionBlur": {"blur_limit": [3, 7], "p": 0.5},
    "NodeDropout": {"p": 0.5, "n": 1},
    "InstanceDropout": {"p": 0.5, "n": 2},
}


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.frame_index, a.t_ns) == (b.frame_index, b.t_ns)
        np.testing.assert_array_equal(a.image, b.image)
        for name in ("keypoints", "scores", "gt_ids"):
            np.testing.assert_array_equal(getattr(a.detections, name), getattr(b.detections, name))


def test_the_same_seed_gives_the_same_stream_again_and_with_four_workers(tmp_path):
    keys = {"seed": 11, "mode": "train", "augmentations": AUGMENTATIONS, "n_chunks": 3}
    alone = streams(tmp_path, 0, **keys)
    same(alone, streams(tmp_path, 0, **keys))
    same(alone, streams(tmp_path, 4, **keys))
    other = streams(tmp_path, 0, **{**keys, "seed": 12, "n_chunks": 1.0})
    by_index = {frame.frame_index: frame for frame in other}
    assert any(not np.array_equal(frame.image, by_index[frame.frame_index].image) for frame in alone)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_dropouts_of_probability_one_drop_exactly_n(tmp_path, n_workers):
    for frame in streams(tmp_path, n_workers, augmentations={"InstanceDropout": {"p": 1, "n": 3}}):
        assert len(frame.detections) == 1
    for frame in streams(tmp_path, n_workers, augmentations={"NodeDropout": {"p": 1, "n": 1}}):
        assert np.isnan(frame.detections.keypoints).all(axis=-1).sum(axis=1).tolist() == [1] * 4
    for frame in streams(
        tmp_path, n_workers, augmentations={"NodeDropout": {"p": 1}, "InstanceDropout": {"p": 1, "n": 0}}
    ):
        assert np.isnan(frame.detections.keypoints).all()
        assert len(frame.detections) == 4
