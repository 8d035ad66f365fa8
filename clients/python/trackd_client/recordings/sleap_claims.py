"""The sizes that a SLEAP file claims, checked before any of its tables is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.recordings.hdf5_claims import check_stored
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError

if TYPE_CHECKING:
    import h5py

# SLEAP does not compress its tables, and deflate makes real ones up to ten times smaller; empty ones a thousand times.
MAX_RATIO = 32
_EMBEDDED_IMAGES = re.compile(r"/video\d+/video")  # which are not read
TABLES = ("frames", "instances", "points", "pred_points")
TEXTS = ("videos_json", "tracks_json")


def check_claims(file: h5py.File, path: Path, limits: RecordingLimits) -> None:
    """Check a file before it is read.

    Raises:
        RecordingError: a table is larger than what the file holds of it; there are more frames than the limit, or a
            frame number exceeds it; frames or instances share rows; or a frame holds more instances than the limit.
    """
    import h5py

    soft: list[str] = []
    file.visititems_links(lambda name, link: soft.append(name) if not isinstance(link, h5py.HardLink) else None)
    if soft:
        raise RecordingError(f"{path}: {soft[0]} is a link to another place; a SLEAP file holds its tables itself")
    tables: list[h5py.Dataset] = []
    file.visititems(lambda _, item: tables.append(item) if isinstance(item, h5py.Dataset) else None)
    for table in tables:
        check_stored(table, path, MAX_RATIO, read_texts=not _EMBEDDED_IMAGES.fullmatch(table.name))
    for name in (*TABLES, *TEXTS):
        if not isinstance(file.get(name), h5py.Dataset):
            raise RecordingError(f"{path}: not a SLEAP labels file: it has no table {name}")
    limits.check_frames(len(file["frames"]), f"{path}, frames")
    frames, instances = _columns(file["frames"], path), _columns(file["instances"], path)
    numbers = _column(frames, "frame_idx", path)
    if len(numbers):
        if numbers.min() < 0:
            raise RecordingError(f"{path}, frames: frame_idx counts from 0; got {numbers.min()}")
        limits.check_frames(int(numbers.max()) + 1, f"{path}, frames")
    counts = _check_ranges(frames, "instance_id", len(file["instances"]), f"{path}, frames")
    if len(counts) and counts.max() > limits.instances:
        raise RecordingError(
            f"{path}: frame {numbers[counts.argmax()]} has {counts.max()} instances; "
            f"limits.instances is {limits.instances}"
        )
    n_points = len(file["points"]) + len(file["pred_points"])
    _check_ranges(instances, "point_id", n_points, f"{path}, instances")


def _columns(table: Any, path: Path) -> Any:
    """A table's rows with named columns: of a compound type, or as h5wasm writes them, with the names beside them."""
    rows = table[()]
    if rows.dtype.names is not None:
        return rows
    try:
        names = json.loads(table.attrs["field_names"])
        return {name: rows[:, i] for i, name in enumerate(names)}
    except (KeyError, ValueError, TypeError, IndexError):
        raise RecordingError(f"{path}, {table.name.lstrip('/')}: has no named columns") from None


def _column(rows: Any, name: str, path: Path) -> NDArray[np.int64]:
    try:
        values = np.asarray(rows[name])
        if not np.isfinite(values.astype(np.float64)).all():
            raise ValueError("not finite")
        if values.dtype.kind == "u":
            values = np.minimum(values, np.iinfo(np.int64).max)
        return values.astype(np.int64)
    except (KeyError, ValueError, TypeError, IndexError):
        raise RecordingError(f"{path}: not a SLEAP labels file: its column {name} holds no whole numbers") from None


def _check_ranges(rows: Any, name: str, n: int, where: str) -> NDArray[np.int64]:
    """Check the ranges of rows in another table of `n` rows. Return their lengths."""
    first, last = _column(rows, f"{name}_start", Path(where)), _column(rows, f"{name}_end", Path(where))
    lengths = last - first
    if len(first) and (first.min() < 0 or lengths.min() < 0 or last.max() > n or lengths.sum() > n):
        raise RecordingError(
            f"{where}: {name}_start and {name}_end must name rows from 0 to {n}, each once; they name "
            f"{lengths.sum()} from {first.min()} to {last.max()}"
        )
    return lengths
