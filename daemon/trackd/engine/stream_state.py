"""A stream's state in the engine: its settings, its scorer, its tracker, and when they are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trackd.config import LimitsConfig, StreamSettings, TrackerConfig
from trackd.engine.identification import Identification, names_of
from trackd.engine.outcome import assignment_of
from trackd.engine.stream_zones import StreamZones
from trackd.identity.gallery import Galleries, Gallery
from trackd.identity.looks import Looks
from trackd.store.codec import DamagedError
from trackd.store.looks_writer import PendingLooks
from trackd.store.records import FrameRecord, Record, SnapshotRecord
from trackd.tracking.correction import Applied, Correction, CorrectionError
from trackd.tracking.instances import Instances
from trackd.tracking.live_tracks import LiveTracks
from trackd.tracking.scorer import Scorer
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections, Skeleton
from trackd_client.protocol import ErrorCode, ProtocolError, Status
from trackd_client.zones import Places

SNAPSHOT_FRAMES = 500
SNAPSHOT_BYTES = 32 * 1024 * 1024  # of journaled frames, which a restart tracks again
ScorerFactory = Callable[[StreamSettings], Scorer]


class StreamState:
    """All that the engine holds for one stream; only the thread that runs a step or a command may use it."""

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
        first_id: int = 0,
        galleries: Galleries | None = None,
    ) -> None:
        self.name = name
        self.skeleton = skeleton
        self.frame_shape = None if frame_shape is None else (frame_shape[0], frame_shape[1])
        self._make_scorer = make_scorer
        self.limits = limits
        self.settings = settings
        self._galleries = galleries
        self.zones = StreamZones()
        self.keeps_looks = False  # what was learnt of the animals is kept for a restart
        self._pending_looks: PendingLooks | None = None
        self.start(epoch, first_seq, first_id)

    def start(self, epoch: int, first_seq: int, first_id: int = 0) -> None:
        """Start without window and tracks; ids start at 0, or where the stream's output files continue others."""
        self._since_snapshot = self._bytes_since_snapshot = 0
        self.epoch = epoch
        self.first_seq = first_seq
        self.scorer = self._make_scorer(self.settings)
        self.identification = self._identification(self.settings.tracker)
        self.tracker = Tracker(
            self.settings.tracker,
            self.scorer,
            self.limits.active_tracks,
            self._clip_length(self.settings),
            first_id,
        )

    def configure(self, settings: StreamSettings) -> None:
        """Use other settings from the next frame on; all tracks keep their ids."""
        self.tracker.configure(settings.tracker)  # first: it may fail for lack of the device's memory
        self.tracker.clip_length = self._clip_length(settings)
        self.scorer.configure(settings)
        before, after = self.settings.tracker, settings.tracker
        if (before.identifies, before.gallery) != (after.identifies, after.gallery):
            self.identification = self._identification(after)
        self.settings = settings

    def _identification(self, tracker: TrackerConfig) -> Identification | None:
        return Identification(self._gallery(tracker)) if tracker.identifies else None

    def _gallery(self, tracker: TrackerConfig) -> Gallery | None:
        if tracker.gallery is None or self._galleries is None:
            return None
        return self._galleries.load(tracker.gallery)

    def gallery(self) -> Gallery:
        """Return what the named animals of the stream look like.

        Raises:
            ProtocolError: nothing is learnt, or no animal is named and known (`bad_config`).
        """
        if self.identification is None:
            raise ProtocolError(
                ErrorCode.BAD_CONFIG,
                "what animals look like is learnt with tracker.learn_identities: true, or with a tracker.gallery",
                stream=self.name,
            )
        names = names_of(self.tracker)
        gallery = self.identification.gallery(names)
        if gallery is None:
            why = f"{', '.join(names.values())} were not seen long enough" if names else "no track has a name"
            raise ProtocolError(
                ErrorCode.BAD_CONFIG, f"a gallery holds named animals; {why}. Name tracks first: `rename`",
                stream=self.name,
            )  # fmt: skip
        return gallery

    def correct(self, correction: Correction) -> Applied:
        """Apply a person's correction from the next frame on.

        Raises:
            ProtocolError: it is not possible (`bad_correction`); nothing has changed.
        """
        try:
            return self.tracker.correct(correction)
        except CorrectionError as error:
            raise ProtocolError(ErrorCode.BAD_CORRECTION, str(error), stream=self.name) from None

    def set_zones(self, places: Places, author: str, t_ns: int, number: int | None) -> StreamZones:
        """Replace all zones and lines.

        Args:
            places: the new ones.
            author: who asks for it.
            t_ns: when, Unix ns.
            number: of the change that the new ones were made from; None: whichever was the last.

        Raises:
            ProtocolError: they were changed since then (`zones_changed`); nothing has changed.
        """
        if number is not None and number != self.zones.number:
            raise ProtocolError(
                ErrorCode.ZONES_CHANGED,
                f"number must be {self.zones.number}, that of the last change of these zones and lines; got {number}: "
                "they were changed meanwhile; read them again",
                stream=self.name,
            )
        self.zones = StreamZones(self.zones.number + 1, places, author, t_ns)
        return self.zones

    @property
    def needs_image(self) -> bool:
        """Whether a step uses the pixels of its frame."""
        return self.scorer.needs_image or self.identification is not None

    # --- what is stored of it ---

    def stored(self, record: FrameRecord, seq: int, corrected: bool = False) -> tuple[Record, ...]:
        """Return the records to store for frame `seq`: its own, and a snapshot if one is due.

        Args:
            record: of the frame.
            seq: of the frame.
            corrected: the step has corrected the tracker after the frame: a snapshot is due.
        """
        if corrected:
            return record, self.snapshot_record(seq)
        self._since_snapshot += 1
        self._bytes_since_snapshot += record.nbytes
        if self._since_snapshot >= SNAPSHOT_FRAMES or self._bytes_since_snapshot >= SNAPSHOT_BYTES:
            return record, self.snapshot_record(seq)
        return (record,)

    def snapshot_record(self, seq: int) -> SnapshotRecord:
        """Build the snapshot of the tracker after frame `seq`."""
        record = SnapshotRecord(self.name, self.epoch, seq, self.tracker.snapshot())
        # A large snapshot waits for four times its size in frames: snapshots add at most a quarter to what is written.
        self._since_snapshot, self._bytes_since_snapshot = 0, -4 * record.nbytes
        return record

    def restore(self, snapshot: SnapshotRecord) -> None:
        """Restore the tracker from a snapshot."""
        self.tracker.restore(snapshot.state)

    def replay(self, record: FrameRecord) -> None:
        """Track a journaled frame again.

        Raises:
            DamagedError: the ids differ from the published ones.
        """
        body = record.body
        detections = Detections(boxes=body.get("boxes"), keypoints=body.get("keypoints"), scores=body.get("scores"))
        shape = body.get("frame_shape")
        instances = Instances.of(
            detections,
            self.settings.dataset,
            self.skeleton,
            self.scorer.boxes_from,
            None if shape is None else (shape[0], shape[1]),
        )
        features = self.scorer.unpack(body.get("features"))
        position = record.seq - self.first_seq
        assignment = self.tracker.step(record.frame_index, record.t_ns, instances, features, position)
        if not np.array_equal(assignment.track_ids, body["track_ids"]):
            raise DamagedError(
                f"stream {self.name!r}: seq {record.seq} was published with the ids {body['track_ids'].tolist()} "
                f"and is tracked again with {assignment.track_ids.tolist()}"
            )

    # --- what was learnt of its animals ---

    def pending_looks(self, seq: int, now: bool = False) -> PendingLooks | None:
        """Return what was learnt up to frame `seq`, if that is due or asked for now; None if not."""
        identification = self.identification
        if identification is None:
            return None
        arrays = identification.copy_now() if now else identification.take_copy()
        if arrays is None:
            return None
        if self._pending_looks is not None:  # the newest is enough, also where the disk is slower than these come
            self._pending_looks.arrays = None
        gallery = self.settings.tracker.gallery
        self._pending_looks = PendingLooks(self.name, self.epoch, seq, gallery, self._n_corrections, arrays)
        return self._pending_looks

    @property
    def _n_corrections(self) -> int:
        return 0 if self.tracker.corrections is None else self.tracker.corrections.count

    def continue_looks(self, looks: Looks, frames: Sequence[FrameRecord], last_seq: int) -> None:
        """Continue with what an earlier daemon has learnt, after the tracker is where it was.

        Args:
            looks: of this stream and epoch.
            frames: those of the journal, by rising seq; the ones since the looks are taken again.
            last_seq: of the last frame that was settled.

        Raises:
            KeyError, ValueError: the looks cannot be used; nothing has changed.
        """
        settings = self.settings.tracker
        if self.identification is None:
            return
        if looks.gallery != settings.gallery:
            raise ValueError(f"they began with the gallery {looks.gallery!r}; the stream has {settings.gallery!r}")
        if looks.seq > last_seq:
            raise ValueError(f"they are of seq {looks.seq}, and the journal ends at {last_seq}")
        later = [record for record in frames if record.epoch == self.epoch and record.seq > looks.seq]
        known, live = self._n_corrections, set(self.live.ids.tolist())
        identification = Identification.continued(self._gallery(settings), looks, known)
        if [record.seq for record in later] == list(range(looks.seq + 1, last_seq + 1)):
            for record in later:
                if record.status == Status.TRACKED:
                    extents = record.body["boxes"] if record.body.get("extents") is None else record.body["extents"]
                    identification.replay(record.frame_index, record.t_ns, extents, assignment_of(record))
        elif known != looks.corrections:
            raise ValueError(
                f"ids were corrected after seq {looks.seq}, and the journal does not have all frames since then"
            )
        else:
            identification.interrupt(live)
        self.identification = identification

    @property
    def n_live(self) -> int:
        """Number of live tracks."""
        return len(self.tracker.window.placed)

    @property
    def live(self) -> LiveTracks:
        """The live tracks."""
        return self.tracker.live()

    @staticmethod
    def _clip_length(settings: StreamSettings) -> int | None:
        return settings.dataset.clip_length if settings.dataset.chunk else None
