"""What the engine returns for each frame and command, and every form that a frame's result takes after it.

The mappings stand side by side: assignment to journal record, settlement to wire message, journal record to wire
message, wire message to output record. All of them read the one list of fields, `ASSIGNMENT`: a new field of
`Assignment` that `Tracks` has too, at the end of both, is journaled, restored and published without a change here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np

from trackd.engine.queue import StreamQueue
from trackd.outputs.label_runs import pack_labels, unpack_labels
from trackd.outputs.records import OutputRecord
from trackd.store.looks_writer import PendingLooks
from trackd.store.records import FrameRecord, Record
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment
from trackd.tracking.window import State
from trackd_client.detections import Detections
from trackd_client.protocol import ErrorCode, Frame, FrameHead, Status, Timing, Tracks

ASSIGNMENT = tuple(field.name for field in fields(Assignment))
ASSIGNMENT_ARRAYS = ("track_ids", "track_scores")  # always stored; the other fields are lists, stored if not empty
_LISTS = tuple(name for name in ASSIGNMENT if name not in ASSIGNMENT_ARRAYS)
_assignment_values = attrgetter(*ASSIGNMENT)
_BEFORE_TIMING = ASSIGNMENT.index("flags") + 1  # the number of values that `Tracks` has before its timing


@dataclass(slots=True, eq=False)  # a frozen dataclass takes three times as long to construct
class Settlement:
    """The end of one frame. Times are monotonic ns."""

    queue: StreamQueue
    head: FrameHead | Frame  # stream, seq, frame_index, t_ns
    epoch: int
    status: Status
    received_ns: int
    taken_ns: int  # when its step began
    encoded_ns: int  # when its features were computed
    scored_ns: int  # when its logits were computed
    associated_ns: int  # when its ids were assigned
    reason: str | None = None
    code: ErrorCode | None = None
    detections: Detections | None = None  # of a tracked frame
    instances: Instances | None = None
    assignment: Assignment | None = None
    records: tuple[Record, ...] = ()  # must be stored before this is published
    looks: PendingLooks | None = None  # may be written once this is stored

    @property
    def nbytes(self) -> int:
        """Approximate memory while it waits to be stored."""
        masks = None if self.detections is None else self.detections.masks
        return sum(record.nbytes for record in self.records) + (0 if masks is None else masks.nbytes)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The end of a command. The IO thread calls `done`."""

    done: Callable[[Any, Exception | None], None]
    result: Any
    error: Exception | None
    records: tuple[Record, ...] = ()

    @property
    def nbytes(self) -> int:
        """Approximate memory while it waits to be stored."""
        return sum(record.nbytes for record in self.records)


Outcome = Settlement | CommandResult


# --- to the journal ---


def frame_record(
    stream: str,
    epoch: int,
    frame: Frame,
    instances: Instances,
    features: State | None,
    assignment: Assignment,
    outputs: Collection[str] = (),
) -> FrameRecord:
    """Build the record of a tracked frame: the input of the tracker, and its result.

    Args:
        stream: its name.
        epoch: of the stream.
        frame: the frame.
        instances: made of it.
        features: as the scorer's `pack` returned them.
        assignment: the tracker's result.
        outputs: of the stream; the record has what they need in addition.
    """
    detections, shape = frame.detections, instances.frame_shape
    body: State = {
        "boxes": detections.boxes,
        "keypoints": detections.keypoints,
        "scores": detections.scores,
        "frame_shape": None if shape is None else list(shape),
        "features": features,
        "extents": None if instances.extents is detections.boxes else instances.extents,
        "keypoint_scores": detections.keypoint_scores if outputs else None,
        "masks": pack_labels(detections.masks) if "ctc" in outputs and detections.masks is not None else None,
    }
    body = {name: value for name, value in body.items() if value is not None}
    for name in ASSIGNMENT_ARRAYS:
        body[name] = getattr(assignment, name)
    for name in _LISTS:
        if values := getattr(assignment, name):
            body[name] = list(values)
    return FrameRecord(stream, epoch, frame.seq, frame.frame_index, frame.t_ns, str(Status.TRACKED), None, body)


def skip_record(head: FrameHead, epoch: int, status: Status, reason: str | None) -> FrameRecord:
    """Build the record of a frame that was dropped or rejected."""
    return FrameRecord(head.stream, epoch, head.seq, head.frame_index, head.t_ns, str(status), reason)


# --- to the wire ---


