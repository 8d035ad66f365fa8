"""The records of the journal: a stream's opening, its settled frames, snapshots of its tracker, its close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trackd.store.codec import nbytes
from trackd.tracking.window import State

_OVERHEAD_BYTES = 1024  # of a record without its arrays


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """A stream's opening, with all that a restart needs to open it again."""

    stream: str
    epoch: int
    first_seq: int  # of this epoch
    opened: Mapping[str, Any]  # settings, skeleton, frame_shape, model, reply_tracks, source: as on the wire

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _OVERHEAD_BYTES


@dataclass(slots=True)
class FrameRecord:
    """One settled frame: the tracker's input and its result."""

    stream: str
    epoch: int
    seq: int
    frame_index: int
    t_ns: int
    status: str
    reason: str | None = None
    body: State = field(default_factory=dict)  # of a tracked frame: detections, features, assignment
    nbytes: int = field(init=False, compare=False)  # about how many bytes it takes in memory

    def __post_init__(self) -> None:
        self.nbytes = _OVERHEAD_BYTES + nbytes(self.body)


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The tracker's state after a frame. A restart replays only later frames."""

    stream: str
    epoch: int
    seq: int  # −1 before the first frame
    state: State

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _OVERHEAD_BYTES + nbytes(self.state)


@dataclass(frozen=True, slots=True)
class CloseRecord:
    """A stream's close."""

    stream: str

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _OVERHEAD_BYTES


Record = OpenRecord | FrameRecord | SnapshotRecord | CloseRecord


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream as it was when the daemon ended."""

    opened: OpenRecord
    snapshot: SnapshotRecord | None
    frames: list[FrameRecord]  # those for history and all since the snapshot, by rising seq
    last_seq: int  # of the last frame that was acked, whether or not it is in `frames`
    hole: str | None  # which of the frames that were acked are missing; None: none

    def in_new_epoch(self, epoch: int) -> StoredStream:
        """Return the stream after its last frame, without tracks; its frames stay for the history."""
        opened = replace(self.opened, epoch=epoch, first_seq=self.last_seq + 1)
        return replace(self, opened=opened, snapshot=None, hole=None)
