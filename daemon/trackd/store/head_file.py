"""The journal's head file: for each stream the last frame that was stored, in a file beside the journal.

SQLite ignores the rest of a write-ahead log from the first damaged place on, and a log that is missing. The journal is
then a correct file that lacks its last transactions. The head file shows it. It is written after each transaction and
before the frames are acked, so the journal is never behind it.

The file is a row of slots of 256 bytes: one for the file itself, then one for each stream. A slot has a CRC-32 of its
own and lies within one page. So a kill during a write leaves each slot as it was before or after.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

FILE_NAME = "journal.head"
_MAGIC = b"trackd journal head\0"
_VERSION = 1
_SLOT_BYTES = 256
_GROWTH = 64  # slots that are added at once
_FILE = struct.Struct("<20sIq")  # magic, version, highest epoch
_NAME = struct.Struct("<B128s")
_VALUES = struct.Struct("<BQqqI")  # state, revision, epoch, seq, checksum
_VALUES_AT = 136
_CHECK = struct.Struct("<I")
_CHECK_AT = _VALUES_AT + _VALUES.size
_WRITTEN = _VALUES.size + _CHECK.size  # bytes that change when a frame is stored


class SlotState(IntEnum):
    """What the slot of a stream states."""

    FREE = 0
    OPEN = 1
    CLOSING = 2  # the transaction of its close was begun, and may be committed
    CLOSED = 3  # kept until the transaction of the close is in the journal's main file


class Slot(NamedTuple):
    """A stream as the last transaction left it."""

    state: SlotState
    epoch: int
    revision: int  # number of times that its settings were stored
    seq: int  # of the last frame; −1: none
    checksum: int  # of the last frame's row


@dataclass(frozen=True, slots=True)
class Head:
    """The content of a head file.

    Attributes:
        slots: by stream.
        highest_epoch: the highest epoch of any stream, closed ones included.
        found: whether the file existed.
        damage: what cannot be read of the file; None: nothing.
    """

    slots: Mapping[str, Slot]
    highest_epoch: int
    found: bool
    damage: str | None


def read_head(path: Path) -> Head:
    """Read a head file, and change nothing.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return Head({}, 0, False, None)
    data = path.read_bytes()
    damage = None
    slots: dict[str, Slot] = {}
    highest_epoch = 0
    if len(data) % _SLOT_BYTES or not _is_first_slot(data[:_SLOT_BYTES]):
        damage = "its first bytes or its length are wrong"
    else:
        _, version, highest_epoch = _FILE.unpack_from(data)
        if version != _VERSION:
            return Head({}, highest_epoch, True, f"it is of version {version}; this trackd reads {_VERSION}")
    for offset in range(_SLOT_BYTES, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
        slot = memoryview(data)[offset : offset + _SLOT_BYTES]
        if _CHECK.unpack_from(slot, _CHECK_AT)[0] != crc32(slot[:_CHECK_AT]):
            damage = damage or f"the checksum of its bytes {offset} to {offset + _SLOT_BYTES} is wrong"
            continue
        length, name = _NAME.unpack_from(slot)
        state, revision, epoch, seq, checksum = _VALUES.unpack_from(slot, _VALUES_AT)
        if state != SlotState.FREE:
            slots[name[:length].decode("ascii", "replace")] = Slot(SlotState(state), epoch, revision, seq, checksum)
            highest_epoch = max(highest_epoch, epoch)
    return Head(slots, highest_epoch, True, damage)


def _is_first_slot(slot: bytes) -> bool:
    body = slot[: _FILE.size]
    return slot.startswith(_MAGIC) and slot[_FILE.size : _FILE.size + _CHECK.size] == _CHECK.pack(crc32(body))


class HeadFile:
    """Writes the slots that change. It replaces the file at first.

    Writes do not wait for the disk. After a power failure the file may be behind the journal, which is no fault.

    Args:
        path: the file.
        slots: its content, by stream.
        highest_epoch: the highest epoch of any stream, closed ones included.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, slots: Mapping[str, Slot], highest_epoch: int) -> None:
        self.path = path
        self.slots = dict(slots)
        self.highest_epoch = highest_epoch
        self._places: dict[
            str, tuple[int, int]
        ] = {}  # by stream: its offset, and the CRC of the bytes before its values
        self._free: list[int] = []
        self._data = bytearray(_SLOT_BYTES)
        self._pack_file()
        self._fd = -1
        for stream, slot in self.slots.items():
            self._pack(stream, slot)
        self._create()

    def write(self, changed: Mapping[str, Slot], highest_epoch: int = 0) -> None:
        """Write the slots of these streams, and a higher epoch.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        if highest_epoch > self.highest_epoch:
            self.highest_epoch = highest_epoch
            self._pack_file()
            _write_all(self._fd, self._data[:_SLOT_BYTES], 0)
        places = [self._pack(stream, slot) for stream, slot in changed.items()]
        if len(places) == 1:
            first = places[0] + _VALUES_AT
            if os.pwrite(self._fd, self._data[first : first + _WRITTEN], first) < _WRITTEN:
                raise OSError(errno.ENOSPC, "only a part of a slot could be written")
        elif places:
            first, last = min(places), max(places) + _SLOT_BYTES
            _write_all(self._fd, self._data[first:last], first)
        self.slots.update(changed)

    def forget(self, streams: Iterable[str]) -> None:
        """Free the slots of streams.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        for stream in streams:
            self.slots.pop(stream, None)
            if stream in self._places:
                place, _ = self._places.pop(stream)
                self._data[place : place + _SLOT_BYTES] = _FREE_SLOT
                self._free.append(place)
                _write_all(self._fd, _FREE_SLOT, place)

    def forget_closed(self) -> None:
        """Free the slots of closed streams, once the journal's main file has no row of them.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        self.forget([stream for stream, slot in self.slots.items() if slot.state is SlotState.CLOSED])

    def restore_if_missing(self) -> None:
        """Write the whole file again if it was moved or deleted.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        try:
            if self.path.stat().st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        old, self._fd = self._fd, -1
        if old >= 0:
            os.close(old)
        self._create()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _pack(self, stream: str, slot: Slot) -> int:
        """Put a slot into the data; return its offset."""
        place = self._places.get(stream)
        if place is None:
            place = self._places[stream] = self._allocated(stream)
        offset, name_crc = place
        state, epoch, revision, seq, checksum = slot
        values = _VALUES.pack(state, revision, epoch, seq, checksum)
        self._data[offset + _VALUES_AT : offset + _VALUES_AT + _WRITTEN] = values + _CHECK.pack(crc32(values, name_crc))
        return offset

    def _allocated(self, stream: str) -> tuple[int, int]:
        """Write a stream's name into a free slot; return its offset, and the CRC of the bytes before its values."""
        if not self._free:
            n = len(self._data)
            self._data += _FREE_SLOT * _GROWTH
            self._free = list(range(len(self._data) - _SLOT_BYTES, n - 1, -_SLOT_BYTES))
            if self._fd >= 0:
                _write_all(self._fd, self._data[n:], n)
                os.fsync(self._fd)
        offset = self._free.pop()
        name = stream.encode("ascii", "replace")
        before = _NAME.pack(len(name), name).ljust(_VALUES_AT, b"\0")
        self._data[offset : offset + _VALUES_AT] = before
        if self._fd >= 0:  # without its values the slot does not match its checksum until they are written
            values = _VALUES.pack(SlotState.FREE, 0, 0, 0, 0)
            free = before + values + _CHECK.pack(crc32(values, crc32(before)))
            _write_all(self._fd, free, offset)
        return offset, crc32(before)

    def _pack_file(self) -> None:
        body = _FILE.pack(_MAGIC, _VERSION, self.highest_epoch)
        self._data[: _FILE.size + _CHECK.size] = body + _CHECK.pack(crc32(body))

    def _create(self) -> None:
        copy = self.path.with_name(f".{self.path.name}.copy")
        fd = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, self._data, 0)
            os.fsync(fd)
            copy.replace(self.path)
        except BaseException:
            os.close(fd)
            copy.unlink(missing_ok=True)
            raise
        self._fd = fd
        self._inode = os.fstat(fd).st_ino


_FREE_SLOT = (bytes(_CHECK_AT) + _CHECK.pack(crc32(bytes(_CHECK_AT)))).ljust(_SLOT_BYTES, b"\0")


def _write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, offset)
        left, offset = left[done:], offset + done
