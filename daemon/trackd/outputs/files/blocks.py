"""Blocks of a file: each is the length and the CRC-32 of its payload (`<II`), then the payload, a MessagePack map.

A kill may cut the last block short; the reader leaves it out and returns the blocks before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgpack

_HEAD = struct.Struct("<II")


def block(value: dict[str, Any]) -> bytes:
    """The block of a map of plain values."""
    payload: bytes = msgpack.packb(value)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def blocks(file: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole block of a file that is open at its start, and where it ends, in bytes."""
    for payload, end in _payloads(file):
        yield msgpack.unpackb(payload), end


def block_ends(file: BinaryIO) -> list[int]:
    """Where each whole block of a file that is open at its start ends, in bytes."""
    return [end for _, end in _payloads(file)]


def _payloads(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    end = 0
    while (payload := _next_payload(file)) is not None:
        end += _HEAD.size + len(payload)
        yield payload, end


def _next_payload(file: BinaryIO) -> bytes | None:
    """The payload of the next block; None at the end, or where the block is incomplete."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    size, checksum = _HEAD.unpack(head)
    payload = file.read(size)
    return payload if len(payload) == size and zlib.crc32(payload) == checksum else None
