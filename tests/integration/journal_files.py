"""A journal of a daemon that was killed, for tests that damage it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trackd.store.database import Database
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord, StoredStream

MB = 1024 * 1024
JOURNAL, LOG, HEAD = "journal.sqlite", "journal.sqlite-wal", "journal.head"
FILES = (JOURNAL, LOG, HEAD)


def opened(stream: str, epoch: int = 1, first_seq: int = 0) -> OpenRecord:
    return OpenRecord(stream, epoch, first_seq, {"settings": {"stream": {}}})


def frame(stream: str, seq: int, epoch: int = 1, nbytes: int = 200) -> FrameRecord:
    boxes = np.random.default_rng((len(stream), seq)).integers(0, 255, nbytes, np.uint8)
    return FrameRecord(stream, epoch, seq, 2 * seq, 1000 + seq, "tracked", None, {"boxes": boxes})


def snapshot(stream: str, seq: int, epoch: int = 1) -> SnapshotRecord:
    return SnapshotRecord(stream, epoch, seq, {"boxes": np.full(500, seq % 256, np.uint8)})


def open_database(folder: Path) -> Database:
    return Database(folder / JOURNAL, False, 4 * MB, 1000)


def kill(database: Database, to: Path) -> Path:
    """Copy the files as a kill of the daemon at this moment leaves them."""
    to.mkdir()
    for name in FILES:
        if (database.path.with_name(name)).exists():
            shutil.copy(database.path.with_name(name), to)
    return to


def write_all(database: Database, batches: Sequence[Sequence[Record]]) -> None:
    for batch in batches:
        database.write(batch)


def batches(n: int = 120, folded: int | None = None) -> list[list[Record]]:
    """Three streams: one with snapshots, one that is reset, and one that is closed and opened again."""
    rows: list[list[Record]] = [[opened("cam"), opened("reset"), opened("again")]]
    for seq in range(n):
        rows.append([frame("cam", seq), frame("reset", seq, 1 if seq < n // 2 else 2)])
        if seq % 25 == 24:
            rows.append([snapshot("cam", seq)])
        if seq == n // 2 - 1:
            rows.append([opened("reset", 2, n // 2), snapshot("reset", seq, 2)])
        if seq == n // 3:
            rows += [[frame("again", 0)], [CloseRecord("again")], [opened("again", 3)]]
        if seq > n // 3:
            rows.append([frame("again", seq - n // 3 - 1, 3)])
    return rows


def content(stored: StoredStream) -> tuple[object, ...]:
    """All that a restart reads of a stream, for comparison."""
    snapshot = stored.snapshot
    return (
        stored.opened,
        None if snapshot is None else (snapshot.epoch, snapshot.seq, snapshot.state["boxes"].tobytes()),
        [
            (row.seq, row.epoch, row.frame_index, row.t_ns, row.status, row.reason, row.body["boxes"].tobytes())
            for row in stored.frames
        ],
        stored.last_seq,
    )


def contents(database: Database) -> dict[str, tuple[object, ...]]:
    return {stored.opened.stream: content(stored) for stored in database.streams()}


def killed_files(folder: Path) -> Path:
    """Write a journal, and return its files as a kill leaves them: the last 50 transactions are in the log only."""
    database = open_database(folder)
    rows = batches()
    write_all(database, rows[:-50])
    database.fold()
    write_all(database, rows[-50:])  # fewer pages than SQLite copies into the file by itself
    killed = kill(database, folder / "killed")
    database.close()
    return killed


def acked_contents(killed: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    """Return all that a restart reads of the files of `killed_files`, from a copy in a new folder."""
    shutil.copytree(killed, folder)
    database = open_database(folder)
    found = contents(database)
    assert not database._holes
    database.close()
    assert set(found) == {"cam", "reset", "again"}
    return found
