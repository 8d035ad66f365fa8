"""A stream that this member owns."""

from __future__ import annotations

from dataclasses import dataclass

from trackd.fleet.retained import RetainedMessages
from trackd.store.records import CloseRecord, OpenRecord, Record, SnapshotRecord


@dataclass(slots=True)
class HeldStream:
    """What the next append of a stream needs; the event loop of the fleet's thread uses it."""

    term: int
    sequence: int  # of the last message of its log
    link: int  # the checksum of its last frame
    epoch: int  # the highest one so far
    retained: RetainedMessages
    opened: OpenRecord | None = None  # the last one
    base: int = 1  # the sequence from which a takeover must read

    def message(self, records: list[Record]) -> tuple[list[Record], int]:
        """Make the next message of these records.

        Returns:
            its records: where there is a snapshot, the opening too, so that the message can be the first one; and the
            base after it, 0 for the message itself.
        """
        base = self._base_with(records)  # compares with the opening before this message
        return self._complete(records), base

    def _base_with(self, records: list[Record]) -> int:
        for record in reversed(records):
            if isinstance(record, SnapshotRecord):
                return self.retained.base_of(record.seq)
            if isinstance(record, CloseRecord):
                return 0
            if isinstance(record, OpenRecord) and (self.opened is None or record.epoch != self.opened.epoch):
                return 0
        return self.base

    def _complete(self, records: list[Record]) -> list[Record]:
        whole: list[Record] = []
        has_opening = False
        for record in records:
            if isinstance(record, OpenRecord):
                self.opened, has_opening = record, True
            elif isinstance(record, SnapshotRecord) and not has_opening and self.opened is not None:
                whole.append(self.opened)
                has_opening = True
            whole.append(record)
        return whole
