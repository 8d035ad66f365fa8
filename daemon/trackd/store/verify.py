"""Compare what the journal's tables hold with its checksums, and with the head file."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from trackd.store import schema
from trackd.store.checksums import NO_LINK, frame_checksum, number_checksum, opening_checksum, snapshot_checksum
from trackd.store.frame_table import COLUMNS
from trackd.store.head_file import FILE_NAME as HEAD_NAME
from trackd.store.head_file import Head, Slot, SlotState

Checksums = Callable[..., tuple[int, int]]  # of a row's values: the stored checksum, and the computed one


class Fault(NamedTuple):
    """A row that does not match its checksum."""

    stream: str  # "": it concerns all streams
    seq: int | None  # None: no frame
    what: str

    def __str__(self) -> str:
        seq = "" if self.seq is None else f" seq {self.seq}"
        return f"stream {self.stream!r}{seq}: {self.what}" if self.stream else self.what


@dataclass(slots=True)
class StreamRows:
    """What the tables hold of one stream.

    Attributes:
        epoch, first_seq, revision: of its row in `streams`.
        since: the seq after which a restart replays frames: that of the snapshot, or `first_seq` − 1.
        last_seq: of the last frame, or `since`.
        checksum: of the last frame's row.
        replayed: number of frames after `since`.
    """

    epoch: int
    first_seq: int
    revision: int
    since: int
    last_seq: int
    checksum: int = NO_LINK
    replayed: int = 0


@dataclass(slots=True)
class Verified:
    """The result: the streams, the faulty rows, and the highest epoch of any stream."""

    streams: dict[str, StreamRows] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    highest_epoch: int = 0


def verify(db: sqlite3.Connection, slots: Mapping[str, Slot]) -> Verified:
    """Read all rows.

    Args:
        db: the journal. Its texts are read with `errors="replace"` from now on.
        slots: of the head file.

    Raises:
        sqlite3.Error: a page is damaged.
    """
    schema.read_damaged_texts(db)
    result = Verified()
    for row in _matching(db, "streams", result.faults):
        stream, epoch, first_seq, revision = row[:4]
        result.streams[stream] = StreamRows(epoch, first_seq, revision, first_seq - 1, first_seq - 1)
    snapshots: dict[str, tuple[int, int]] = {}  # by stream: seq, link
    for stream, epoch, seq, link, *_ in _matching(db, "snapshots", result.faults):
        rows = result.streams.get(stream)
        if rows is not None and rows.epoch == epoch:
            rows.since = rows.last_seq = seq
            snapshots[stream] = seq, link
    before: dict[str, int] = {}
    for values, sound in _checked_rows(db, "frames", result.faults):
        if not sound:
            before.pop(values[0], None)  # the next frame of the stream is not compared with this one
            continue
        stream, seq, link, checksum = values[0], values[1], values[7], values[8]
        rows = result.streams.get(stream)
        if rows is None:
            result.faults.append(Fault(stream, seq, "it belongs to no stream that is open"))
            continue
        if link != before.get(stream, link):
            result.faults.append(Fault(stream, seq, "it does not continue the frame before it"))
        slot = slots.get(stream)
        if slot is not None and (slot.epoch, slot.seq) == (rows.epoch, seq) and slot.checksum != checksum:
            result.faults.append(Fault(stream, seq, "it is another frame than the one that was settled"))
        if stream in snapshots and snapshots[stream][0] == seq and snapshots[stream][1] != checksum:
            result.faults.append(Fault(stream, seq, "the snapshot after it was made after another frame"))
        before[stream] = rows.checksum = checksum
        rows.last_seq = max(rows.last_seq, seq)
        rows.replayed += seq > rows.since
    result.highest_epoch = _highest_epoch(db, result)
    return result


def hole(path: Path, stream: str, rows: StreamRows, head: Head, created: bool) -> str | None:
    """Return what is missing of a stream that was acked; None if nothing is.

    Args:
        path: the journal.
        stream: its name.
        rows: of the stream in the journal.
        head: the head file.
        created: whether the journal was converted from a version without a head file.
    """
    if rows.replayed < rows.last_seq - rows.since:
        n = rows.last_seq - rows.since - rows.replayed
        return f"{n} of the frames between seq {rows.since} and {rows.last_seq} are missing in {path}"
    slot = head.slots.get(stream)
    if slot is None:
        if head.damage is not None:
            return f"{path.with_name(HEAD_NAME)} is damaged ({head.damage}), so later frames may be missing"
        if not head.found and not created:
            return f"{path.with_name(HEAD_NAME)} is missing, so later frames may be missing"
        return None  # it was opened in the last transaction, before the head file was written
    if slot.epoch > rows.epoch or (slot.epoch == rows.epoch and slot.seq > rows.last_seq):
        return f"seq {rows.last_seq + 1} to {slot.seq} were settled and are missing in {path}"
    if slot.epoch == rows.epoch and slot.revision > rows.revision:
        return f"its last settings or corrections are missing in {path}"
    return None


def was_closed(rows: StreamRows, slot: Slot | None) -> bool:
    """Whether a stream in the tables was closed: the transaction that deleted it is missing."""
    return slot is not None and slot.state is SlotState.CLOSED and slot.epoch >= rows.epoch


def matches(row: Sequence[Any], checksums: Checksums) -> bool:
    """Whether a row matches its checksum; `checksums` is that of its table in `TABLES`."""
    try:
        stored, computed = checksums(*row)
    except (TypeError, ValueError, AttributeError, struct.error):  # a value of another type or beyond its range
        return False
    return stored == computed


def _matching(db: sqlite3.Connection, table: str, faults: list[Fault]) -> Iterator[Any]:
    """Return a table's rows that match their checksums; append a fault for each other one."""
    for row, sound in _checked_rows(db, table, faults):
        if sound:
            yield row


