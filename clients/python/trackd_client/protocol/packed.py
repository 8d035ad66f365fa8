"""A reply to `history` in MessagePack, piece by piece: a row of a million numbers takes many milliseconds as a whole.

The numbers of an array have fixed sizes (float 64, int 32), so numpy writes them without a loop in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from trackd_client.protocol.encode import TRACK_ARRAYS, tracks_head, tracks_to_map
from trackd_client.protocol.messages import PROTOCOL_VERSION, Reply, Tracks

_PIECE_NUMBERS = 16_384  # numbers of an array in one piece: less than a millisecond
_FEW_NUMBERS = 4096  # in a row that is one piece: below this, Python lists are faster
_FLOAT = np.dtype([("type", "u1"), ("value", ">f8")])
_INTEGER = np.dtype([("type", "u1"), ("value", ">i4")])
_FLOAT_TYPE, _INTEGER_TYPE = 0xCB, 0xD2


def history_pieces(request_id: Any, rows: Iterable[Tracks]) -> Iterator[bytes]:
    """Yield the header part of a reply to `history`, in pieces of less than a millisecond of work each.

    Args:
        request_id: the request's id.
        rows: the settlements, oldest first.
    """
    head = {"v": PROTOCOL_VERSION, "kind": Reply.kind, "id": request_id}
    yield _map_start(len(head) + 1) + _items(head) + _packed("result")
    yield from rows_pieces(list(rows))


def rows_pieces(rows: Sequence[Tracks]) -> Iterator[bytes]:
    """Yield the list of the rows of a `history` result, in such pieces."""
    yield _list_start(len(rows))
    for row in rows:
        yield from _row_pieces(row)


def _row_pieces(row: Tracks) -> Iterator[bytes]:
    arrays = {name: array for name in TRACK_ARRAYS if (array := getattr(row, name)) is not None}
    if sum(array.size for array in arrays.values()) < _FEW_NUMBERS:
        yield _packed(tracks_to_map(row))
        return
    head = tracks_head(row)
    yield _map_start(len(head) + len(arrays)) + _items(head)
    for name, array in arrays.items():
        yield _packed(name) + _list_start(len(array))
        step = max(1, _PIECE_NUMBERS // max(1, array[:1].size))
        for start in range(0, len(array), step):
            yield _rows_of(array[start : start + step])


def _rows_of(array: NDArray[Any]) -> bytes:
    """Return the items along the first axis of an array, each as nested lists of its numbers."""
    is_float = array.dtype.kind == "f"
    items = np.empty(array.shape, _FLOAT if is_float else _INTEGER)
    items["type"] = _FLOAT_TYPE if is_float else _INTEGER_TYPE
    items["value"] = array
    raw = items.view(np.uint8).reshape(*array.shape, items.itemsize)
    for axis in range(array.ndim - 1, 0, -1):
        raw = raw.reshape(*array.shape[:axis], -1)
        start = np.frombuffer(_list_start(array.shape[axis]), np.uint8)
        raw = np.concatenate([np.broadcast_to(start, (*array.shape[:axis], len(start))), raw], axis=-1)
    return raw.tobytes()


def _items(header: dict[str, Any]) -> bytes:
    return b"".join(_packed(key) + _packed(value) for key, value in header.items())


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _map_start(n: int) -> bytes:
    return bytes([0x80 | n]) if n < 16 else struct.pack(">BH", 0xDE, n)


def _list_start(n: int) -> bytes:
    if n < 16:
        return bytes([0x90 | n])
    return struct.pack(">BH", 0xDC, n) if n < 65_536 else struct.pack(">BI", 0xDD, n)
