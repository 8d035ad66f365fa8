"""The sizes that an HDF5 file claims, checked before any of its tables is read.

HDF5 stores a table's shape apart from its rows: rows that were never written, or that compress well, take no space. A
few kilobytes can so claim billions of frames.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from trackd_client.recordings.recording import RecordingError

SMALL_BYTES = 1 << 20  # tables up to this size may be anything
MAX_CHUNK = 8  # times the table
SCANNED_BYTES = 1 << 30  # of a file, for its heaps: a larger one takes too long to read as a whole
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
_OBJECT = struct.Struct("<HHIQ")  # of a heap: its number, references, nothing, and its size


def check_heaps(path: Path) -> None:
    """Check that the heaps of a file, which hold its texts of variable length, can be walked to their ends.

    HDF5 (2.0 and earlier) walks from object to object without an end where the size of a free one is 0. It holds the
    interpreter lock meanwhile, so that nothing else in the process goes on.

    Raises:
        RecordingError: a heap is damaged, or the file's lengths do not have the usual 8 bytes.
    """
    with path.open("rb") as file:
        size = min(path.stat().st_size, SCANNED_BYTES)
        if not size:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            begin = next((at for at in (0, *(512 << i for i in range(22))) if data[at : at + 8] == _SIGNATURE), None)
            if begin is None:
                return  # which HDF5 refuses
            version = data[begin + 8 : begin + 9]
            lengths = begin + (14 if version < b"\x02" else 10)
            if data[lengths : lengths + 1] != b"\x08":
                raise RecordingError(f"{path}: lengths of HDF5 must have 8 bytes; got {data[lengths : lengths + 1]!r}")
            at = data.find(_HEAP)
            while at >= 0:
                _walk(data, at, path)
                at = data.find(_HEAP, at + len(_HEAP))


def _walk(data: mmap.mmap, heap: int, path: Path) -> None:
    """Go through the objects of a heap as HDF5 does."""
    if heap + 16 > len(data):
        return
    end = heap + int(struct.unpack_from("<Q", data, heap + 8)[0])
    at = heap + 16
    while at + _OBJECT.size <= min(end, len(data)):
        number, _, _, size = _OBJECT.unpack_from(data, at)
        step = _OBJECT.size + (size + 7) // 8 * 8 if number else size
        if step < _OBJECT.size or at + step > end:
            raise RecordingError(f"{path}: its heap of texts is damaged at byte {at}")
        at += step


def check_stored(table: Any, path: Path, most_ratio: int, *, read_texts: bool = True) -> None:
    """Check that a table's values are in the file.

    Args:
        table: the `h5py.Dataset`.
        path: the file.
        most_ratio: how many times as large as what is stored of it the table may be.
        read_texts: whether its values of variable length are read, and so are checked.

    Raises:
        RecordingError: the values are in another file, or the table claims more than the file holds of it.
    """
    size = path.stat().st_size
    claimed = table.size * table.dtype.itemsize if table.shape is not None else 0
    where = f"{path}, {table.name.lstrip('/')}"
    stored = table.id.get_storage_size()
    if table.is_virtual or table.external:
        raise RecordingError(f"{where}: its values are in another file")
    if claimed and (stored > size or claimed > max(most_ratio * stored, SMALL_BYTES)):
        raise RecordingError(
            f"{where}: claims {claimed} bytes in shape {list(table.shape)}, and the file holds {min(stored, size)} "
            f"bytes of it; at most {most_ratio} times as many are read"
        )
    chunk = math.prod(table.chunks or ()) * table.dtype.itemsize
    if table.chunks is not None and chunk > MAX_CHUNK * max(claimed, SMALL_BYTES):
        raise RecordingError(f"{where}: claims chunks of {list(table.chunks)} for shape {list(table.shape)}")
    if claimed and table.dtype.hasobject and read_texts:
        _check_texts(table, where, most_ratio, size)


def _check_texts(table: Any, where: str, most_ratio: int, size: int) -> None:
    """Check values of variable length, of which many may be the same bytes of the file."""
    total = 0
    for index in np.ndindex(table.shape):
        row: Any = table[index]
        values = row.item() if isinstance(row, np.void) else [row]
        total += sum(len(value) for value in values if hasattr(value, "__len__"))
        if total > most_ratio * size:
            raise RecordingError(f"{where}: its values have more than {total} bytes, and the file has {size}")
