"""The forms of a frame's result, field by field."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from trackd.config import TrackerConfig
from trackd.engine.outcome import ASSIGNMENT, Settlement, tracks_of
from trackd.engine.queue import StreamQueue
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.assignment import Assignment
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.protocol import Frame, Status, Tracks
from trackd_client.recordings.config import LiveDataset

BOXES = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)


def test_each_value_of_an_assignment_is_published_under_its_name() -> None:
    detections = Detections(boxes=BOXES, keypoints=np.zeros((2, 1, 2), np.float32), scores=np.ones(2, np.float32))
    marks = {name: (f"the value of {name}",) for name in ASSIGNMENT}
    frame = Frame("camera", 7, 70, 700, detections)
    instances = Instances.of(Detections(boxes=BOXES), LiveDataset())
    settlement = Settlement(
        StreamQueue("camera", 1), frame, 3, Status.TRACKED, 1_000, 3_000, 6_000, 7_000, 10_000,
        detections=detections, instances=instances, assignment=Assignment(**marks),  # type: ignore[arg-type]
    )  # fmt: skip
    tracks = tracks_of(settlement, stored_ns=15_000)
    others = {
        "stream": "camera", "epoch": 3, "seq": 7, "frame_index": 70, "t_ns": 700, "status": Status.TRACKED,
        "reason": None, "boxes": instances.extents, "keypoints": detections.keypoints, "scores": detections.scores,
        "replayed": False,
    }  # fmt: skip
    assert {field.name for field in fields(Tracks)} == {*marks, *others, "timing"}
    for name, value in {**marks, **others}.items():
        assert getattr(tracks, name) is value or getattr(tracks, name) == value, name
    timing = tracks.timing
    assert (timing.queue, timing.encode, timing.associate, timing.journal) == (2, 3, 4, 5)
    assert timing.total > 0


def test_a_frame_that_is_not_tracked_is_published_without_arrays() -> None:
    frame = Frame("camera", 7, 70, 700, Detections(boxes=BOXES))
    settlement = Settlement(
        StreamQueue("camera", 1), frame.head, 3, Status.DROPPED, 1_000, 3_000, 3_000, 3_000, 3_000, reason="overload"
    )
    tracks = tracks_of(settlement, stored_ns=None)
    assert (tracks.status, tracks.reason, tracks.track_ids, tracks.boxes) == (Status.DROPPED, "overload", None, None)


def test_each_value_of_the_tracker_has_its_field() -> None:
    tracker = Tracker(TrackerConfig(max_gap=1, min_hits=3), MotionScorer())
    results = []
    for index, boxes in enumerate((BOXES, BOXES[:1], BOXES[:1])):
        instances = Instances.of(Detections(boxes=boxes), LiveDataset())
        results.append(tracker.step(index, index * 33_000_000, instances))
    first, second, _ = results
    assert (first.new_tracks, first.tentative_tracks) == ((0, 1), (0, 1))
    assert first.track_ids.tolist() == [0, 1]
    assert np.isnan(first.track_scores).all()
    assert (second.new_tracks, second.ended_tracks, second.tentative_tracks) == ((), (1,), (0,))
    assert second.track_ids.tolist() == [0]
    for each in results:
        empty = (each.parents, each.names, each.corrections, each.identity_events, each.merged_tracks, each.merged_rows)
        assert not any(empty)
        assert (each.flags, each.found_tracks, each.restored_tracks) == ((), (), ())
