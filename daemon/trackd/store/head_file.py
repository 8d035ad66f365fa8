"""The journal's head file: for each stream the last frame that was stored, in a file beside the journal.

SQLite ignores the rest of a write-ahead log from the first damaged place on, and a log that is missing. The journal is
then a correct file that lacks its last transactions. The head file shows it. It is written after each transaction and
before the frames are acked, so the journal is never behind it.

The file is a row of slots of 256 bytes: one for the file itself, then one for each stream. A slot has a CRC-32 of its
own and lies within one page. So a kill during a write leaves each slot as it was before or after.
"""

from __future__ import annotations

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
_SLOT = struct.Struct("<BB128sQqqI")
_CHECK = struct.Struct("<I")


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
    body = _checked(data[:_SLOT_BYTES])
    if body is None or not body.startswith(_MAGIC) or len(data) % _SLOT_BYTES:
        damage = "its first bytes or its length are wrong"
    else:
        _, version, highest_epoch = _FILE.unpack_from(body)
        if version != _VERSION:
            return Head({}, highest_epoch, True, f"it is of version {version}; this trackd reads {_VERSION}")
    for offset in range(_SLOT_BYTES, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
        body = _checked(data[offset : offset + _SLOT_BYTES])
        if body is None:
            damage = damage or f"the checksum of its bytes {offset} to {offset + _SLOT_BYTES} is wrong"
            continue
        state, length, name, revision, epoch, seq, checksum = _SLOT.unpack_from(body)
        if state != SlotState.FREE:
            slots[name[:length].decode("ascii", "replace")] = Slot(SlotState(state), epoch, revision, seq, checksum)
            highest_epoch = max(highest_epoch, epoch)
    return Head(slots, highest_epoch, True, damage)


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
        self._places: dict[str, int] = {}  # by stream, its number in the file
        self._free: list[int] = []
        self._data = bytearray(_FREE_SLOT)
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
        places = [self._pack(stream, slot) for stream, slot in changed.items()]
        if highest_epoch > self.highest_epoch:
            self.highest_epoch = highest_epoch
            self._pack_file()
            places.append(0)
        if places:
            first, last = min(places) * _SLOT_BYTES, (max(places) + 1) * _SLOT_BYTES
            _write_all(self._fd, self._data[first:last], first)
        self.slots.update(changed)

    def forget(self, streams: Iterable[str]) -> None:
        """Free the slots of streams.

        Raises:
            OSError: the file cannot be written. The call may be repeated.
        """
        places = []
        for stream in streams:
            self.slots.pop(stream, None)
            place = self._places.pop(stream, None)
            if place is not None:
                self._data[place * _SLOT_BYTES : (place + 1) * _SLOT_BYTES] = _FREE_SLOT
                self._free.append(place)
                places.append(place)
        for place in places:
            _write_all(self._fd, _FREE_SLOT, place * _SLOT_BYTES)

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
            # This runs at every commit, and `Path.stat` takes several times as long.
            if os.stat(self.path).st_ino == self._inode:  # noqa: PTH116
                return
        except FileNotFoundError:
            pass
        os.close(self._fd)
        self._fd = -1
        self._create()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _pack(self, stream: str, slot: Slot) -> int:
        """Put a slot into the data; return its place."""
        place = self._places.get(stream)
        if place is None:
            if not self._free:
                self._grow()
            place = self._places[stream] = self._free.pop()
        offset = place * _SLOT_BYTES
        name = stream.encode("ascii", "replace")
        _SLOT.pack_into(
            self._data, offset, slot.state, len(name), name, slot.revision, slot.epoch, slot.seq, slot.checksum
        )
        _CHECK.pack_into(
            self._data, offset + _SLOT_BYTES - 4, crc32(memoryview(self._data)[offset : offset + _SLOT_BYTES - 4])
        )
        return place

    def _pack_file(self) -> None:
        _FILE.pack_into(self._data, 0, _MAGIC, _VERSION, self.highest_epoch)
        _CHECK.pack_into(self._data, _SLOT_BYTES - 4, crc32(memoryview(self._data)[: _SLOT_BYTES - 4]))

    def _grow(self) -> None:
        n = len(self._data) // _SLOT_BYTES
        self._data += _FREE_SLOT * _GROWTH
        self._free = list(range(n + _GROWTH - 1, n - 1, -1))
        if self._fd >= 0:
            _write_all(self._fd, self._data[n * _SLOT_BYTES :], n * _SLOT_BYTES)
            os.fsync(self._fd)

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


def _with_checksum(body: bytes) -> bytes:
    padded = body.ljust(_SLOT_BYTES - 4, b"\0")
    return padded + _CHECK.pack(crc32(padded))


_FREE_SLOT = _with_checksum(b"")


def _checked(slot: bytes) -> bytes | None:
    """Return the body of a slot whose checksum is right; else None."""
    if len(slot) != _SLOT_BYTES or _CHECK.unpack(slot[-4:])[0] != crc32(slot[:-4]):
        return None
    return slot[:-4]


def _write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, offset)
        left, offset = left[done:], offset + done
