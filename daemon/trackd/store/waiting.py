"""The outcomes that wait to be stored, in the journal or in the log of a fleet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from trackd.store.records import Record

_MAX_WAITING = 8192  # outcomes
_MAX_WAITING_BYTES = 256 * 1024 * 1024


class Outcome(Protocol):
    """A result of the engine, with the records that must be stored before it is published."""

    @property
    def records(self) -> Sequence[Record]:
        """The records, in order."""

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)
Sized = list[tuple[AnyOutcome, int]]  # outcomes, each with its bytes


def sized(outcomes: list[AnyOutcome]) -> Sized[AnyOutcome]:
    """Return each outcome with its bytes; apart from `add`, so that no lock is held meanwhile."""
    return [(outcome, outcome.nbytes) for outcome in outcomes]


class WaitingOutcomes(Generic[AnyOutcome]):
    """A queue in order. Its owner's lock guards it, and its owner waits while it is `full`; it refuses nothing.

    Args:
        most: outcomes that are taken together.
        most_bytes: after an outcome with which they have this size, no more are taken with them.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.queue: deque[tuple[AnyOutcome, int]] = deque()  # with its bytes; others only look whether it is empty
        self._nbytes = 0

    @property
    def full(self) -> bool:
        """Whether no more should be added; may be read without the lock."""
        return len(self.queue) > _MAX_WAITING or self._nbytes > _MAX_WAITING_BYTES

    def add(self, outcomes: Sized[AnyOutcome]) -> None:
        """Add outcomes at the end."""
        self.queue.extend(outcomes)
        self._nbytes += sum(size for _, size in outcomes)

    def add_first(self, outcomes: Sized[AnyOutcome]) -> None:
        """Add outcomes in front of all others."""
        self.queue.extendleft(reversed(outcomes))
        self._nbytes += sum(size for _, size in outcomes)

    def take(self) -> list[AnyOutcome]:
        """Remove and return the next ones; empty if there are none."""
        batch: list[AnyOutcome] = []
        nbytes = 0
        while self.queue and len(batch) < self._most and nbytes < self._most_bytes:
            outcome, size = self.queue.popleft()
            batch.append(outcome)
            nbytes += size
        self._nbytes -= nbytes
        return batch
