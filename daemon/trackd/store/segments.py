"""The files of the frame log: their names, the form of their records, and how they are read.

A segment is `frames-000001.log`, 1 MiB long from its creation, so that a cut shows in its size. Records follow one
another from its start; the rest is zeros, and takes no room on the disk. A record is a header of 16 bytes, a frame's
row in MessagePack, and 1 to 16 bytes 0xFF, which end it at a multiple of 16. The header has the length of the row, its
CRC-32, the number of the segment, and a CRC-32 of these three.

A kill during a write can leave the pages before a page boundary written, and those after it not. The header is never
divided, and the last byte of a record is never zero. So a record whose end is missing is known from a damaged one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import msgpack

from trackd.store.frame_table import Row

SEGMENT_BYTES = 1 << 20
_NAME = re.compile(r"frames-(\d{6,18})\.log")
_HEADER = struct.Struct("<III")  # length of the row, its CRC-32, number of the segment; before its own CRC-32
_CHECK = struct.Struct("<I")
_HEADER_BYTES = 16
_ALIGN = 16
_PAGE_BYTES = 4096
_ENDS = [b"\xff" * (_ALIGN - length % _ALIGN) for length in range(_ALIGN)]  # by the length of the row modulo 16
# The types of a row's values.
_COLUMNS: tuple[type | tuple[type, ...], ...] = (str, int, int, int, int, str, (str, type(None)), int, int, bytes)

pack_row = msgpack.Packer().pack  # calls no Python code, so that no other thread runs in the middle of it


@dataclass(frozen=True, slots=True)
class LogContent:
    """The content of all segments.

    Attributes:
        rows: of the frames, in the order in which they were appended.
        damage: by file, what cannot be read of it.
        end: a number that is above those of all segments.
    """

    rows: Sequence[Row]
    damage: dict[str, str]
    end: int

    @property
    def fault(self) -> str | None:
        """What cannot be read, in one line; None: nothing."""
        if not self.damage:
            return None
        (name, what), *more = self.damage.items()
        return f"{name} is {what}" + (f" (and {len(more)} more)" if more else "")


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"frames-{number:06d}.log"


def segment_paths(folder: Path) -> dict[int, Path]:
    """Return the segments in a folder, by number."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir()) if folder.is_dir() else ()
    return {int(name[1]): path for name, path in sorted(found, key=lambda pair: pair[1].name) if name is not None}


def create_segment(folder: Path, number: int) -> int:
    """Create an empty segment; return its file descriptor.

    Raises:
        OSError: it cannot be created.
    """
    path = segment_path(folder, number)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, SEGMENT_BYTES)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd


def encode(row: Row, number: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the parts of a row's record in the segment of a number."""
    packed: bytes = pack_row(row)
    header = _HEADER.pack(len(packed), crc32(packed), number)
    return header, _CHECK.pack(crc32(header)), packed, _ENDS[len(packed) % _ALIGN]


def read_log(folder: Path, stated: range | None) -> LogContent:
    """Read all segments.

    Args:
        folder: of the files.
        stated: the numbers that must exist, as the head file states; those below it are ignored. None: unknown.

    Raises:
        OSError: a file cannot be read.
    """
    found = segment_paths(folder)
    first = min(found, default=1) if stated is None else stated.start
    numbers = sorted({*(number for number in found if number >= first), *(() if stated is None else stated)})
    rows: list[Row] = []
    damage: dict[str, str] = {}
    end = first
    for number in numbers:
        if end < number:
            damage[segment_path(folder, end).name] = "missing"
        if number not in found:
            damage[segment_path(folder, number).name] = "missing"
        elif (what := _read_segment(found[number].read_bytes(), number, rows)) is not None:
            damage[found[number].name] = f"damaged ({what})"
        end = number + 1
    return LogContent(rows, damage, end)


def _read_segment(data: bytes, number: int, rows: list[Row]) -> str | None:
    """Append the rows of a segment up to its first damage; return that, None if there is none."""
    size = f"it has {len(data)} bytes instead of {SEGMENT_BYTES}" if len(data) != SEGMENT_BYTES else None
    written = len(data.rstrip(b"\0"))
    at = 0
    while at < written:
        damaged = size or f"the record at byte {at} does not match its checksum"
        if at + _HEADER_BYTES > len(data):
            return damaged
        header = data[at : at + _HEADER.size]
        length, check, own = _HEADER.unpack(header)
        if own != number or _CHECK.unpack_from(data, at + _HEADER.size)[0] != crc32(header):
            return damaged
        start = at + _HEADER_BYTES
        ends = _ENDS[length % _ALIGN]
        end = start + length + len(ends)
        packed = data[start : start + length]
        if crc32(packed) != check or data[start + length : end] != ends:
            is_cut = size is None and -(-written // _PAGE_BYTES) * _PAGE_BYTES < end <= SEGMENT_BYTES
            return None if is_cut else damaged  # a kill during the write: the frame was not acked
        row = _row(packed)
        if row is None:
            return damaged
        rows.append(row)
        at = end
    return size


def _row(packed: bytes) -> Row | None:
    try:
        values = msgpack.unpackb(packed)
    except Exception:  # msgpack raises many kinds
        return None
    if not isinstance(values, list) or len(values) != len(_COLUMNS):
        return None
    if not all(isinstance(value, kind) for value, kind in zip(values, _COLUMNS, strict=True)):
        return None
    row: Row = tuple(values)
    return row
