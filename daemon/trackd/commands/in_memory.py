"""`from trackd import track`: the tracks of a recording as values, without a daemon, sockets or output files.

Letters: n instances of a frame, k nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.config import Config, StreamSettings, check_config
from trackd.engine.outcome import parents_of
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.step import FrameStep, assign, encode, prepare, score
from trackd.engine.stream_state import StreamState
from trackd.identity.gallery import Galleries
from trackd.models.registry import ModelRegistry
from trackd_client.apps.replay import with_pixel_range
from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections, FloatArray, Image, Skeleton
from trackd_client.protocol import Frame
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.recording import RecordedFrame, Recording

DEFAULT_FPS = 30.0  # of detections without a recording


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """One frame; all arrays share the first axis n, in the detector's order."""

    frame_index: int
    t_ns: int  # capture time
    track_ids: NDArray[np.int32]  # (n,) −1 where unassigned
    boxes: NDArray[np.float32]  # (n, 4) x1 y1 x2 y2, pixels
    scores: FloatArray | None  # (n,) the detector's
    track_scores: NDArray[np.float32]  # (n,) 0 to 1, NaN where new or unassigned
    keypoints: FloatArray | None  # (n, k, 2) pixels
    new_tracks: tuple[int, ...]  # that begin in this frame
    ended_tracks: tuple[int, ...]  # whose ids are not used again
    parents: Mapping[int, int]  # new track -> the track that divided into it
    error: str | None = None  # why the frame was not tracked; then all ids are −1
    tentative_tracks: tuple[int, ...] = ()  # of track_ids: observed in fewer than `min_hits` frames so far
    merged_tracks: tuple[int, ...] = ()  # in the box of another track
    merged_rows: tuple[int, ...] = ()  # parallel to merged_tracks: the row of that box


@dataclass(frozen=True, slots=True, eq=False)
class TrackedRecording:
    """The tracks of a recording. Iterating gives its frames."""

    name: str
    fps: float
    skeleton: Skeleton | None
    frames: tuple[TrackedFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[TrackedFrame]:
        return iter(self.frames)

    def __getitem__(self, place: int) -> TrackedFrame:
        return self.frames[place]

    @property
    def track_ids(self) -> list[int]:
        """All ids, rising."""
        return sorted({track_id for frame in self.frames for track_id in frame.track_ids.tolist() if track_id >= 0})


def track(
    source: str | Path | Recording | Iterable[Detections],
    *,
    checkpoint: str | Path | None = None,
    crop_size: int | None = None,
    video: str | Path | None = None,
    **tracker_settings: Any,
) -> TrackedRecording:
    """Track a recording, and return its tracks in memory. The ids are those of `trackd track`.

    Args:
        source: a file or folder with one recording; a recording that is open; or detections, one value per frame.
        checkpoint: a DREEM checkpoint; None: the `motion` scorer, which needs no images.
        crop_size: the side of an instance's crop, pixels; None: 128.
        video: the images, in place of those that the file names.
        tracker_settings: keys of the `tracker` section, such as `max_tracks=5` or `max_gap=30`.

    Raises:
        ConfigError: a path or setting is wrong, or `source` holds several recordings.
        RecordingError: the recording cannot be read.
    """
    dataset: dict[str, Any] = {}
    if isinstance(source, str | Path):
        dataset = dataset_of(Path(source), video=None if video is None else Path(video))
    elif video is not None:
        raise ConfigError("video belongs to a file: give its path as source")
    if crop_size is not None:
        dataset["crop_size"] = crop_size
    config = check_config(
        {
            "ckpt_path": None if checkpoint is None else str(checkpoint),
            "tracker": tracker_settings,
            "dataset": {"test_dataset": dataset},
        }
    )
    recording = _recording(source, config)
    if recording is None:
        assert not isinstance(source, str | Path | Recording)
        frames = _frames_of(source)
        found = _track(frames, "detections", None, None, config, {})
        return TrackedRecording("detections", DEFAULT_FPS, None, tuple(found))
    changes = with_pixel_range({}, recording)
    found = _track(recording.frames(), recording.name, recording.skeleton, recording.frame_shape, config, changes)
    return TrackedRecording(recording.name, recording.fps, recording.skeleton, tuple(found))


def _recording(source: object, config: Config) -> Recording | None:
    if isinstance(source, Recording):
        return source
    if not isinstance(source, str | Path):
        return None
    recordings = open_recordings(config.dataset.test_dataset, config.dataloader, Path(), config.limits)
    if len(recordings) != 1:
        names = ", ".join(recording.name for recording in recordings[:10])
        raise ConfigError(f"{source} holds {len(recordings)} recordings ({names}); give the path of one")
    return recordings[0]


def _frames_of(detections: Iterable[Detections]) -> Iterator[RecordedFrame]:
    for index, each in zip(count(), detections, strict=False):
        yield RecordedFrame(index, round(index * 1e9 / DEFAULT_FPS), None, each)


def _track(
    frames: Iterable[RecordedFrame],
    name: str,
    skeleton: Skeleton | None,
    frame_shape: tuple[int, ...] | None,
    config: Config,
    changes: Mapping[str, Any],
) -> Iterator[TrackedFrame]:
    """Step through the frames, as the engine does for one stream."""
    registry = ModelRegistry(config)
    settings = StreamSettings.of(config).changed(changes)
    registry.check_stream(registry.default, settings, frame_shape)
    make_scorer = registry.scorer_factory(registry.default)
    limits = config.limits.model_copy(update={"step_ms": None})
    state = StreamState(
        name, 1, 0, settings, skeleton, frame_shape, make_scorer, limits, galleries=Galleries(config.galleries)
    )  # fmt: skip
    queue = StreamQueue(name, 1)
    for seq, recorded in enumerate(frames):
        frame = Frame(name, seq, recorded.frame_index, recorded.t_ns, recorded.detections, _image(recorded, state))
        step = FrameStep(queue, QueuedFrame(frame, 0, 0), state)
        for function in (prepare, encode, score, assign):
            function([step])
        yield _tracked(step, recorded)


def _image(recorded: RecordedFrame, state: StreamState) -> Image | None:
    return recorded.image if state.needs_image else None


def _tracked(step: FrameStep, recorded: RecordedFrame) -> TrackedFrame:
    detections, assignment = recorded.detections, step.assignment
    n = len(detections)
    if step.error is not None or assignment is None or step.instances is None:
        boxes = np.full((n, 4), np.nan, np.float32) if detections.boxes is None else detections.boxes
        return TrackedFrame(
            recorded.frame_index, recorded.t_ns, np.full(n, -1, np.int32), np.asarray(boxes, np.float32),
            detections.scores, np.full(n, np.nan, np.float32), detections.keypoints, (), (), {}, str(step.error),
        )  # fmt: skip
    return TrackedFrame(
        recorded.frame_index, recorded.t_ns, assignment.track_ids, step.instances.extents, detections.scores,
        assignment.track_scores, detections.keypoints, assignment.new_tracks, assignment.ended_tracks,
        parents_of(assignment), tentative_tracks=assignment.tentative_tracks,
        merged_tracks=assignment.merged_tracks, merged_rows=assignment.merged_rows,
    )  # fmt: skip
