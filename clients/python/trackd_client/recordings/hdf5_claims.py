"""The sizes that an HDF5 file claims, checked before any of its tables is read.

HDF5 stores a table's shape apart from its rows: rows that were never written, or that compress well, take no space. A
few kilobytes can so claim billions of frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from trackd_client.recordings.recording import RecordingError

SMALL_BYTES = 1 << 20  # tables up to this size may be anything
MAX_CHUNK = 8  # times the table


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
