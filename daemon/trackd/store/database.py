"""The tables of the journal's SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from trackd.crash_points import crash_point
from trackd.store import frame_table
from trackd.store.codec import pack, unpack
from trackd.store.frame_table import FrameTable, Row
from trackd.store.journal_file import WAY_OUT, JournalFile
from trackd.store.records import FrameRecord, OpenRecord, Record, SnapshotRecord, StoredStream
from trackd.store.retention import Retention
from trackd_client.configuration import ConfigError

SCHEMA_VERSION = 2
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL, opened BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, state BLOB NOT NULL
) WITHOUT ROWID;
{frame_table.SCHEMA}
"""
_UPGRADES = {1: frame_table.FROM_VERSION_1}


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
        self._file = JournalFile(path, sync, _SCHEMA, SCHEMA_VERSION, _UPGRADES)
        self._frames = FrameTable(self._file)
        self._retention = Retention(self._file, self._frames, max_bytes, history_frames)

    def write(self, records: Sequence[Record]) -> None:
        """Write a batch in one transaction. The batch is durable when this returns.

        Raises:
            sqlite3.Error, OSError: nothing of the batch was written, and the call may be repeated.
        """
        self._file.restore_if_missing()
        packed = [_packed(record) for record in records]
        before = self._retention.state()
        db = self._file.db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._retention.make_room(sum(map(len, packed)))
            rows: list[Row] = []
            for record, data in zip(records, packed, strict=True):
                if isinstance(record, FrameRecord):
                    rows.append((
                        record.stream, record.seq, record.epoch, record.frame_index, record.t_ns, record.status,
                        record.reason, data,
                    ))  # fmt: skip
                    self._retention.added(record.stream, record.seq, len(data))
                else:
                    self._frames.insert(rows)
                    rows = []
                    self._apply(record, data)
            self._frames.insert(rows)
            if self._retention.trim_due:
                crash_point("before_trim")
                self._retention.trim(sum(isinstance(record, FrameRecord) for record in records))
                crash_point("after_trim")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._retention.restore(before)
            raise
        if any(isinstance(record, SnapshotRecord) for record in records):
            crash_point("after_snapshot")

    def _apply(self, record: Record, data: bytes) -> None:
        db, name = self._file.db, record.stream
        if isinstance(record, OpenRecord):
            values = (name, record.epoch, record.first_seq, data)
            db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)", values)
            self._retention.opened(name, record.opened)
        elif isinstance(record, SnapshotRecord):
            crash_point("before_snapshot")
            values = (name, record.epoch, record.seq, data)
            db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", values)
            self._retention.snapshot(name, record.seq)
        else:
            for table in ("streams", "snapshots"):
                db.execute(f"DELETE FROM {table} WHERE stream = ?", (name,))
            self._retention.closed(name)

    def streams(self) -> Iterator[StoredStream]:
        """Read the streams that were open when the last daemon ended.

        Raises:
            ConfigError: a row is damaged.
        """
        try:
            rows = self._file.db.execute("SELECT * FROM streams ORDER BY stream").fetchall()
            for name, epoch, first_seq, data in rows:
                opened = unpack(data)
                self._retention.opened(name, opened)
                yield StoredStream(
                    OpenRecord(name, epoch, first_seq, opened), self._snapshot(name, epoch), self._stored_frames(name)
                )
        except (sqlite3.Error, ValueError, TypeError) as error:  # damaged bytes, columns or types
            raise ConfigError(f"{self.path} is damaged: {error}. {WAY_OUT}") from None

    def _snapshot(self, name: str, epoch: int) -> SnapshotRecord | None:
        query = "SELECT seq, state FROM snapshots WHERE stream = ? AND epoch = ?"
        row = self._file.db.execute(query, (name, epoch)).fetchone()
        return None if row is None else SnapshotRecord(name, epoch, row[0], unpack(row[1]))

    def _stored_frames(self, name: str) -> list[FrameRecord]:
        return [
            FrameRecord(stream, epoch, seq, frame_index, t_ns, status, reason, unpack(body))
            for stream, seq, epoch, frame_index, t_ns, status, reason, body in self._frames.select(
                name, self._retention.seqs(name)
            )
        ]

    def fold(self) -> None:
        """Copy the write-ahead log into the file and truncate the log."""
        self._file.fold()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _packed(record: Record) -> bytes:
    if isinstance(record, FrameRecord):
        return pack(record.body)
    if isinstance(record, OpenRecord):
        return pack(dict(record.opened))
    return pack(record.state) if isinstance(record, SnapshotRecord) else b""
