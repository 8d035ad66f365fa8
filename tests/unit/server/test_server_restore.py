"""The journal record of a settlement gives the settlement as it was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from trackd.config import Config, LimitsConfig, StreamSettings
from trackd.engine.outcome import frame_record, tracks_of_record
from trackd.engine.queue import StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.fleet.batch import encode_batch
from trackd.fleet.stored_log import StoredLog
from trackd.models.motion.scorer import MotionScorer
from trackd.server.history import History
from trackd.server.session import NO_OWNER, Session, opening_of, restored_session
from trackd.store.checksums import NO_LINK
from trackd.store.codec import pack, unpack
from trackd.store.records import FrameRecord, OpenRecord, StoredStream
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
        restored_tracks=(2,),
    )  # fmt: skip
    instances = Instances.of(detections, settings.dataset)
    record = frame_record("cells", 7, Frame("cells", 5, 50, 500, detections), instances, None, assignment)
    read = FrameRecord("cells", 7, 5, 50, 500, record.status, None, unpack(pack(record.body)))
    tracks = tracks_of_record(read)
    assert (tracks.epoch, tracks.seq, tracks.status, tracks.replayed) == (7, 5, Status.TRACKED, True)
    for field in fields(Assignment):
        ours, theirs = getattr(tracks, field.name), getattr(assignment, field.name)
        assert np.array_equal(ours, theirs, equal_nan=True) if isinstance(theirs, np.ndarray) else ours == theirs


def opening(mult_thresh: bool | None) -> OpenRecord:
    settings = StreamSettings.of(Config()).changed({"mult_thresh": mult_thresh})
    state = StreamState("cam", 7, 0, settings, None, None, lambda _: MotionScorer(), LimitsConfig())
    session = Session(
        "cam", NO_OWNER, 7, settings, StreamQueue("cam", 1), History(1, 1), "motion", False, last_open_ns=0
    )  # fmt: skip
    return opening_of(session, state)


def by_the_journal(record: OpenRecord) -> StoredStream:
    return StoredStream(replace(record, opened=unpack(pack(dict(record.opened)))), None, [], -1, None)


def by_the_log(record: OpenRecord) -> StoredStream:
    log = StoredLog("cam")
    log.add(1, 1, encode_batch([record], NO_LINK, 7)[0])
    stored = log.result()
    assert stored is not None
    return stored


def restored(stored: StoredStream) -> dict[str, Any]:
    tracker: dict[str, Any] = restored_session(stored, 1, 0)[0].settings.as_map()["tracker"]
    return tracker


@pytest.mark.parametrize("way", [by_the_journal, by_the_log])
@pytest.mark.parametrize("mult_thresh", [None, True, False])
def test_a_setting_that_was_not_set_is_not_set_after_a_restart_or_a_takeover(
    mult_thresh: bool | None, way: Callable[[OpenRecord], StoredStream]
) -> None:
    usual = StreamSettings.of(Config()).as_map()["tracker"]
    assert restored(way(opening(mult_thresh))) == {**usual, "mult_thresh": mult_thresh}


@pytest.mark.parametrize("mult_thresh", [True, False])
def test_true_in_a_journal_of_an_earlier_version_was_its_default(mult_thresh: bool) -> None:
    record = opening(mult_thresh)
    earlier = {name: value for name, value in record.opened.items() if name != "mult_thresh"}
    assert earlier["settings"]["tracker"]["mult_thresh"] is mult_thresh  # as it wrote them, and can read ours
    assert opening(None).opened["settings"]["tracker"]["mult_thresh"] is True
    stored = StoredStream(replace(record, opened=earlier), None, [], -1, None)
    assert restored(stored)["mult_thresh"] is (None if mult_thresh else False)
