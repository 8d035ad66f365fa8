"""The journal's SQLite file: what is in which table, and nothing about when."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from trackd.store.codec import DamagedError, pack, unpack
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord, StoredStream
from trackd_client.configuration import ConfigError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL, opened BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, state BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, frame_index INTEGER NOT NULL,
    t_ns INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, body BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
"""


class Database:
    """One journal file.

    Args:
        path: the file; made if absent.
        sync: whether a commit waits for the disk (survives a power failure) or only for the system (kill -9).

    Raises:
        ConfigError: the file cannot be used: damaged, of another version, or not to be opened.
    """

    def __init__(self, path: Path, sync: bool) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise ConfigError(
                    f"{path} is a journal of version {version}; this trackd reads {SCHEMA_VERSION}. {WAY_OUT}"
                )
            if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise ConfigError(f"{path} is damaged. {WAY_OUT}")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"daemon.state_dir: {path} cannot be used: {error}. {WAY_OUT}") from None

    def write(self, records: Iterable[Record], kept_frames: int) -> None:
        """Write a batch in one transaction; after it returns, the batch survives.

        Args:
            records: in order.
            kept_frames: how many frames before a snapshot stay, for history.

        Raises:
            sqlite3.Error: nothing of the batch is written.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for record in records:
                self._apply(record, kept_frames)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _apply(self, record: Record, kept_frames: int) -> None:
        name = record.stream
        if isinstance(record, FrameRecord):
            row = (
                name, record.seq, record.epoch, record.frame_index, record.t_ns, record.status, record.reason,
                pack(record.body),
            )  # fmt: skip
            self._db.execute("INSERT OR REPLACE INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        elif isinstance(record, OpenRecord):
            values = (name, record.epoch, record.first_seq, pack(dict(record.opened)))
            self._db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)", values)
        elif isinstance(record, SnapshotRecord):
            values = (name, record.epoch, record.seq, pack(record.state))
            self._db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", values)
            self._db.execute("DELETE FROM frames WHERE stream = ? AND seq <= ?", (name, record.seq - kept_frames))
        else:
            assert isinstance(record, CloseRecord)
            for table in ("streams", "snapshots", "frames"):
                self._db.execute(f"DELETE FROM {table} WHERE stream = ?", (name,))

    def streams(self) -> Iterator[StoredStream]:
        """All streams that were open.

        Raises:
            ConfigError: a row is damaged.
        """
        try:
            for name, epoch, first_seq, opened in self._db.execute("SELECT * FROM streams ORDER BY stream").fetchall():
                yield StoredStream(
                    OpenRecord(name, epoch, first_seq, unpack(opened)), self._snapshot(name, epoch), self._frames(name)
                )
        except (sqlite3.Error, DamagedError) as error:
            raise ConfigError(f"{self.path} is damaged: {error}. {WAY_OUT}") from None

    def _snapshot(self, name: str, epoch: int) -> SnapshotRecord | None:
        query = "SELECT seq, state FROM snapshots WHERE stream = ? AND epoch = ?"
        row = self._db.execute(query, (name, epoch)).fetchone()
        return None if row is None else SnapshotRecord(name, epoch, row[0], unpack(row[1]))

    def _frames(self, name: str) -> list[FrameRecord]:
        query = "SELECT seq, epoch, frame_index, t_ns, status, reason, body FROM frames WHERE stream = ? ORDER BY seq"
        return [
            FrameRecord(name, epoch, seq, frame_index, t_ns, status, reason, unpack(body))
            for seq, epoch, frame_index, t_ns, status, reason, body in self._db.execute(query, (name,))
        ]

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file, so that it does not grow."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


WAY_OUT = "Move it away to start without it: its streams then begin afresh"
