"""The contents of a SLEAP file as arrays.

Letters: n instances of a frame, k nodes of the skeleton.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, Skeleton
from trackd_client.recordings.hdf5 import disable_file_locks
from trackd_client.recordings.hdf5_claims import check_heaps
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.sleap_claims import check_claims


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """The video of a labels file, as the file describes it."""

    path: str | None  # None if the images are a list of files or are embedded in the labels file
    frame_shape: tuple[int, ...] | None  # (h, w) or (h, w, c), if the file notes it
    fps: float | None


@dataclass(frozen=True, slots=True, eq=False)
class SleapLabels:
    """The labelled frames of one video, in arrays: an object for each instance would need ten times the memory."""

    frame_index: NDArray[np.int64]  # (f,) rises
    first: NDArray[np.int64]  # (f + 1,) the first row of each frame's instances
    keypoints: NDArray[np.float64]  # (i, k, 2)
    scores: NDArray[np.float32]  # (i,)
    keypoint_scores: NDArray[np.float64]  # (i, k), NaN in frames without a predicted instance
    gt_ids: NDArray[np.int64]  # (i,)
    predicted: NDArray[np.bool_]  # (f,) the frame holds a predicted instance
    skeleton: Skeleton
    tracks: tuple[str, ...]  # a gt_id is an index into this tuple
    video: StoredVideo | None

    @property
    def stop(self) -> int:
        """One past the last labelled frame."""
        return int(self.frame_index[-1]) + 1 if len(self.frame_index) else 0

    def at(self, frame_index: int) -> Detections:
        """The frame's instances; empty if it has no labels."""
        place = int(np.searchsorted(self.frame_index, frame_index))
        labelled = place < len(self.frame_index) and self.frame_index[place] == frame_index
        here = slice(self.first[place], self.first[place + 1]) if labelled else slice(0, 0)
        return Detections(
            keypoints=self.keypoints[here],
            scores=self.scores[here],
            keypoint_scores=self.keypoint_scores[here] if labelled and self.predicted[place] else None,
            gt_ids=self.gt_ids[here],
        )


