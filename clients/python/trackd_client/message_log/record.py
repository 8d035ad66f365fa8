"""One record of a message log, and its bytes.

A record is `length crc kind 0 n_parts received_ns monotonic_ns part_lengths parts`, little endian. The length counts
what follows the checksum. The checksum, CRC-32, covers the length and what follows it.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

HEAD = struct.Struct("<II")  # length, crc
_BODY = struct.Struct("<BBHqq")  # kind, 0, parts, received_ns, monotonic_ns
MOST_RECORD = 1 << 29  # bytes; larger than any message
MOST_PARTS = 4096


class Kind(IntEnum):
    """What a record holds."""

    MESSAGE = 1  # as it was published: topic, header, parts
    HISTORY = 2  # a settlement that was missed, from `history`: as above, but encoded by the recorder
    GAP = 3  # settlements that neither arrived nor are in `history`


class BadRecordError(ValueError):
    """The bytes are no whole record."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message with the time of its receipt."""

    kind: Kind
    received_ns: int  # Unix time
    monotonic_ns: int  # of the same moment, by a clock that is never set
    parts: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the record's bytes."""
        lengths = struct.pack(f"<{len(self.parts)}I", *map(len, self.parts))
        fixed = _BODY.pack(self.kind, 0, len(self.parts), self.received_ns, self.monotonic_ns)
        body = b"".join((fixed, lengths, *self.parts))
        return HEAD.pack(len(body), checksum(len(body), body)) + body

    @classmethod
    def decode(cls, body: bytes) -> Record:
        """Return the record of a body whose checksum is right.

        Raises:
            BadRecordError: its lengths do not fit.
        """
        if len(body) < _BODY.size:
            raise BadRecordError("a record is too short")
        kind, _, n, received_ns, monotonic_ns = _BODY.unpack_from(body)
        at = _BODY.size + 4 * n
        if n > MOST_PARTS or at > len(body) or kind not in tuple(Kind):
            raise BadRecordError("a record has a wrong head")
        lengths = struct.unpack_from(f"<{n}I", body, _BODY.size)
        if at + sum(lengths) != len(body):
            raise BadRecordError("the parts of a record do not fit its length")
        parts = []
        for length in lengths:
            parts.append(body[at : at + length])
            at += length
        return cls(Kind(kind), received_ns, monotonic_ns, tuple(parts))


def checksum(length: int, body: bytes) -> int:
    """Return the CRC-32 of a record."""
    return zlib.crc32(body, zlib.crc32(struct.pack("<I", length)))


def gap(received_ns: int, monotonic_ns: int, stream: str, epoch: int, from_seq: int, to_seq: int) -> Record:
    """Return a record of missing settlements; `to_seq` is included."""
    missing: dict[str, Any] = {"stream": stream, "epoch": epoch, "from_seq": from_seq, "to_seq": to_seq}
    return Record(Kind.GAP, received_ns, monotonic_ns, (json.dumps(missing).encode(),))
