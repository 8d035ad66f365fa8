"""`trackd eval`: collects the tracks of one recording and its ground truth, while the recording is tracked."""

from __future__ import annotations

import numpy as np

from trackd.commands.observer import Observer
from trackd.engine.outcome import parents_of
from trackd.evaluation.mot_truth import MotTruth
from trackd.evaluation.picture import IdHistory
from trackd.evaluation.segmentation import SegmentationScoring, reference_folder
from trackd.evaluation.sequence import Sequence, frame_of_detections
from trackd.evaluation.switches import SwitchCount
from trackd_client.protocol import Tracks
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordedFrame, Recording


class RecordingScoring(Observer):
    """Collects a recording's tracks and its ground truth.

    Args:
        recording: the `gt_ids` of its detections are the ground truth.
        truth: the ground truth instead, where it is a file with boxes of its own.
        whole: whether the recording is tracked to its end, so that later frames of the truth count as missed.
        limits: of the reference masks.
    """

    def __init__(
        self,
        recording: Recording,
        truth: MotTruth | None = None,
        *,
        whole: bool = True,
        limits: RecordingLimits = DEFAULT_LIMITS,
    ) -> None:
        self.sequence = Sequence(recording.name, gt_parents=dict(recording.lineage))
        self.switch_count = SwitchCount()
        self.histories: dict[int, IdHistory] = {}  # by identity
        self.are_cells = bool(recording.lineage)
        self._truth = truth
        self._whole = whole
        folder = reference_folder(recording.source)
        self._segmentation = None if folder is None else SegmentationScoring(folder, limits)

    @property
    def seg(self) -> float | None:
        """SEG, where there are masks and reference masks."""
        return None if self._segmentation is None else self._segmentation.score

    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        """Add one frame."""
        assert tracks.track_ids is not None
        assert tracks.boxes is not None
        detections = frame.detections
        gt_ids = np.full(len(detections), -1) if detections.gt_ids is None else detections.gt_ids
        if self._truth is None:
            scored = frame_of_detections(frame.frame_index, gt_ids, tracks.track_ids)
        else:
            scored = self._truth.frame(frame.frame_index, tracks.track_ids, tracks.boxes)
        self.sequence.frames.append(scored)
        self.sequence.track_parents.update(parents_of(tracks))
        self.switch_count.add(frame.frame_index, gt_ids, tracks.track_ids)
        for gt_id, track_id in zip(gt_ids.tolist(), tracks.track_ids.tolist(), strict=True):
            if gt_id >= 0:
                self.histories.setdefault(gt_id, []).append((frame.frame_index, track_id))
        if detections.masks is not None:
            self.are_cells = True
            if self._segmentation is not None:
                kept = np.concatenate([[False], tracks.track_ids >= 0])
                labels = np.where(kept, np.arange(len(kept)), 0)
                self._segmentation.add(frame.frame_index, labels[detections.masks])

    def add_untracked(self, frame: RecordedFrame) -> None:
        """Count all instances of a frame as missed."""
        n = len(frame.detections)
        gt_ids = np.full(n, -1) if frame.detections.gt_ids is None else frame.detections.gt_ids
        missed = np.full(n, -1)
        if self._truth is None:
            scored = frame_of_detections(frame.frame_index, gt_ids, missed)
        else:
            scored = self._truth.frame(frame.frame_index, missed, np.zeros((n, 4), np.float32))
        self.sequence.frames.append(scored)
        self.switch_count.add(frame.frame_index, gt_ids, missed)

    def close(self) -> None:
        """Count the truth's instances after the last frame as missed."""
        if self._truth is not None and self._whole:
            frames = self.sequence.frames
            frames += self._truth.after(frames[-1].frame_index if frames else -1)
