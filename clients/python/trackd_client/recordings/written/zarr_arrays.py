"""Arrays of a Zarr folder, whose description is checked before they are read.

An array may claim any shape, since pieces that are equal to its fill value are not stored, and its filters may unpickle
objects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.recordings.hdf5_claims import SMALL_BYTES
from trackd_client.recordings.recording import RecordingError

MOST_RATIO = 64  # bytes of all arrays that are read, for each byte that is stored of them
_CODECS = frozenset({"bytes", "transpose", "zstd", "blosc", "gzip", "zlib", "lz4", "crc32c"})


def attributes_of(folder: Path) -> Mapping[str, Any]:
    """The attributes of a group; empty if it is none.

    Raises:
        RecordingError: they are no JSON.
    """
    for name, key in ((".zattrs", None), ("zarr.json", "attributes")):
        file = folder / name
        if file.is_file():
            value = _object(file)
            found = value if key is None else value.get(key)
            return found if isinstance(found, dict) else {}
    return {}


def has_array(folder: Path, name: str) -> bool:
    """Whether a group has an array of this name."""
    return (folder / name / ".zarray").is_file() or (folder / name / "zarr.json").is_file()


def read_arrays(folder: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by name.

    Args:
        folder: of the group.
        names: of arrays below it.

    Raises:
        RecordingError: one is missing, has another codec or kind than numbers, or they claim more than is stored.
    """
    claimed = stored = 0
    for name in names:
        nbytes, held = _check(folder / name)
        claimed, stored = claimed + nbytes, stored + held
    if claimed > max(MOST_RATIO * stored, 16 * SMALL_BYTES):
        raise RecordingError(
            f"{folder}: its arrays claim {claimed} bytes, and the folder holds {stored} of them; at most "
            f"{MOST_RATIO} times as many are read"
        )
    try:
        import zarr
    except ImportError:
        raise RecordingError(f"{folder}: needs zarr, which comes with geff: pip install 'trackd[geff]'") from None
    try:
        return {name: np.asarray(zarr.open_array(folder / name, mode="r")[...]) for name in names}
    except Exception as error:  # zarr and its codecs raise many types of errors for damaged pieces
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecordingError(f"{folder}: cannot be read: {text[:200]}") from None


def _check(folder: Path) -> tuple[int, int]:
    """The bytes that an array claims, and those that are stored of it."""
    try:
        if (folder / ".zarray").is_file():
            about = _object(folder / ".zarray")
            shape, chunks, kind = about["shape"], about["chunks"], np.dtype(about["dtype"])
            codecs = [each["id"] for each in (about.get("compressor"), *(about.get("filters") or [])) if each]
        else:
            about = _object(folder / "zarr.json")
            shape, kind = about["shape"], np.dtype(about["data_type"])
            chunks = about["chunk_grid"]["configuration"]["chunk_shape"]
            codecs = [each["name"] for each in about["codecs"]]
            if about.get("storage_transformers"):
                raise ValueError("storage transformers are not supported")
        sides = [*shape, *chunks]
        if len(shape) != len(chunks) or not all(type(side) is int and side >= 0 for side in sides):
            raise ValueError("shape and chunks must be whole numbers")
        if kind.kind not in "iufb":
            raise ValueError(f"must hold numbers; holds {kind}")
        if others := [codec for codec in codecs if codec not in _CODECS]:
            raise ValueError(f"its codec must be one of {', '.join(sorted(_CODECS))}; got {str(others[0])[:40]}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{folder}: not an array of numbers: {' '.join(str(error).split())[:200]}") from None
    claimed = math.prod(shape) * kind.itemsize
    if math.prod(chunks) * kind.itemsize > max(8 * claimed, 16 * SMALL_BYTES):
        raise RecordingError(f"{folder}: claims chunks of {chunks} for shape {shape}")
    pieces = (file for file in folder.rglob("*") if file.name not in (".zarray", ".zattrs", "zarr.json"))
    return claimed, sum(file.stat().st_size for file in pieces if file.is_file())


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise RecordingError(f"{file}: must hold an object")
    return value