def tracks_of(settlement: Settlement, stored_ns: int | None) -> Tracks:
    """Build the message of a settlement, journaled at `stored_ns` (monotonic); None if it was not journaled."""
    head, detections = settlement.head, settlement.detections
    assignment, instances = settlement.assignment, settlement.instances
    received_ns, taken_ns = settlement.received_ns, settlement.taken_ns
    encoded_ns, associated_ns = settlement.encoded_ns, settlement.associated_ns
    timing = Timing(
        (taken_ns - received_ns) // 1000,
        (encoded_ns - taken_ns) // 1000,
        (associated_ns - encoded_ns) // 1000,
        0 if stored_ns is None else (stored_ns - associated_ns) // 1000,
        (time.monotonic_ns() - received_ns) // 1000,
    )
    if assignment is None or instances is None or detections is None:
        return Tracks(
            head.stream, settlement.epoch, head.seq, head.frame_index, head.t_ns, settlement.status,
            reason=settlement.reason, timing=timing,
        )  # fmt: skip
    values = _assignment_values(assignment)
    # Positional, in the fields' order: keyword arguments take three times as long, for every frame.
    arguments: tuple[Any, ...] = (
        head.stream, settlement.epoch, head.seq, head.frame_index, head.t_ns, Status.TRACKED, None, *values[:2],
        instances.extents, detections.keypoints, detections.scores, *values[2:_BEFORE_TIMING], timing, False,
        *values[_BEFORE_TIMING:],
    )  # fmt: skip
    return Tracks(*arguments)


def tracks_of_record(record: FrameRecord) -> Tracks:
    """Build the message of a journaled frame, as it was published, without its timing."""
    tracks = Tracks(
        record.stream, record.epoch, record.seq, record.frame_index, record.t_ns, Status(record.status),
        reason=record.reason, replayed=True,
    )  # fmt: skip
    if tracks.status is not Status.TRACKED:
        return tracks
    body = record.body
    values = _assignment_of(record)
    boxes = body["boxes"] if body.get("extents") is None else body["extents"]
    return replace(tracks, boxes=boxes, keypoints=body.get("keypoints"), scores=body.get("scores"), **values)


# --- to the assignment ---


def assignment_of(record: FrameRecord) -> Assignment:
    """Return the tracker's result of a journaled frame that was tracked, as it was published."""
    return Assignment(**_assignment_of(record))


def _assignment_of(record: FrameRecord) -> dict[str, Any]:
    values: dict[str, Any] = {name: record.body[name] for name in ASSIGNMENT_ARRAYS}
    return values | {name: tuple(record.body.get(name, ())) for name in _LISTS}


# --- to the outputs ---

_SHARED = tuple(
    field.name
    for field in fields(OutputRecord)
    if field.name in {each.name for each in fields(Tracks)} and field.name not in ("parents", "names")
)


def output_record(tracks: Tracks, detections: Detections | None) -> OutputRecord | None:
    """Build the record that output files get; None for a frame that was not tracked."""
    if tracks.status is not Status.TRACKED or detections is None:
        return None
    shared = {name: getattr(tracks, name) for name in _SHARED}
    shared["track_ids"] = np.asarray(tracks.track_ids)
    return OutputRecord(
        **shared, keypoint_scores=detections.keypoint_scores, masks=detections.masks, parents=parents_of(tracks),
        names=names_of(tracks),
    )  # fmt: skip


def output_record_of(record: FrameRecord) -> OutputRecord | None:
    """Build the record that output files get of a journaled frame; None for a frame that was not tracked."""
    body = record.body
    masks = None if "masks" not in body else unpack_labels(body["masks"])
    # An array of each kind is taken from the detections; those that the tracks have too are the same in both.
    detections = Detections(
        boxes=body.get("boxes"), keypoints=body.get("keypoints"), scores=body.get("scores"), masks=masks,
        keypoint_scores=body.get("keypoint_scores"),
    )  # fmt: skip
    return output_record(tracks_of_record(record), detections)


def parents_of(tracks: Tracks | Assignment) -> dict[int, int]:
    """Map each new track to the track that divided into it."""
    pairs = zip(tracks.new_tracks, tracks.parents, strict=True) if tracks.parents else ()
    return {child: parent for child, parent in pairs if parent >= 0}


def names_of(tracks: Tracks) -> dict[int, str]:
    """Map each named track of a frame to its name."""
    if not tracks.names or tracks.track_ids is None:
        return {}
    return {track: name for track, name in zip(tracks.track_ids.tolist(), tracks.names, strict=True) if name}
