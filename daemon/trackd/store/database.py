"""The journal: its tables, and the head file beside them."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from trackd.crash_points import crash_point
from trackd.store import schema
from trackd.store.checksums import NO_LINK, frame_checksum, opening_checksum, snapshot_checksum
from trackd.store.codec import pack, unpack
from trackd.store.frame_table import FrameTable, Row
from trackd.store.head_file import FILE_NAME as HEAD_NAME
from trackd.store.head_file import HeadFile, Slot, SlotState, read_head
from trackd.store.journal_file import JournalFile, one_line, repair_hint
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord, StoredStream
from trackd.store.retention import Retention
from trackd.store.verify import hole, verify, was_closed
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_OPEN = SlotState.OPEN  # read for every frame
_NEW = Slot(SlotState.OPEN, 0, 0, -1, NO_LINK)  # of a stream before its first record
_NAMED = 8  # streams in one line of the log


class Database:
    """One journal file.

    Args:
        path: the file; created if absent.
        sync: whether a commit waits for the disk, and so survives a power failure; else it survives a killed process.
        max_bytes: the bound of the file, over all streams.
        history_frames: how many frames before a snapshot stay, for streams without a setting of their own.

    Raises:
        ConfigError: the file is damaged, of another version, used by another daemon, or not writable.
    """

    def __init__(self, path: Path, sync: bool, max_bytes: int, history_frames: int) -> None:
        self.path = path
        self._file = JournalFile(path, sync)
        try:
            self._head, self._holes = self._compare_with_head()
            self._frames = FrameTable(self._file)
            self._retention = Retention(self._file, self._frames, max_bytes, history_frames)
        except ConfigError:
            self._file.close()
            raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # damaged bytes, columns or types
            self._file.close()
            raise ConfigError(f"{path} is damaged: {one_line(error)}. {repair_hint(path)}") from None

    def _compare_with_head(self) -> tuple[HeadFile, dict[str, str]]:
        """Verify all rows; return the head file, and for each stream that lacks frames what it lacks.

        Streams whose close is in the head file only are deleted here.

        Raises:
            ConfigError: a row does not match its checksum.
        """
        path, head = self.path, read_head(self.path.with_name(HEAD_NAME))
        verified = verify(self._file.db, head.slots)
        self._file.db.text_factory = str
        if verified.faults:
            more = f" (and {len(verified.faults) - 1} more)" if len(verified.faults) > 1 else ""
            raise ConfigError(f"{path} is damaged: {verified.faults[0]}{more}. {repair_hint(path)}")
        if head.damage is not None:
            logger.error("%s is damaged: %s", path.with_name(HEAD_NAME), head.damage)
        slots: dict[str, Slot] = {}
        holes: dict[str, str] = {}
        for stream, rows in verified.streams.items():
            slot = head.slots.get(stream)
            if was_closed(rows, slot):
                self._file.db.execute("DELETE FROM frames WHERE stream = ?", (stream,))
                self._delete_stream(stream)
                slots[stream] = head.slots[stream]
                continue
            slots[stream] = Slot(SlotState.OPEN, rows.epoch, rows.revision, rows.last_seq, rows.checksum)
            reason = hole(path, stream, rows, head, self._file.upgraded)
            if reason is not None:
                holes[stream] = reason
                last_seq = rows.last_seq if slot is None else max(rows.last_seq, slot.seq)
                # With this revision the next start finds the hole too, if this one stores no new epoch.
                slots[stream] = slots[stream]._replace(revision=rows.revision + 1, seq=last_seq)
        lost = [
            f"{stream!r} (epoch {slot.epoch}, seq up to {slot.seq})"
            for stream, slot in head.slots.items()
            if slot.state is SlotState.OPEN and stream not in verified.streams
        ]
        if lost:
            logger.error(
                "%s lacks %d streams that were open, and their frames: %s. Each begins a new epoch when it is opened",
                path, len(lost), ", ".join(lost[:_NAMED]) + (", …" if len(lost) > _NAMED else ""),
            )  # fmt: skip
        self._highest_epoch = max(verified.highest_epoch, head.highest_epoch)
        return HeadFile(path.with_name(HEAD_NAME), slots, self._highest_epoch), holes

    @property
    def highest_epoch(self) -> int:
        """The highest epoch of any stream that this journal has had, closed ones included."""
        return self._highest_epoch

    def write(self, records: Sequence[Record]) -> None:
        """Write a batch in one transaction. The batch is durable when this returns.

        Raises:
            sqlite3.Error, OSError: nothing of the batch was written, and the call may be repeated.
        """
        if not self._file.folder.is_unchanged():
            self._file.restore_if_missing()
            self._head.restore_if_missing()
            self._file.folder.remember()
        if len(records) == 1 and isinstance(records[0], FrameRecord) and not self._retention.trim_due:
            self._write_frame(records[0])
        else:
            self._write_batch(records)

    def _write_frame(self, record: FrameRecord) -> None:
        """Write one frame. One statement is a transaction of its own, so SQLite is called once, not three times."""
        data = pack(record.body)
        if not self._retention.reserve(len(data)):
            self._write_batch([record])
            return
        row, slot = _row(record, data, self._head.slots.get(record.stream, _NEW))
        self._frames.insert([row])
        crash_point("before_head")
        self._head.write({record.stream: slot})
        self._retention.added(record.stream, record.seq, len(data))

    def _write_batch(self, records: Sequence[Record]) -> None:
        packed = [_packed(record) for record in records]
        n_frames = sum(isinstance(record, FrameRecord) for record in records)
        if n_frames < len(records):
            closing = [record.stream for record in records if isinstance(record, CloseRecord)]
            slots = self._head.slots
            self._head.write({name: slots[name]._replace(state=SlotState.CLOSING) for name in closing if name in slots})
        before = self._retention.state()
        changed: dict[str, Slot] = {}
        db = self._file.db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._retention.make_room(sum(map(len, packed)))
            rows: list[Row] = []
            for record, data in zip(records, packed, strict=True):
                slot = changed.get(record.stream) or self._head.slots.get(record.stream, _NEW)
                if isinstance(record, FrameRecord):
                    row, changed[record.stream] = _row(record, data, slot)
                    rows.append(row)
                    self._retention.added(record.stream, record.seq, len(data))
                else:
                    self._frames.insert(rows)
                    rows = []
                    changed[record.stream] = self._apply(record, data, slot)
            self._frames.insert(rows)
            if self._retention.trim_due:
                crash_point("before_trim")
                self._retention.trim(n_frames)
                crash_point("after_trim")
            highest_epoch = self._highest_epoch
            if n_frames < len(records):
                highest_epoch = max(highest_epoch, *(slot.epoch for slot in changed.values()))
                if highest_epoch > self._highest_epoch:
                    schema.write_number(db, schema.HIGHEST_EPOCH, highest_epoch)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._retention.restore(before)
            raise
        crash_point("before_head")
        try:
            self._head.write(changed, highest_epoch)
        except OSError:  # the same rows are written again at the next call
            self._retention.restore(before)
            raise
        self._highest_epoch = highest_epoch
        if n_frames < len(records) and any(isinstance(record, SnapshotRecord) for record in records):
            crash_point("after_snapshot")

    def _apply(self, record: Record, data: bytes, slot: Slot) -> Slot:
        """Write a row that is no frame; return the slot of its stream after it."""
        db, name = self._file.db, record.stream
        if isinstance(record, OpenRecord):
            if record.epoch != slot.epoch and record.first_seq == 0:
                slot = _NEW
            revision = slot.revision + 1
            checksum = opening_checksum(name, record.epoch, record.first_seq, revision, data)
            values = (name, record.epoch, record.first_seq, revision, checksum, data)
            db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)", values)
            self._retention.opened(name, record.opened)
            return Slot(SlotState.OPEN, record.epoch, revision, max(slot.seq, record.first_seq - 1), slot.checksum)
        if isinstance(record, SnapshotRecord):
            crash_point("before_snapshot")
            checksum = snapshot_checksum(name, record.epoch, record.seq, slot.checksum, data)
            values = (name, record.epoch, record.seq, slot.checksum, checksum, data)
            db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", values)
            crash_point("in_snapshot")
            self._retention.snapshot(name, record.seq)
            return slot
        self._delete_stream(name)
        self._retention.closed(name)
        return slot._replace(state=SlotState.CLOSED)

    def _delete_stream(self, name: str) -> None:
        for table in ("streams", "snapshots"):
            self._file.db.execute(f"DELETE FROM {table} WHERE stream = ?", (name,))

    def streams(self) -> Iterator[StoredStream]:
        """Read the streams that were open when the last daemon ended.

        Raises:
            ConfigError: a row is damaged.
        """
        try:
            query = "SELECT stream, epoch, first_seq, opened FROM streams ORDER BY stream"
            rows = self._file.db.execute(query).fetchall()
            for name, epoch, first_seq, data in rows:
                opened = unpack(data)
                self._retention.opened(name, opened)
                yield StoredStream(
                    OpenRecord(name, epoch, first_seq, opened), self._snapshot(name, epoch), self._stored_frames(name),
                    self._head.slots[name].seq, self._holes.get(name),
                )  # fmt: skip
        except (sqlite3.Error, ValueError, TypeError) as error:  # damaged bytes, columns or types
            raise ConfigError(f"{self.path} is damaged: {one_line(error)}. {repair_hint(self.path)}") from None

    def _snapshot(self, name: str, epoch: int) -> SnapshotRecord | None:
        query = "SELECT seq, state FROM snapshots WHERE stream = ? AND epoch = ?"
        row = self._file.db.execute(query, (name, epoch)).fetchone()
        return None if row is None else SnapshotRecord(name, epoch, row[0], unpack(row[1]))

    def _stored_frames(self, name: str) -> list[FrameRecord]:
        return [
            FrameRecord(stream, epoch, seq, frame_index, t_ns, status, reason, unpack(body))
            for stream, seq, epoch, frame_index, t_ns, status, reason, _, _, body in self._frames.select(
                name, self._retention.seqs(name)
            )
        ]

    def written(self, stream: str, seq: int) -> None:
        """Note that no restart has to write a stream's frames up to `seq` to its outputs again. For any thread."""
        self._retention.written(stream, seq)

    def fold(self) -> None:
        """Copy the write-ahead log into the file and truncate the log."""
        self._file.fold()
        self._head.forget_closed()

    def close(self) -> None:
        """Close the files."""
        self._head.close()
        self._file.close()


def _row(record: FrameRecord, data: bytes, slot: Slot) -> tuple[Row, Slot]:
    """Return a frame's row, and the slot of its stream after it."""
    values = (
        record.stream, record.seq, record.epoch, record.frame_index, record.t_ns, record.status, record.reason,
        slot.checksum,
    )  # fmt: skip
    checksum = frame_checksum(*values, data)
    return (*values, checksum, data), Slot(_OPEN, record.epoch, slot.revision, record.seq, checksum)


def _packed(record: Record) -> bytes:
    if isinstance(record, FrameRecord):
        return pack(record.body)
    if isinstance(record, OpenRecord):
        return pack(dict(record.opened))
    return pack(record.state) if isinstance(record, SnapshotRecord) else b""
