"""One recording of a stream's published messages: what waits to be written, and its counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trackd_client.message_log.record import Kind, Record, gap
from trackd_client.protocol.arrays import Part

MOST_WAITING_BYTES = 32 * 1024 * 1024  # of one recording


@dataclass(slots=True, eq=False)
class Recording:
    """A stream that is recorded. The IO thread puts messages, and the thread of the recorder writes them.

    Attributes:
        stream: its name.
        name: of the folder.
        author: who started it, as the client says.
        t_ns: when it was started, Unix ns.
        hand_over: takes a record for the recorder's thread, and does not wait.
        started_ns: monotonic.
        after_seq: it begins after this settlement.
        is_started: its first file exists.
        messages: that were handed over.
        missing: settlements that were not, since too much waited.
        written_bytes: of its files.
        ended_ns: monotonic; 0: it has not ended.
        reason: why it ended, where nobody stopped it.
    """

    stream: str
    name: str
    author: str
    t_ns: int
    hand_over: Callable[[Recording, Record], None]
    started_ns: int
    after_seq: int = -1
    is_started: bool = False
    messages: int = 0
    missing: int = 0
    written_bytes: int = 0
    ended_ns: int = 0
    reason: str | None = None
    _put_bytes: int = 0  # written by the IO thread alone
    _taken_bytes: int = 0  # written by the recorder's thread alone
    _gap: tuple[int, int, int] | None = None  # epoch, first and last seq that are missing

    def put(self, topic: bytes, parts: Sequence[Part], nbytes: int, epoch: int = -1, seq: int = -1) -> None:
        """Hand a published message over to be written; it is left out while too much waits.

        Args:
            topic: of the message.
            parts: its header and arrays, which are not changed afterwards.
            nbytes: of the parts.
            epoch: of a settlement; −1: the message is an event.
            seq: of the settlement.
        """
        if self._put_bytes - self._taken_bytes + nbytes > MOST_WAITING_BYTES:
            self._leave_out(epoch, seq)
            return
        if self._gap is not None:
            self._hand_over_gap()
        self._put_bytes += nbytes
        self.messages += 1
        # The parts stay views of the arrays here; the recorder's thread copies them.
        self.hand_over(self, Record(Kind.MESSAGE, time.time_ns(), time.monotonic_ns(), (topic, *parts)))  # type: ignore[arg-type]

    def taken(self, nbytes: int) -> None:
        """Note that a record was written or left; called by the recorder's thread."""
        self._taken_bytes += nbytes

    def as_map(self) -> dict[str, Any]:
        """Return what clients are told of it, as plain values."""
        until_ns = self.ended_ns or time.monotonic_ns()
        return {
            "recording": self.name,
            "author": self.author,
            "t_ns": self.t_ns,
            "seconds": round((until_ns - self.started_ns) / 1e9, 3),
            "messages": self.messages,
            "missing": self.missing,
            "bytes": self.written_bytes,
        }

    def _leave_out(self, epoch: int, seq: int) -> None:
        if seq < 0:  # an event; settlements are what a reader counts
            return
        self.missing += 1
        if self._gap is not None and self._gap[0] != epoch:
            self._hand_over_gap()
        self._gap = (epoch, seq if self._gap is None else self._gap[1], seq)

    def _hand_over_gap(self) -> None:
        if self._gap is not None:
            epoch, first, last = self._gap
            self._gap = None
            self.hand_over(self, gap(time.time_ns(), time.monotonic_ns(), self.stream, epoch, first, last))
