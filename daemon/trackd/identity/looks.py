"""Looks: what a stream has learnt of its animals up to one frame, as the bytes of a file.

The bytes are a head (`_HEAD`: mark, version, CRC-32 and length of the rest) and a `.safetensors` file: flat arrays of
numbers, and a few texts. Reading them executes no code, and allocates at most some times the size of the file, which is
bounded before it is read.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from trackd.identity.arrays import Arrays

VERSION = 1  # another one where the arrays or the features (`aligned_crops`) mean something else
MAX_BYTES = 16 * 1024 * 1024  # of a file
_MAX_TEXTS = 64 * 1024  # bytes of the list of arrays, and of the texts
_MARK = b"trackd.l"
_HEAD = struct.Struct("<8sIIQ")
_ABOUT = "trackd_looks"
_DTYPES = ("<i8", "<f8", "<f4")


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What a stream has learnt of its animals."""

    stream: str
    epoch: int
    seq: int  # of the frame after which it was so
    gallery: str | None  # the name of the one that it began with
    corrections: int  # the number of the last one before that
    arrays: Mapping[str, NDArray[Any]]

    def to_bytes(self) -> bytes:
        """Return the content of its file.

        Raises:
            ValueError: it has more than `MAX_BYTES`.
        """
        from safetensors.numpy import save

        size = sum(array.nbytes for array in self.arrays.values())
        if size + _MAX_TEXTS + _HEAD.size > MAX_BYTES:
            raise ValueError(f"it must have at most {MAX_BYTES} bytes; got {size} without its texts")
        about = {
            "stream": self.stream, "epoch": self.epoch, "seq": self.seq, "gallery": self.gallery,
            "corrections": self.corrections,
        }  # fmt: skip
        # The library writes the memory of an array as it is, also where it is a part of another one.
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        data = save(arrays, {_ABOUT: json.dumps(about)})
        return _HEAD.pack(_MARK, VERSION, crc32(data), len(data)) + data


def read_looks(path: Path) -> Looks:
    """Read a file of looks.

    Raises:
        FileNotFoundError: there is none.
        OSError, ValueError: it cannot be read; the text says why.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not _HEAD.size <= size <= MAX_BYTES:
            raise ValueError(f"it must have {_HEAD.size} to {MAX_BYTES} bytes; got {size}")
        mark, version, checksum, length = _HEAD.unpack(file.read(_HEAD.size))
        if mark != _MARK:
            raise ValueError("it is no file of looks")
        if version != VERSION:
            raise ValueError(f"it is of version {version}; this trackd reads {VERSION}")
        if length != size - _HEAD.size:
            raise ValueError(f"it must have {length} bytes after its head; got {size - _HEAD.size}")
        data = file.read(length)
    if crc32(data) != checksum:
        raise ValueError("its checksum does not match")
    return _parsed(data)


def _parsed(data: bytes) -> Looks:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    n = int.from_bytes(data[:8], "little")
    if not 0 < n <= _MAX_TEXTS:
        raise ValueError(f"the list of its arrays must have 1 to {_MAX_TEXTS} bytes; got {n}")
    try:
        about = json.loads(json.loads(data[8 : 8 + n])["__metadata__"][_ABOUT])
        arrays: Arrays = load(data)
        texts = (about["stream"], about["gallery"])
        numbers = (about["epoch"], about["seq"], about["corrections"])
    except (SafetensorError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(texts[0], str) or not isinstance(texts[1], str | None):
        raise ValueError("its stream and its gallery are no texts")
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("its epoch, its seq and its number of corrections are no integers")
    for name, array in arrays.items():
        if array.dtype.str not in _DTYPES:
            raise ValueError(f"{name!r} has the type {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} holds numbers that are not finite")
    copies = {name: array.copy() for name, array in arrays.items()}
    return Looks(texts[0], numbers[0], numbers[1], texts[1], numbers[2], copies)
