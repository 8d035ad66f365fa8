"""The tables of the journal, and the conversion of earlier versions."""

from __future__ import annotations

import sqlite3

from trackd.store.checksums import NO_LINK, frame_checksum, number_checksum, opening_checksum, snapshot_checksum

VERSION = 3
SCHEMA = (
    """
CREATE TABLE streams (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL, revision INTEGER NOT NULL,
    checksum INTEGER NOT NULL, opened BLOB NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE snapshots (
    stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, link INTEGER NOT NULL,
    checksum INTEGER NOT NULL, state BLOB NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE frames (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, frame_index INTEGER NOT NULL,
    t_ns INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, link INTEGER NOT NULL, checksum INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (seq, stream)
) WITHOUT ROWID
""",
    "CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
)
HIGHEST_EPOCH = "highest_epoch"  # the name of its row in `numbers`
EARLIER_VERSIONS = (1, 2)
_TABLES = ("streams", "snapshots", "frames")


def create(db: sqlite3.Connection) -> None:
    """Create the tables in an empty file, in the caller's transaction."""
    for statement in SCHEMA:
        db.execute(statement)


def differs(db: sqlite3.Connection) -> str | None:
    """Return the name of a table that is missing or not defined as in this version; None if there is none.

    A statement that was damaged still reads rows, but may give them other columns or another order.
    """
    query = "SELECT name, sql FROM sqlite_schema"
    with sqlite3.connect(":memory:") as fresh:
        create(fresh)
        wanted = dict(fresh.execute(query).fetchall())
    fresh.close()
    found = dict(db.execute(query).fetchall())
    return next((name for name in wanted if found.get(name) != wanted[name]), None)


def upgrade(db: sqlite3.Connection) -> None:
    """Convert the tables of version 1 or 2, which have no checksums, in the caller's transaction."""
    for table in _TABLES:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    highest = 0
    for stream, epoch, first_seq, opened in db.execute("SELECT stream, epoch, first_seq, opened FROM old_streams"):
        checksum = opening_checksum(stream, epoch, first_seq, 0, opened)
        db.execute("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?)", (stream, epoch, first_seq, 0, checksum, opened))
        highest = max(highest, epoch)
    links: dict[tuple[str, int], int] = {}
    last: dict[str, int] = {}
    columns = "stream, seq, epoch, frame_index, t_ns, status, reason, body"
    for row in db.execute(f"SELECT {columns} FROM old_frames ORDER BY seq, stream"):
        stream, seq, epoch, frame_index, t_ns, status, reason, body = row
        link = last.get(stream, NO_LINK)
        checksum = frame_checksum(stream, seq, epoch, frame_index, t_ns, status, reason, link, body)
        db.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row[:7], link, checksum, body))
        last[stream] = links[stream, seq] = checksum
    for stream, epoch, seq, state in db.execute("SELECT stream, epoch, seq, state FROM old_snapshots"):
        link = links.get((stream, seq), NO_LINK)
        checksum = snapshot_checksum(stream, epoch, seq, link, state)
        db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", (stream, epoch, seq, link, checksum, state))
    write_number(db, HIGHEST_EPOCH, highest)
    for table in _TABLES:
        db.execute(f"DROP TABLE old_{table}")


def read_damaged_texts(db: sqlite3.Connection) -> None:
    """Let a connection return texts that are not valid UTF-8 with replacement characters, instead of an error."""
    db.text_factory = lambda text: text.decode("utf-8", "replace")


def write_number(db: sqlite3.Connection, name: str, value: int) -> None:
    """Store a number that concerns all streams, in the caller's transaction."""
    db.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?, ?)", (name, value, number_checksum(name, value)))
