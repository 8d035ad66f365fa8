"""The checksums of the journal's rows.

Each row has a CRC-32 over all of its values. A frame's row also has the checksum of its stream's frame before it, its
`link`, and the CRC covers the link too. So a row that was changed, moved, removed or put between two others shows. The
checksums detect accidents; they are no protection against a person who can write to the file.
"""

from __future__ import annotations

import struct
from zlib import crc32

_FRAME = struct.Struct("<qqqqI")
_STREAM = struct.Struct("<qqq")
_SNAPSHOT = struct.Struct("<qqI")
_NUMBER = struct.Struct("<q")

NO_LINK = 0  # of the first frame of a stream


def frame_checksum(
    stream: str, seq: int, epoch: int, frame_index: int, t_ns: int, status: str, reason: str | None, link: int,
    body: bytes,
) -> int:  # fmt: skip
    """Return the checksum of a frame's row; `link` is that of the frame before it."""
    words = f"{stream}\0{status}\0{'' if reason is None else reason}".encode()
    return crc32(body, crc32(words, crc32(_FRAME.pack(seq, epoch, frame_index, t_ns, link))))


def opening_checksum(stream: str, epoch: int, first_seq: int, revision: int, opened: bytes) -> int:
    """Return the checksum of a stream's row."""
    return crc32(opened, crc32(stream.encode(), crc32(_STREAM.pack(epoch, first_seq, revision))))


def snapshot_checksum(stream: str, epoch: int, seq: int, link: int, state: bytes) -> int:
    """Return the checksum of a snapshot's row; `link` is that of the frame after which it was made."""
    return crc32(state, crc32(stream.encode(), crc32(_SNAPSHOT.pack(epoch, seq, link))))


def number_checksum(name: str, value: int) -> int:
    """Return the checksum of a number that concerns all streams."""
    return crc32(name.encode(), crc32(_NUMBER.pack(value)))
