"""A stream's state on the engine thread: its settings, its tracker, and how a frame becomes instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trackd.config import LimitsConfig, StreamSettings
from trackd.engine.image import decode_image, image_shape
from trackd.store.codec import DamagedError
from trackd.store.records import FrameRecord, SnapshotRecord
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import EncodeRequest, Scorer
from trackd.tracking.step import Step
from trackd.tracking.tracker import Assignment, LiveTracks, Tracker
from trackd.tracking.window import State
from trackd_client.detections import Detections, Skeleton
from trackd_client.protocol import ErrorCode, Frame, ProtocolError, Status

SNAPSHOT_FRAMES = 500
SNAPSHOT_BYTES = 32 * 1024 * 1024  # of journaled frames, which a restart has to play again
ASSIGNMENT_LISTS = ("new_tracks", "parents", "lost_tracks", "found_tracks", "ended_tracks", "flags")
ScorerFactory = Callable[[StreamSettings], Scorer]


class StreamState:
    """All that the engine holds for one stream; only the engine thread touches it."""

    def __init__(
        self,
        name: str,
        epoch: int,
        first_seq: int,
        settings: StreamSettings,
        skeleton: Skeleton | None,
        frame_shape: tuple[int, ...] | None,
        make_scorer: ScorerFactory,
        limits: LimitsConfig,
    ) -> None:
        self.name = name
        self._skeleton = skeleton
        self._frame_shape = None if frame_shape is None else (frame_shape[0], frame_shape[1])
        self._make_scorer = make_scorer
        self._limits = limits
        self.settings = settings
        self.start(epoch, first_seq)

    def start(self, epoch: int, first_seq: int) -> None:
        """Begin afresh: no window, no tracks, ids from 0."""
        self._since_snapshot = self._bytes_since_snapshot = 0
        self.epoch = epoch
        self.first_seq = first_seq
        self._scorer = self._make_scorer(self.settings)
        self._tracker = Tracker(
            self.settings.tracker,
            self._scorer,
            self._limits.active_tracks,
            self._clip_length(self.settings),
        )

    def configure(self, settings: StreamSettings) -> None:
        """Take other settings up between two frames; identities go on."""
        self._tracker.clip_length = self._clip_length(settings)
        self._tracker.configure(settings.tracker)
        self._scorer.configure(settings)
        self.settings = settings

    @property
    def scorer(self) -> Scorer:
        """What turns its frames into logits."""
        return self._scorer

    def prepare(self, frame: Frame) -> EncodeRequest:
        """The instances of a frame, and the image that their features are to be made from.

        Raises:
            ProtocolError: `invalid_frame`, where the image cannot be read, or the anchors are not among the nodes.
        """
        image = None
        if self._scorer.needs_image and frame.image is not None and len(frame.detections):
            image = decode_image(frame.image)
        # What an image is wins over what `open` said that images would be.
        frame_shape = image_shape(frame.image) or self._frame_shape
        try:
            instances = Instances.of(
                frame.detections, self.settings.dataset, self._skeleton, self._scorer.boxes_from, frame_shape
            )
        except ValueError as error:
            raise ProtocolError(ErrorCode.INVALID_FRAME, str(error)) from None
        return EncodeRequest(self._scorer, image, instances)

    def step(self, frame: Frame, instances: Instances, features: Any) -> Step:
        """What the tracker is given."""
        return Step(
            self._tracker, frame.frame_index, frame.t_ns, instances, features, position=frame.seq - self.first_seq
        )

    # --- what is stored of it ---

    def frame_record(self, frame: Frame, instances: Instances, features: Any, assignment: Assignment) -> FrameRecord:
        """A tracked frame: what the tracker was given, and what it said."""
        detections, shape = frame.detections, instances.frame_shape
        body: State = {
            "boxes": detections.boxes,
            "keypoints": detections.keypoints,
            "scores": detections.scores,
            "frame_shape": None if shape is None else list(shape),
            "features": self._scorer.pack(features),
            "extents": None if instances.extents is detections.boxes else instances.extents,
        }
        body = {name: value for name, value in body.items() if value is not None}
        body["track_ids"], body["track_scores"] = assignment.track_ids, assignment.track_scores
        for name in ASSIGNMENT_LISTS:
            if values := getattr(assignment, name):
                body[name] = list(values)
        record = FrameRecord(
            self.name, self.epoch, frame.seq, frame.frame_index, frame.t_ns, str(Status.TRACKED), None, body
        )
        self._bytes_since_snapshot += record.nbytes
        return record

    def snapshot_record(self, seq: int) -> SnapshotRecord:
        """The tracker as it is after frame `seq`."""
        record = SnapshotRecord(self.name, self.epoch, seq, self._tracker.snapshot())
        # A large snapshot comes after so many more bytes of frames: what is written grows by a quarter at most.
        self._since_snapshot, self._bytes_since_snapshot = 0, -4 * record.nbytes
        return record

    def snapshot_due(self) -> bool:
        """Whether so many frames were tracked since the last snapshot that it is time for another."""
        self._since_snapshot += 1
        return self._since_snapshot >= SNAPSHOT_FRAMES or self._bytes_since_snapshot >= SNAPSHOT_BYTES

    def restore(self, snapshot: SnapshotRecord) -> None:
        """Become what a snapshot saw."""
        self._tracker.restore(snapshot.state)

    def replay(self, record: FrameRecord) -> None:
        """Track a stored frame again.

        Raises:
            DamagedError: its ids come out otherwise than they were published.
        """
        body = record.body
        detections = Detections(boxes=body.get("boxes"), keypoints=body.get("keypoints"), scores=body.get("scores"))
        shape = body.get("frame_shape")
        instances = Instances.of(
            detections,
            self.settings.dataset,
            self._skeleton,
            self._scorer.boxes_from,
            None if shape is None else (shape[0], shape[1]),
        )
        features = self._scorer.unpack(body.get("features"))
        position = record.seq - self.first_seq
        assignment = self._tracker.step(record.frame_index, record.t_ns, instances, features, position)
        if not np.array_equal(assignment.track_ids, body["track_ids"]):
            raise DamagedError(
                f"stream {self.name!r}: seq {record.seq} was published with the ids {body['track_ids'].tolist()} "
                f"and comes out with {assignment.track_ids.tolist()}"
            )

    @property
    def n_live(self) -> int:
        """How many tracks are alive."""
        return len(self._tracker.window.live)

    @property
    def live(self) -> LiveTracks:
        """The tracks that are alive."""
        return self._tracker.live()

    @staticmethod
    def _clip_length(settings: StreamSettings) -> int | None:
        return settings.dataset.clip_length if settings.dataset.chunk else None
