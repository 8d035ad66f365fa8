"""The messages of a stream's log: several of the journal's records in one message, with the journal's checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from trackd.store.checksums import frame_checksum, opening_checksum, snapshot_checksum
from trackd.store.codec import DamagedError, pack, unpack
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord

VERSION = 1
_OPEN, _FRAME, _SNAPSHOT, _CLOSE, _WRITTEN = range(5)


@dataclass(frozen=True, slots=True)
class WrittenNote:
    """Up to which seq the owner's output files had all frames when it appended a message."""

    seq: int


def encode_batch(
    records: Sequence[Record], link: int, epoch: int, written_seq: int | None = None
) -> tuple[bytes, int, int]:
    """Return records of one stream as one message.

    Args:
        records: in order.
        link: the checksum of the stream's last frame before them; `NO_LINK` for none.
        epoch: the stream's highest epoch so far; a close states it.
        written_seq: up to which seq the stream's output files have all frames; None: it has no such files.

    Returns:
        The message, and the link and the epoch after it.
    """
    rows: list[list[Any]] = []
    for record in records:
        if isinstance(record, FrameRecord):
            body = pack(record.body)
            values = (record.stream, record.seq, record.epoch, record.frame_index, record.t_ns, record.status)
            checksum = frame_checksum(*values, record.reason, link, body)
            rows.append([_FRAME, *values[1:], record.reason, link, checksum, body])
            link = checksum
        elif isinstance(record, OpenRecord):
            data = pack(dict(record.opened))
            checksum = opening_checksum(record.stream, record.epoch, record.first_seq, 0, data)
            rows.append([_OPEN, record.epoch, record.first_seq, checksum, data])
            epoch = max(epoch, record.epoch)
        elif isinstance(record, SnapshotRecord):
            data = pack(record.state)
            checksum = snapshot_checksum(record.stream, record.epoch, record.seq, link, data)
            rows.append([_SNAPSHOT, record.epoch, record.seq, link, checksum, data])
        else:
            rows.append([_CLOSE, epoch])
    if written_seq is not None:
        rows.append([_WRITTEN, written_seq])
    message: bytes = msgpack.packb([VERSION, rows])
    return message, link, epoch


def decode_batch(stream: str, data: bytes) -> list[tuple[Record | WrittenNote, int, int]]:
    """Return the records of a message, each with its link and its checksum; of a close the link is its epoch.

    Raises:
        DamagedError: the message is damaged, or not one of a member.
    """
    try:
        version, rows = msgpack.unpackb(data)
        if version != VERSION:
            raise DamagedError(f"it has version {version!r}; this version of trackd reads {VERSION}")
        return [_decode(stream, row) for row in rows]
    except DamagedError:
        raise
    except Exception as error:  # any value may be of any type
        raise DamagedError(f"it is not a message of a member: {type(error).__name__}: {error}") from None


def _decode(stream: str, row: list[Any]) -> tuple[Record | WrittenNote, int, int]:
    kind, *values = row
    if kind == _FRAME:
        seq, epoch, frame_index, t_ns, status, reason, link, checksum, body = values
        _check(frame_checksum(stream, seq, epoch, frame_index, t_ns, status, reason, link, body), checksum)
        return FrameRecord(stream, epoch, seq, frame_index, t_ns, status, reason, unpack(body)), link, checksum
    if kind == _OPEN:
        epoch, first_seq, checksum, data = values
        _check(opening_checksum(stream, epoch, first_seq, 0, data), checksum)
        return OpenRecord(stream, epoch, first_seq, unpack(data)), 0, checksum
    if kind == _SNAPSHOT:
        epoch, seq, link, checksum, data = values
        _check(snapshot_checksum(stream, epoch, seq, link, data), checksum)
        return SnapshotRecord(stream, epoch, seq, unpack(data)), link, checksum
    if kind == _CLOSE:
        return CloseRecord(stream), int(values[0]), 0
    if kind == _WRITTEN:
        return WrittenNote(int(values[0])), 0, 0
    raise DamagedError(f"it has a record of kind {kind!r}")


def _check(computed: int, stored: int) -> None:
    if computed != stored:
        raise DamagedError(f"the checksum of a record is {stored}; its values have {computed}")