def _checked_rows(db: sqlite3.Connection, table: str, faults: list[Fault]) -> Iterator[tuple[Any, bool]]:
    """Return a table's rows, and whether each matches its checksum; append a fault for each that does not."""
    checksums = TABLES[table].checksums
    for row in db.execute(TABLES[table].query_of(table)):
        sound = matches(row, checksums)
        if not sound:
            seq = row[1] if checksums is _frame and isinstance(row[1], int) else None
            faults.append(Fault(str(row[0]), seq, f"{_WHAT[checksums]} does not match its checksum"))
        yield row, sound


def _frame(
    stream: str, seq: int, epoch: int, frame_index: int, t_ns: int, status: str, reason: str | None, link: int,
    checksum: int, body: bytes,
) -> tuple[int, int]:  # fmt: skip
    return checksum, frame_checksum(stream, seq, epoch, frame_index, t_ns, status, reason, link, body)


def _opening(stream: str, epoch: int, first_seq: int, revision: int, checksum: int, opened: bytes) -> tuple[int, int]:
    return checksum, opening_checksum(stream, epoch, first_seq, revision, opened)


def _snapshot(stream: str, epoch: int, seq: int, link: int, checksum: int, state: bytes) -> tuple[int, int]:
    return checksum, snapshot_checksum(stream, epoch, seq, link, state)


_WHAT: Mapping[Checksums, str] = {_frame: "the frame", _opening: "the row of its settings", _snapshot: "the snapshot"}


class Table(NamedTuple):
    """A table whose rows have checksums."""

    columns: str
    key: str
    checksums: Checksums

    def query_of(self, name: str, order: str = "") -> str:
        """Return the query of all rows in the order of their key."""
        terms = ", ".join(f"{column}{order}" for column in self.key.split(", "))
        return f"SELECT {self.columns} FROM {name} ORDER BY {terms}"


TABLES: Mapping[str, Table] = {
    "streams": Table("stream, epoch, first_seq, revision, checksum, opened", "stream", _opening),
    "snapshots": Table("stream, epoch, seq, link, checksum, state", "stream", _snapshot),
    "frames": Table(COLUMNS, "seq, stream", _frame),
}


def _highest_epoch(db: sqlite3.Connection, result: Verified) -> int:
    query = "SELECT value, checksum FROM numbers WHERE name = ?"
    row = db.execute(query, (schema.HIGHEST_EPOCH,)).fetchone()
    highest = max((rows.epoch for rows in result.streams.values()), default=0)
    if row is None:
        if result.streams:
            result.faults.append(Fault("", None, "the highest epoch is missing"))
        return highest
    value, checksum = row
    if not isinstance(value, int) or checksum != number_checksum(schema.HIGHEST_EPOCH, value):
        result.faults.append(Fault("", None, "the highest epoch does not match its checksum"))
        return highest
    return max(highest, value)
