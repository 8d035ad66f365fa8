"""A stream as its log has it: read by the member that takes the stream over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trackd.fleet.batch import WrittenNote, decode_batch
from trackd.store.checksums import NO_LINK
from trackd.store.codec import DamagedError
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, SnapshotRecord, StoredStream


@dataclass(slots=True)
class StoredLog:
    """What the messages of a log add up to; `add` them in order.

    Attributes:
        first: the sequence from which it is read; what is before it is history, and read later.
        epoch: the highest epoch that the stream has had, 0 for none; a new one must be above it.
        link: the checksum of the last frame.
        written_seq: up to which seq the output files of the last owner have all frames; None: it has said nothing.
        spans: of each message with frames: its sequence and the seq of its last frame, for `Retention`.
    """

    stream: str
    first: int = 1
    epoch: int = 0
    link: int = NO_LINK
    spans: list[tuple[int, int]] = field(default_factory=list)
    opened: OpenRecord | None = None
    written_seq: int | None = None
    _snapshot: SnapshotRecord | None = None
    _frames: list[FrameRecord] = field(default_factory=list)
    _hole: str | None = None

    def add(self, sequence: int, term: int, data: bytes) -> None:
        """Add a message; without data it is a claim, with a term below 0 it cannot be read."""
        if term < 0:
            self._missing(f"message {sequence} of its log is not of a member of this fleet")
            return
        if not data:
            return
        try:
            records = decode_batch(self.stream, data)
        except DamagedError as error:
            self._missing(f"message {sequence} of its log cannot be read: {error}")
            return
        for record, link, checksum in records:
            if isinstance(record, FrameRecord):
                self._add_frame(record, link, checksum)
            elif isinstance(record, OpenRecord):
                if self.opened is None or record.epoch != self.opened.epoch:
                    self._snapshot = self._hole = None
                self.opened = record
                self.epoch = max(self.epoch, record.epoch)
            elif isinstance(record, SnapshotRecord):
                self._snapshot, self._hole = record, None  # what was missing before it is not needed
            elif isinstance(record, WrittenNote):
                self.written_seq = record.seq
            elif isinstance(record, CloseRecord):
                self.epoch = max(self.epoch, link)
                self.opened = self._snapshot = self._hole = self.written_seq = None
                self._frames, self.spans, self.link = [], [], NO_LINK
        if self._frames and any(isinstance(record, FrameRecord) for record, _, _ in records):
            self.spans.append((sequence, self._frames[-1].seq))

    def _add_frame(self, record: FrameRecord, link: int, checksum: int) -> None:
        if self._frames and link != self.link:
            self._missing(f"its log lacks frames between seq {self._frames[-1].seq} and {record.seq}")
        self._frames.append(record)
        self.link = checksum
        self.epoch = max(self.epoch, record.epoch)

    def _missing(self, what: str) -> None:
        if self._hole is None:
            self._hole = what

    @property
    def is_whole(self) -> bool:
        """Whether a stream was found, and all that is needed to open it."""
        stored = self.result()
        return stored is not None and stored.hole is None

    @property
    def frames(self) -> Sequence[FrameRecord]:
        """The frames, oldest first."""
        return self._frames

    def result(self) -> StoredStream | None:
        """Return the stream; None where it is not open, or was never opened."""
        if self.opened is None:
            return None
        first_seq = self.opened.first_seq
        last_seq = self._frames[-1].seq if self._frames else first_seq - 1
        snapshot = self._snapshot
        if snapshot is not None and snapshot.epoch != self.opened.epoch:
            snapshot = None
        if snapshot is not None:
            last_seq = max(last_seq, snapshot.seq)
        hole = self._hole or self._unreplayable(first_seq - 1 if snapshot is None else snapshot.seq)
        return StoredStream(self.opened, snapshot, self._frames, max(last_seq, first_seq - 1), hole)

    def _unreplayable(self, since: int) -> str | None:
        """Return what is missing between a snapshot and the first frame after it; None: nothing."""
        after = next((record.seq for record in self._frames if record.seq > since), None)
        if after is None or after == since + 1:
            return None
        return f"its log lacks the frames from seq {since + 1} to {after - 1}"
