"""A recording of the plain arena in the files that DREEM and trackd read: `arena.slp` and `arena.mp4`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sleap_io

from arena import LENGTH, arena, write_video

SIDE = 1024  # of the image, pixels
FPS = 30.0
JITTER, MISSED = 0.5, 0.02  # of each node, pixels; share of the detections
SCORE = 0.9


def write_recording(folder: Path, n_animals: int, n_frames: int, seed: int = 0) -> None:
    """Write the video, and the detections with two nodes each (nose, tail) and without identities."""
    images, centres, headings = arena(n_frames, n_animals, (SIDE, SIDE), seed)
    write_video(folder / "arena.mp4", images, FPS)
    rng = np.random.default_rng(seed)
    half = LENGTH / 2 * np.stack([np.cos(headings), np.sin(headings)], axis=-1)
    poses = np.stack([centres + half, centres - half], axis=2)  # (F, A, 2, 2)
    poses += rng.normal(0, JITTER, poses.shape)
    detected = rng.random(centres.shape[:2]) >= MISSED
    detected[:, 0] = True  # DREEM's chunks are of frames that have labels
    skeleton = sleap_io.Skeleton(["nose", "tail"], edges=[("nose", "tail")], name="arena")
    metadata = {"type": "MediaVideo", "shape": (n_frames, SIDE, SIDE, 3), "grayscale": False, "bgr": True, "fps": FPS}
    video = sleap_io.Video(filename="arena.mp4", backend_metadata=metadata, open_backend=False)
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=number,
            instances=[
                sleap_io.PredictedInstance.from_numpy(pose, skeleton, point_scores=np.full(2, SCORE), score=SCORE)
                for pose in poses[number, detected[number]]
            ],
        )
        for number in range(n_frames)
    ]
    labels = sleap_io.Labels(labeled_frames=frames, videos=[video], skeletons=[skeleton])
    sleap_io.save_slp(labels, str(folder / "arena.slp"), verbose=False)


def ids_of(file: Path) -> dict[int, dict[tuple[float, ...], int]]:
    """Return the track ids of a tracked .slp: by frame and by the coordinates of the pose."""
    labels = sleap_io.load_slp(str(file), open_videos=False)
    return {
        frame.frame_idx: {
            tuple(np.round(instance.numpy().ravel(), 3).tolist()): int(instance.track.name) if instance.track else -1
            for instance in frame.instances
        }
        for frame in labels.labeled_frames
    }
