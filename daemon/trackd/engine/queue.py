"""A stream's bounded queue and its ledger: every received frame until it is settled.

All fields are guarded by the inbox's lock, so that at any moment, on any thread,
received = tracked + dropped + rejected + queued.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trackd.engine.step_cost import StepCost
from trackd_client.protocol import ErrorCode, Frame, FrameHead, Status


@dataclass(slots=True, eq=False)  # a frozen dataclass takes three times as long to construct
class QueuedFrame:
    """A valid frame that waits for its step."""

    frame: Frame
    received_ns: int  # monotonic
    nbytes: int
    pairs: int = 0  # as `StepCost.pairs`, once its turn has come, of a frame whose step is measured; else 0


@dataclass(frozen=True, slots=True)
class Skip:
    """A frame that is settled without a step: dropped by a policy, or rejected because it is not valid."""

    head: FrameHead
    status: Status
    reason: str
    received_ns: int  # monotonic
    code: ErrorCode | None = None  # of a rejected frame

    def __lt__(self, other: Skip) -> bool:
        return self.head.seq < other.head.seq


AT_ONCE = -1  # as `Command.after_seq`: after no frame


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """Work for the engine thread between two frames of a stream."""

    after_seq: int  # due once every frame up to this one is settled; −1: at once
    run: Callable[[], Any]
    done: Callable[[Any, Exception | None], None]  # called on the IO thread, in order with the settlements


@dataclass(slots=True)
class Ledger:
    """The counts of a stream's frames."""

    received: int = 0
    queued: int = 0
    tracked: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    rejected: Counter[str] = field(default_factory=Counter)  # by error code

    def copy(self) -> Ledger:
        """Return an independent copy."""
        return Ledger(self.received, self.queued, self.tracked, self.dropped.copy(), self.rejected.copy())

    def add(self, other: Ledger) -> None:
        """Add another ledger's counts."""
        self.received += other.received
        self.queued += other.queued
        self.tracked += other.tracked
        self.dropped.update(other.dropped)
        self.rejected.update(other.rejected)


class StreamQueue:
    """The frames, skips and commands that wait for one stream; frames and skips are taken in the order of seq."""

    def __init__(self, stream: str, depth: int, cost: StepCost | None = None) -> None:
        self.stream = stream
        self.cost = cost or StepCost()
        self.depth = depth
        self.ledger = Ledger()
        self.settled_seq = -1
        self.active_tracks = 0
        self.nbytes = 0
        self.in_turn = False  # whether it waits in a lane of the inbox, or a thread runs its step or command
        self.lane: int | None = None  # in which it waits
        self.due: QueuedFrame | Skip | Command | None = None  # its next item, while it waits in a lane
        self.due_size = 0  # instances of it
        self._frames: deque[QueuedFrame] = deque()
        self._skips: list[Skip] = []
        self._commands: deque[Command] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def pending(self) -> bool:
        """Whether the engine has work here."""
        return bool(self._frames or self._skips or self._commands)

    @property
    def skips(self) -> int:
        """Number of frames that are decided but not yet published."""
        return len(self._skips)

    def put(self, item: QueuedFrame | Skip) -> None:
        """Append a frame that was just received."""
        self.ledger.received += 1
        self.ledger.queued += 1
        if isinstance(item, QueuedFrame):
            self._frames.append(item)
            self.nbytes += item.nbytes
        else:
            heapq.heappush(self._skips, item)

    def command(self, command: Command) -> None:
        """Append work for the engine thread."""
        self._commands.append(command)

    def shed_oldest(self, status: Status, reason: str, code: ErrorCode | None = None) -> int:
        """Turn the oldest waiting frame into a dropped or rejected one; returns the bytes that this frees."""
        oldest = self._frames.popleft()
        self.nbytes -= oldest.nbytes
        heapq.heappush(self._skips, Skip(oldest.frame.head, status, reason, oldest.received_ns, code))
        return oldest.nbytes

    def next(self) -> QueuedFrame | Skip | Command | None:
        """Return the next item that is due: commands first, then frames and skips by seq."""
        for command in self._commands:
            if command.after_seq <= self.settled_seq:
                return command
        if self._skips and (not self._frames or self._skips[0].head.seq < self._frames[0].frame.seq):
            return self._skips[0]
        return self._frames[0] if self._frames else None

    def remove(self, item: QueuedFrame | Skip | Command) -> None:
        """Remove what `next` returned."""
        if isinstance(item, QueuedFrame):
            self._frames.popleft()
            self.nbytes -= item.nbytes
        elif isinstance(item, Skip):
            heapq.heappop(self._skips)
        else:
            self._commands.remove(item)

    def book(self, seq: int, status: Status, reason: str | None, code: ErrorCode | None) -> None:
        """Count a settled frame."""
        self.ledger.queued -= 1
        self.settled_seq = seq
        if status is Status.TRACKED:
            self.ledger.tracked += 1
        elif status is Status.DROPPED:
            self.ledger.dropped[reason or "unknown"] += 1
        else:
            self.ledger.rejected[code or ErrorCode.INTERNAL] += 1
