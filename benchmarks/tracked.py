"""Runs the tracker with the `motion` scorer over a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from identity_sequence import Found, Sequence
from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

FRAME_NS = 33_000_000


def assignments(sequence: Sequence, **options: Any) -> Iterator[Assignment]:
    """Yield each frame's result; `options` are keys of the section `tracker`."""
    tracker, dataset = Tracker(TrackerConfig(**options), MotionScorer()), LiveDataset()
    for number, (boxes, scores) in enumerate(zip(sequence.boxes, sequence.scores, strict=True)):
        found = Detections(boxes=boxes, scores=scores)
        if sequence.poses is not None:
            found = Detections(keypoints=sequence.poses[number], scores=scores)
        yield tracker.step(number, number * FRAME_NS, Instances.of(found, dataset), None, number)


def tracks(sequence: Sequence, **options: Any) -> Iterator[Found]:
    """Yield each frame's track ids and their boxes."""
    for boxes, assignment in zip(sequence.boxes, assignments(sequence, **options), strict=True):
        given = assignment.track_ids >= 0
        yield assignment.track_ids[given], boxes[given]
