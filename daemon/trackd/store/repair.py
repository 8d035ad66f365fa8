"""Check a journal that no daemon uses, and save what can be saved of a damaged one."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackd.store import schema
from trackd.store.checksums import NO_LINK
from trackd.store.head_file import FILE_NAME as HEAD_NAME
from trackd.store.head_file import Head, HeadFile, Slot, SlotState, read_head
from trackd.store.journal import FILE_NAME as JOURNAL_NAME
from trackd.store.journal_file import one_line
from trackd.store.state_dir import StateDir
from trackd.store.verify import TABLES, Fault, StreamRows, Verified, hole, matches, verify, was_closed
from trackd_client.configuration import ConfigError

_FILES = (JOURNAL_NAME, f"{JOURNAL_NAME}-wal", HEAD_NAME)
_DAMAGED = "journal.damaged"  # the folder of the files that a repair has replaced


@dataclass(slots=True)
class Report:
    """The state of a journal.

    Attributes:
        streams: what is stored of each stream.
        holes: by stream, which settled frames are missing.
        lost: the streams that were open and cannot be opened again.
        faults: the rows and files that are damaged.
        kept: the folder of the damaged files, after a repair.
    """

    streams: dict[str, StreamRows] = field(default_factory=dict)
    holes: dict[str, str] = field(default_factory=dict)
    lost: dict[str, Slot] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    kept: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged and nothing is missing."""
        return not (self.holes or self.lost or self.faults)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        for fault in self.faults:
            yield f"damaged: {fault}"
        for stream, rows in sorted(self.streams.items()):
            frames = "no frames" if rows.last_seq < 0 else f"frames up to seq {rows.last_seq}"
            yield f"stream {stream!r} epoch {rows.epoch}: {frames}; {self.holes.get(stream, 'complete')}"
        for stream, slot in sorted(self.lost.items()):
            yield f"stream {stream!r} epoch {slot.epoch}: lost; it was settled up to seq {slot.seq}"


def check(state_dir: Path) -> Report:
    """Read a journal and compare it with its checksums; change nothing.

    Returns:
        What the journal holds; for a damaged one, what `repair` would save.

    Raises:
        ConfigError: the folder has no journal, or a daemon uses it.
    """
    with _copied(state_dir) as (copy, head):
        return _examine(state_dir, copy, head)[0]


def repair(state_dir: Path) -> Report:
    """Replace a damaged journal by one with all that can be saved. The damaged files are kept in a folder beside it.

    A stream whose settings can be read stays. Its frames stay up to the first one after its snapshot that is damaged;
    a stream that lacks settled frames begins a new epoch when the daemon starts. A journal without damage is not
    changed.

    Raises:
        ConfigError: the folder has no journal, or a daemon uses it.
        OSError: the disk is full or cannot be written. The journal is as before.
    """
    with _copied(state_dir) as (copy, head):
        report, saved = _examine(state_dir, copy, head)
        if report.faults:
            _write_head(copy.with_name("new") / HEAD_NAME, report, saved, head)
            report.kept = _replace(state_dir, copy.with_name("new"))
        return report


def _examine(state_dir: Path, copy: Path, head: Head) -> tuple[Report, Verified]:
    """Verify a copy; save what can be saved of a damaged one into the folder `new` beside it."""
    verified, upgraded, faults = _read(copy, head)
    faults += map(str, verified.faults)
    if head.damage is not None:
        faults.append(f"{state_dir / HEAD_NAME}: {head.damage}")
    if faults:
        new = copy.with_name("new")
        new.mkdir()
        verified = _save(copy, new / JOURNAL_NAME, max(verified.highest_epoch, head.highest_epoch))
    return _report(state_dir, verified, head, upgraded, list(dict.fromkeys(faults))), verified


def _report(state_dir: Path, verified: Verified, head: Head, upgraded: bool, faults: list[str]) -> Report:
    path = state_dir / JOURNAL_NAME
    report = Report(faults=faults)
    for stream, rows in verified.streams.items():
        if not was_closed(rows, head.slots.get(stream)):
            report.streams[stream] = rows
            reason = hole(path, stream, rows, head, upgraded)
            if reason is not None:
                report.holes[stream] = reason
    report.lost = {
        stream: slot
        for stream, slot in head.slots.items()
        if slot.state is SlotState.OPEN and stream not in verified.streams
    }
    return report


@contextmanager
def _copied(state_dir: Path) -> Iterator[tuple[Path, Head]]:
    """Lock the folder, and give a copy of the journal and the content of its head file.

    SQLite writes to a file that it reads, as when it applies the log. So only a copy is opened.
    """
    if not any((state_dir / name).exists() for name in _FILES):
        raise ConfigError(f"{state_dir} has no journal; its file would be {state_dir / JOURNAL_NAME}")
    try:
        folder = StateDir(state_dir)
    except BlockingIOError:
        raise ConfigError(f"{state_dir} is used by a daemon; stop it first") from None
    try:
        with tempfile.TemporaryDirectory(prefix=".repair-", dir=state_dir) as copies:
            for name in _FILES[:2]:
                if (state_dir / name).exists():
                    shutil.copy(state_dir / name, copies)
            yield Path(copies) / JOURNAL_NAME, read_head(state_dir / HEAD_NAME)
    finally:
        folder.close()


