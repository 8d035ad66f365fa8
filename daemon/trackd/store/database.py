"""The journal: its tables, and the frame log and the head file beside them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from trackd.crash_points import crash_point
from trackd.store import schema
from trackd.store.checksums import NO_LINK, frame_checksum, opening_checksum, snapshot_checksum
from trackd.store.codec import make_packer, pack, unpack
from trackd.store.frame_log import FrameLog
from trackd.store.frame_table import FrameTable, Row
from trackd.store.head_file import Slot, SlotState
from trackd.store.journal_file import JournalFile, one_line, repair_hint
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord, StoredStream
from trackd.store.retention import Retention
from trackd.store.segments import SEGMENT_BYTES
from trackd.store.start import start
from trackd_client.configuration import ConfigError

_OPEN = SlotState.OPEN  # read for every frame
_NEW = Slot(SlotState.OPEN, 0, 0, -1, NO_LINK)  # of a stream before its first record
_MOVED_ROWS = 512  # of the frame log, in one transaction


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
        self._pack = make_packer()
        try:
            self._frames = FrameTable(self._file)
            self._head, self._holes = start(self._file, self._frames)
            self._highest_epoch = self._head.highest_epoch
            self._slots = dict(self._head.slots)  # of each stream after its last record; the head file may be behind
            self._log = None if sync else FrameLog(path.parent, self._head)
            self._retention = Retention(self._file, self._frames, max_bytes, history_frames)
        except ConfigError:
            self._file.close()
            raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # damaged bytes, columns or types
            self._file.close()
            raise ConfigError(f"{path} is damaged: {one_line(error)}. {repair_hint(path)}") from None

    @property
    def highest_epoch(self) -> int:
        """The highest epoch of any stream that this journal has had, closed ones included."""
        return self._highest_epoch

    @property
    def unmoved(self) -> int:
        """How many frames are in the frame log and not in SQLite yet."""
        return 0 if self._log is None else len(self._log.rows)

    def append(self, records: Sequence[Record]) -> bool:
        """Write frames to the frame log, all of them or none; return whether it takes them. Else `write` must.

        They are durable when this returns True. This may run at the same time as `move`, `prepare_log` and `fold`.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        log = self._log
        if log is None:
            return False
        rows: list[Row] = []
        changed: dict[str, Slot] = {}
        nbytes = 0
        for record in records:
            if not isinstance(record, FrameRecord):
                return False
            data = self._pack(record.body)
            nbytes += len(data)
            stream = record.stream
            row, changed[stream] = _row(record, data, changed.get(stream) or self._slots.get(stream, _NEW))
            rows.append(row)
        if nbytes >= SEGMENT_BYTES or not log.append(rows):
            return False
        self._slots.update(changed)
        return True

    def move(self) -> bool:
        """Move frames from the frame log to SQLite, a part of them if there are many.

        Returns:
            False if files are missing. Then nothing is moved, and `restore` must be called.

        Raises:
            sqlite3.Error, OSError: nothing was moved, and the call may be repeated.
        """
        if not self._is_in_place():
            return False
        if self._log is not None and self._log.rows:
            self._commit(self._log.rows[:_MOVED_ROWS], [])
        return True

    def prepare_log(self) -> None:
        """Create the next file of the frame log if it is needed soon, and delete those whose frames were moved.

        Raises:
            OSError: a file cannot be created or deleted. The call may be repeated.
        """
        if self._log is not None:
            self._log.prepare()

    def write(self, records: Sequence[Record]) -> None:
        """Write what is in the frame log, and behind it a batch, in one transaction.

        The batch is durable when this returns. No `append` may run at the same time.

        Raises:
            sqlite3.Error, OSError: nothing of the batch was written, and the call may be repeated.
        """
        self.restore()
        unmoved = [] if self._log is None else self._log.rows[:]
        single = len(records) == 1 and not unmoved and not self._retention.trim_due
        if single and isinstance(records[0], FrameRecord):
            self._write_frame(records[0])
        else:
            self._commit(unmoved, records)

    def restore(self) -> None:
        """Write files again that were moved or deleted, with all of their contents. No `append` may run.

        Raises:
            sqlite3.Error, OSError: the files could not be written. The call may be repeated.
        """
        if self._is_in_place():
            return
        self._file.restore_if_missing()
        self._head.restore_if_missing()
        if self._log is not None and not self._log.is_in_place():
            if self._log.rows:
                self._commit(self._log.rows[:], [])
            self._log.start_over()
        self._file.folder.remember()

    def _is_in_place(self) -> bool:
        """Whether all files are at their paths."""
        if self._file.folder.is_unchanged():
            return True
        found = self._file.is_in_place() and self._head.is_in_place() and (not self._log or self._log.is_in_place())
        if found:
            self._file.folder.remember()
        return found

    def _write_frame(self, record: FrameRecord) -> None:
        """Write one frame. One statement is a transaction of its own, so SQLite is called once, not three times."""
        data = self._pack(record.body)
        if not self._retention.reserve(len(data)):
            self._commit([], [record])
            return
        row, slot = _row(record, data, self._slots.get(record.stream, _NEW))
        self._frames.insert([row])
        crash_point("before_head")
        self._head.write({record.stream: slot})
        self._slots[record.stream] = slot
        self._retention.added(record.stream, record.seq, len(data))

    def _commit(self, moved: Sequence[Row], records: Sequence[Record]) -> None:
        """Write the first rows of the frame log, and behind them records, in one transaction."""
        packed = [_packed(record) for record in records]
        n_frames = sum(isinstance(record, FrameRecord) for record in records)
        closing = [record.stream for record in records if isinstance(record, CloseRecord)]
        if closing:
            slots = self._slots
            self._head.write({name: slots[name]._replace(state=SlotState.CLOSING) for name in closing if name in slots})
        before = self._retention.state()
        changed: dict[str, Slot] = {}
        db = self._file.db
        if moved:
            crash_point("before_move")
        db.execute("BEGIN IMMEDIATE")
        try:
            self._retention.make_room(sum(map(len, packed)) + sum(len(row[-1]) for row in moved))
            for row in moved:
                changed[row[0]] = Slot(_OPEN, row[2], self._slots[row[0]].revision, row[1], row[8])
                self._retention.added(row[0], row[1], len(row[-1]))
            rows: list[Row] = list(moved)
            for record, data in zip(records, packed, strict=True):
                slot = changed.get(record.stream) or self._slots.get(record.stream, _NEW)
                if isinstance(record, FrameRecord):
                    row, changed[record.stream] = _row(record, data, slot)
                    rows.append(row)
                    self._retention.added(record.stream, record.seq, len(data))
                else:
                    self._frames.insert(rows)
                    rows = []
                    changed[record.stream] = self._apply(record, data, slot)
            self._frames.insert(rows)
            if moved:
                crash_point("in_move")
            if self._retention.trim_due:
                crash_point("before_trim")
                self._retention.trim(n_frames + len(moved))
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
        if records:  # else the streams may have later frames in the frame log already
            self._slots.update(changed)
        if moved and self._log is not None:
            self._log.moved(len(moved))
            crash_point("after_move")
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
        schema.delete_stream(self._file.db, name)
        self._retention.closed(name)
        return slot._replace(state=SlotState.CLOSED)

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
        for stream in self._head.forget_closed():
            self._slots.pop(stream, None)

    def close(self) -> None:
        """Close the files. Those of the frame log are deleted if all of its frames were moved."""
        if self._log is not None:
            if not self._log.rows:
                with contextlib.suppress(OSError):  # the next start deletes them
                    self._log.start_over()
            self._log.close()
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