def read_labels(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> SleapLabels:
    """All labels of a .slp file.

    Coordinates are as stored, float64. A predicted instance that a user has corrected is left out. So is an instance
    without a visible node.

    Raises:
        RecordingError: the file is missing, is not a SLEAP file, has labels of several videos or skeletons, or claims
            more than it holds or than the limits.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        return _read_labels(path, limits)
    except RecordingError:
        raise
    except Exception as error:  # h5py and sleap-io raise many types of errors for an invalid file
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecordingError(f"{path}: not a SLEAP labels file: {text[:200]}") from error


def _read_labels(path: Path, limits: RecordingLimits) -> SleapLabels:
    disable_file_locks()
    import h5py  # both take a second and import large packages, which only .slp files need
    import sleap_io

    check_heaps(path)
    with h5py.File(path, "r") as file:
        check_claims(file, path, limits)
    labels = sleap_io.load_slp(str(path), open_videos=False)
    frames = [frame for frame in labels.labeled_frames if len(frame.instances)]
    videos = {id(frame.video): frame.video for frame in frames}
    if len(videos) > 1:
        raise RecordingError(f"{path}: holds labels of {len(videos)} videos; save one file for each video")
    skeletons = {id(i.skeleton): i.skeleton for frame in frames for i in frame.instances}
    if len(skeletons) > 1:
        raise RecordingError(f"{path}: holds instances of {len(skeletons)} skeletons; one is supported")
    skeleton = next(iter(skeletons.values()), labels.skeletons[0] if labels.skeletons else None)
    nodes, edges = ((), ()) if skeleton is None else (tuple(skeleton.node_names), tuple(skeleton.edge_inds))
    video = next(iter(videos.values()), labels.videos[0] if labels.videos else None)

    number = {id(track): i for i, track in enumerate(labels.tracks)}
    detections: dict[int, Detections] = {}
    for frame in frames:
        if int(frame.frame_idx) in detections:
            raise RecordingError(f"{path}: frame {frame.frame_idx} is labelled twice")
        found = _detections(_preferred(frame.instances), number)
        if found is not None:
            detections[int(frame.frame_idx)] = found
    stored = None if video is None else _stored(video, path)
    if stored is not None and stored.frame_shape is not None:
        limits.check_shape(stored.frame_shape, f"{path}, its video")
    return _packed(
        dict(sorted(detections.items())),
        Skeleton(nodes, tuple((int(a), int(b)) for a, b in edges)),
        tuple(track.name for track in labels.tracks),
        stored,
    )


def _packed(
    frames: dict[int, Detections], skeleton: Skeleton, tracks: tuple[str, ...], video: StoredVideo | None
) -> SleapLabels:
    """The detections of frames, in order of their indices, as arrays."""
    n_nodes = len(skeleton.nodes)
    every = list(frames.values())
    keypoint_scores = [
        np.full((len(found), n_nodes), np.nan) if found.keypoint_scores is None else found.keypoint_scores
        for found in every
    ]
    return SleapLabels(
        frame_index=np.array(list(frames), np.int64),
        first=np.cumsum([0, *(len(found) for found in every)]),
        keypoints=np.concatenate([np.empty((0, n_nodes, 2)), *(found.keypoints for found in every)]),
        scores=np.concatenate([np.empty(0, np.float32), *(found.scores for found in every)]),
        keypoint_scores=np.concatenate([np.empty((0, n_nodes)), *keypoint_scores]),
        gt_ids=np.concatenate([np.empty(0, np.int64), *(found.gt_ids for found in every)]),
        predicted=np.array([found.keypoint_scores is not None for found in every], bool),
        skeleton=skeleton,
        tracks=tracks,
        video=video,
    )


def _preferred(instances: Sequence[Any]) -> list[Any]:
    """The instances with a visible node, without the predicted ones that a user instance replaces."""
    visible = [i for i in instances if not i.is_empty]
    users = [i for i in visible if not _predicted(i)]
    replaced = {id(user.from_predicted) for user in users if user.from_predicted is not None}
    tracks = {id(user.track) for user in users if user.track is not None}
    return [i for i in visible if not (_predicted(i) and (id(i) in replaced or id(i.track) in tracks))]


def _predicted(instance: Any) -> bool:
    return hasattr(instance, "score")


def _detections(instances: list[Any], number: dict[int, int]) -> Detections | None:
    if not instances:
        return None
    predicted = [_predicted(i) for i in instances]
    # A user's instance has score 1, as in SLEAP and DREEM.
    scores = [float(i.score) if p else 1.0 for i, p in zip(instances, predicted, strict=True)]
    keypoint_scores = [
        i.points["score"] if p else np.ones(len(i.points)) for i, p in zip(instances, predicted, strict=True)
    ]
    return Detections(
        keypoints=np.stack([i.numpy() for i in instances]).astype(np.float64),
        scores=np.array(scores, np.float32),
        keypoint_scores=np.stack(keypoint_scores).astype(np.float64) if any(predicted) else None,
        gt_ids=np.array([-1 if i.track is None else number[id(i.track)] for i in instances], np.int64),
    )


def _stored(video: Any, labels_path: Path) -> StoredVideo:
    name = video.filename
    embedded = not isinstance(name, str) or Path(name).suffix.lower() in {".slp", ".h5", ".hdf5"}
    shape = video.backend_metadata.get("shape")
    fps = video.backend_metadata.get("fps")
    return StoredVideo(
        path=None if embedded or name == str(labels_path) else name,
        frame_shape=None if shape is None else _frame_shape(shape),
        fps=float(fps) if fps else None,
    )


def _frame_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """(frames, h, w, c) as (h, w) or (h, w, c)."""
    *_, height, width, channels = (int(side) for side in shape)
    return (height, width) if channels == 1 else (height, width, channels)