def _open(copy: Path) -> sqlite3.Connection:
    db = sqlite3.connect(copy, isolation_level=None)
    schema.read_damaged_texts(db)
    return db


def _read(copy: Path, head: Head) -> tuple[Verified, bool, list[str]]:
    """Verify a copy as far as it can be read; return also whether it is of an earlier version, and its damage."""
    faults: list[str] = []
    upgraded = False
    try:
        with closing(_open(copy)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version in schema.EARLIER_VERSIONS:
                upgraded = True
                db.execute("BEGIN")
                schema.upgrade(db)
                db.execute("COMMIT")
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                faults.append("the pages of the file are not consistent")
            if (table := schema.differs(db)) is not None:
                faults.append(f"the table {table!r} is missing or defined otherwise")
            return verify(db, head.slots), upgraded, faults
    except sqlite3.Error as error:
        return Verified(), upgraded, [*faults, f"{JOURNAL_NAME} cannot be read to its end: {one_line(error)}"]


def _save(copy: Path, new: Path, highest_epoch: int) -> Verified:
    """Write all rows that match their checksums and continue each other to a new file; return what it holds."""
    with closing(_open(copy)) as old, closing(_open(new)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        schema.create(db)
        for name, table in TABLES.items():
            for row in _readable(old, name):
                if matches(row, table.checksums):
                    marks = ", ".join("?" * len(row))
                    db.execute(f"INSERT OR IGNORE INTO {name} ({table.columns}) VALUES ({marks})", row)
        schema.write_number(db, schema.HIGHEST_EPOCH, highest_epoch)
        while (saved := verify(db, {})).faults:
            for fault in saved.faults:
                _resolve(db, fault)
        schema.write_number(db, schema.HIGHEST_EPOCH, saved.highest_epoch)
        db.execute(f"PRAGMA user_version = {schema.VERSION}")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return saved


def _readable(db: sqlite3.Connection, name: str) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a table from its start to a damaged page, then from its end back to one."""
    for order in ("", " DESC"):
        try:
            yield from db.execute(TABLES[name].query_of(name, order))
        except sqlite3.Error:
            continue
        return


def _resolve(db: sqlite3.Connection, fault: Fault) -> None:
    """Delete the rows that contradict others. Each row matches its own checksum."""
    stream, seq = fault.stream, fault.seq
    first_seq = db.execute("SELECT first_seq FROM streams WHERE stream = ?", (stream,)).fetchone()
    snapshot = db.execute("SELECT seq FROM snapshots WHERE stream = ?", (stream,)).fetchone()
    if first_seq is None:  # its settings are lost
        db.execute("DELETE FROM frames WHERE stream = ?", (stream,))
    elif snapshot is not None and snapshot[0] == seq:
        db.execute("DELETE FROM snapshots WHERE stream = ?", (stream,))
        db.execute("DELETE FROM frames WHERE stream = ? AND seq < ?", (stream, seq))
    elif seq > (first_seq[0] - 1 if snapshot is None else snapshot[0]):  # a restart would need the frame before it
        db.execute("DELETE FROM frames WHERE stream = ? AND seq >= ?", (stream, seq))
    else:
        db.execute("DELETE FROM frames WHERE stream = ? AND seq < ?", (stream, seq))


def _write_head(path: Path, report: Report, saved: Verified, head: Head) -> None:
    """Write a head file that keeps what the old one states of the saved streams."""
    slots = {stream: slot for stream, slot in head.slots.items() if slot.state is SlotState.CLOSED}
    for stream, rows in report.streams.items():
        slot = head.slots.get(stream)
        behind = stream in report.holes
        epoch, seq = rows.epoch, rows.last_seq
        if slot is not None and slot.epoch >= rows.epoch:
            epoch, seq = slot.epoch, max(seq, slot.seq)
        slots[stream] = Slot(SlotState.OPEN, epoch, rows.revision + behind, seq, rows.checksum or NO_LINK)
    HeadFile(path, slots, max(saved.highest_epoch, head.highest_epoch)).close()


def _replace(state_dir: Path, new: Path) -> Path:
    """Move the damaged files into a folder, and the new ones to their places; return the folder."""
    number = 1
    while (kept := state_dir / f"{_DAMAGED}.{number}").exists():
        number += 1
    kept.mkdir(mode=0o700)
    for name in _FILES:
        if (state_dir / name).exists():
            (state_dir / name).rename(kept / name)
    for name in (HEAD_NAME, JOURNAL_NAME):
        (new / name).replace(state_dir / name)
    return kept
