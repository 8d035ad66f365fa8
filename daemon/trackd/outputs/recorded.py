"""A recording whose identities are tracks already, as records for writers.

Letters: n instances of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trackd.outputs.records import Floats, OutputRecord, StreamInfo
from trackd_client.detections import Detections, IntArray
from trackd_client.recordings.config import LiveDataset
from trackd_client.recordings.ctc import CtcRecording
from trackd_client.recordings.recording import RecordedFrame, Recording
from trackd_client.recordings.sleap import SleapRecording
from trackd_client.recordings.written.track_names import numbers_of
from trackd_client.recordings.written.written_recording import WrittenRecording


def stream_of(recording: Recording) -> StreamInfo:
    """The description of a recording for writers."""
    source = None if recording.source is None else str(recording.source)
    return StreamInfo(recording.name, recording.skeleton, source, recording.frame_shape, recording.fps)


def records_of(recording: Recording, settings: LiveDataset) -> Iterator[tuple[RecordedFrame, OutputRecord]]:
    """Every frame of a recording, and its record.

    Track ids count from 0. A SLEAP track whose name is a number, as trackd writes it, has that id. Label images are
    read as trackd writes them: a parent with one child is the same track before a gap.

    Args:
        recording: the recording.
        settings: its `crop_size` is the side of the box of an instance with one visible node and no box.
    """
    tracks = _Tracks.of(recording)
    corrections: Mapping[int, Sequence[Mapping[str, Any]]] = {}
    if isinstance(recording, WrittenRecording):
        corrections = recording.corrections
    scored: Iterator[tuple[RecordedFrame, np.ndarray[tuple[int], np.dtype[np.float32]] | None]]
    if isinstance(recording, WrittenRecording):
        scored = recording.scored_frames()
    else:
        scored = ((frame, None) for frame in recording.frames())
    pending = sorted(corrections.items(), reverse=True)
    for frame, track_scores in scored:
        made: list[Mapping[str, Any]] = []  # before this frame; the file may lack the one that they were made before
        while pending and pending[-1][0] <= frame.frame_index:
            made += pending.pop()[1]
        detections = frame.detections
        n = len(detections)
        ids = tracks.ids(np.full(n, -1, np.int64) if detections.gt_ids is None else detections.gt_ids)
        new = tracks.begin(ids)
        yield (
            frame,
            OutputRecord(
                frame_index=frame.frame_index,
                t_ns=frame.t_ns,
                track_ids=ids,
                track_scores=np.full(n, np.nan, np.float32) if track_scores is None else track_scores,
                boxes=_boxes(detections, settings.crop_width_height),
                keypoints=detections.keypoints,
                keypoint_scores=detections.keypoint_scores,
                scores=detections.scores,
                masks=detections.masks,
                parents={track_id: tracks.parents[track_id] for track_id in new if track_id in tracks.parents},
                names={track_id: tracks.names[track_id] for track_id in ids.tolist() if track_id in tracks.names},
                corrections=tuple(made),
            ),
        )


def _boxes(detections: Detections, crop: tuple[int, int]) -> Floats:
    """The boxes (n, 4): as sent, else around the visible nodes, else of the crop's size around the only one."""
    if detections.boxes is not None or detections.keypoints is None:
        return np.empty((0, 4), np.float32) if detections.boxes is None else detections.boxes
    points = detections.keypoints
    visible = np.asarray(np.isfinite(points).all(axis=2))
    low = np.where(visible[:, :, None], points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(visible[:, :, None], points, -np.inf).max(axis=1, initial=-np.inf)
    single = (visible.sum(axis=1) == 1)[:, None]
    half = np.array(crop) / 2
    boxes = np.concatenate([np.where(single, low - half, low), np.where(single, high + half, high)], axis=1)
    return np.where(np.asarray(visible.any(axis=1))[:, None], boxes, np.nan).astype(np.float32)


@dataclass(slots=True)
class _Tracks:
    """From the identities of a recording to track ids."""

    by_identity: Mapping[int, int]  # those that are not listed keep their number, less `first_id`
    first_id: int
    names: Mapping[int, str]  # track id -> name
    parents: Mapping[int, int]  # track id -> track id
    begun: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, recording: Recording) -> _Tracks:
        if isinstance(recording, SleapRecording):
            numbers = numbers_of(recording.names)
            return cls(numbers or {}, 0, {} if numbers else recording.names, recording.lineage)
        lineage = recording.lineage
        first_id = recording.first_id
        whole = _whole_tracks(lineage) if isinstance(recording, CtcRecording) else {}
        moved = {identity: track - first_id for identity, track in whole.items()}
        parents = {
            child - first_id: moved.get(parent, parent - first_id)
            for child, parent in lineage.items()
            if child not in moved
        }
        return cls(moved, first_id, recording.names, parents)

    def ids(self, identities: IntArray) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """The track ids (n,) of identities (n,), −1 for none."""
        found = np.where(identities < 0, -1, identities - self.first_id)
        for row in np.flatnonzero(np.isin(identities, list(self.by_identity))) if self.by_identity else ():
            found[row] = self.by_identity[int(identities[row])]
        return found.astype(np.int32)

    def begin(self, ids: IntArray) -> list[int]:
        """The tracks that begin in this frame."""
        new = [track_id for track_id in ids.tolist() if track_id >= 0 and track_id not in self.begun]
        self.begun.update(new)
        return new


def _whole_tracks(lineage: Mapping[int, int]) -> dict[int, int]:
    """The first part of a track, by its later parts: those whose parent has no other child."""
    n_children: dict[int, int] = {}
    for parent in lineage.values():
        n_children[parent] = n_children.get(parent, 0) + 1
    first: dict[int, int] = {}
    for child in sorted(lineage):
        origin, steps = child, 0
        while n_children.get(lineage.get(origin, -1)) == 1 and steps < len(lineage):
            origin, steps = lineage[origin], steps + 1
        if origin != child:
            first[child] = origin
    return first
