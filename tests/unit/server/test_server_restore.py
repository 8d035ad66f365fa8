"""The journal record of a settlement gives the settlement as it was published."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from trackd.config import Config, StreamSettings
from trackd.engine.outcome import frame_record, tracks_of_record
from trackd.store.codec import pack, unpack
from trackd.store.records import FrameRecord
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment
from trackd_client import Detections, Status
from trackd_client.protocol import Frame


def test_every_field_of_an_assignment_is_restored_after_a_restart():
    config = Config()
    settings = StreamSettings.of(config)
    detections = Detections(boxes=np.array([[0, 0, 9, 9], [20, 0, 29, 9]], np.float32))
    assignment = Assignment(
        np.array([3, 4], np.int32), np.array([np.nan, np.nan], np.float32), new_tracks=(3, 4), parents=(1, 1),
        lost_tracks=(2,), found_tracks=(0,), ended_tracks=(1,), flags=("forced",), tentative_tracks=(3, 4),
    )  # fmt: skip
    instances = Instances.of(detections, settings.dataset)
    record = frame_record("cells", 7, Frame("cells", 5, 50, 500, detections), instances, None, assignment)
    read = FrameRecord("cells", 7, 5, 50, 500, record.status, None, unpack(pack(record.body)))
    tracks = tracks_of_record(read)
    assert (tracks.epoch, tracks.seq, tracks.status, tracks.replayed) == (7, 5, Status.TRACKED, True)
    for field in fields(Assignment):
        ours, theirs = getattr(tracks, field.name), getattr(assignment, field.name)
        assert np.array_equal(ours, theirs, equal_nan=True) if isinstance(theirs, np.ndarray) else ours == theirs
