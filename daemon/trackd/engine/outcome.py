"""What the engine hands back for each frame: how it ended, and what the tracker said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trackd.engine.queue import StreamQueue
from trackd.store.records import Record
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment
from trackd_client.detections import Detections
from trackd_client.protocol import ErrorCode, FrameHead, Status


@dataclass(slots=True, eq=False)  # frozen ones take three times as long to make
class Settlement:
    """The end of one frame. Times are monotonic ns."""

    queue: StreamQueue
    head: FrameHead
    epoch: int
    status: Status
    received_ns: int
    taken_ns: int  # when the engine took it up
    encoded_ns: int  # when its features were there
    associated_ns: int  # when its ids were there
    reason: str | None = None
    code: ErrorCode | None = None
    detections: Detections | None = None  # of a tracked frame
    instances: Instances | None = None
    assignment: Assignment | None = None
    records: tuple[Record, ...] = ()  # what must be stored before this is handed on

    @property
    def nbytes(self) -> int:
        """About what it takes while it waits to be stored."""
        masks = None if self.detections is None else self.detections.masks
        return sum(record.nbytes for record in self.records) + (0 if masks is None else masks.nbytes)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The end of a command; `done` is to be called on the IO thread."""

    done: Callable[[Any, Exception | None], None]
    result: Any
    error: Exception | None
    records: tuple[Record, ...] = ()

    @property
    def nbytes(self) -> int:
        """About what it takes while it waits to be stored."""
        return sum(record.nbytes for record in self.records)


Outcome = Settlement | CommandResult
