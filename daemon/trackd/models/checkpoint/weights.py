"""Tensors from their places in a checkpoint's file. All sizes are checked before anything is allocated."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from trackd.models.checkpoint.stored_tensor import ITEM_BYTES, StoredTensor
from trackd.models.errors import CheckpointError

_PIECE = 1 << 24  # bytes of one read


def read_weights(fd: int, file_bytes: int, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Read tensors.

    Args:
        fd: the open file.
        file_bytes: its size.
        tensors: by name; checked against the size of the file each, but not yet together.

    Raises:
        CheckpointError: together they have more bytes than the file, or a part of the file is damaged.
    """
    storages: dict[tuple[object, ...], list[str]] = {}
    for name, stored in tensors.items():
        storages.setdefault((stored.start, stored.size, stored.dtype, stored.storage_numel), []).append(name)
    # Members of a zip may overlap, and tensors may share a storage: a small file would fill the memory.
    in_memory = sum(stored.nbytes for stored in tensors.values())
    read = sum(tensors[names[0]].size for names in storages.values())
    if max(in_memory, read) > file_bytes:
        raise CheckpointError(f"its tensors have {max(in_memory, read)} bytes together, the file {file_bytes}")
    out = {}
    for names in storages.values():
        numbers = _storage(fd, tensors[names[0]])
        for name in names:
            stored = tensors[name]
            view = numbers.as_strided(stored.shape, stored.stride, stored.offset)
            whole = view.is_contiguous() and stored.numel == stored.storage_numel and len(names) == 1
            out[name] = view if whole else view.clone(memory_format=torch.contiguous_format)
    return {name: out[name] for name in tensors}


def _storage(fd: int, stored: StoredTensor) -> Tensor:
    buffer = torch.empty(stored.size, dtype=torch.uint8)
    data = buffer.numpy().data
    read_into(fd, data, stored.start)
    if stored.crc is not None and zlib.crc32(data) != stored.crc:
        raise CheckpointError(f"its tensor {stored.name} is damaged: its checksum does not match")
    nbytes = stored.storage_numel * ITEM_BYTES[stored.dtype]
    dtype: torch.dtype = getattr(torch, stored.dtype)
    return buffer[:nbytes].view(dtype) if nbytes else torch.empty(0, dtype=dtype)


def read_into(fd: int, data: memoryview, start: int) -> None:
    """Fill a buffer from a place in a file, without the interpreter lock.

    Raises:
        CheckpointError: the file ends before, or cannot be read.
    """
    done = 0
    while done < len(data):
        try:
            n = os.preadv(fd, [data[done : done + _PIECE]], start + done)
        except OSError as error:
            raise CheckpointError(f"it could not be read: {error.strerror}") from None
        if n == 0:
            raise CheckpointError("it was cut short while it was read")
        done += n


def digest(fd: int, file_bytes: int) -> str:
    """Return the SHA-256 of a file, as hexadecimal text; computed without the interpreter lock.

    Raises:
        CheckpointError: the file cannot be read.
    """
    total = hashlib.sha256()
    buffer = torch.empty(min(_PIECE, file_bytes), dtype=torch.uint8).numpy().data
    for start in range(0, file_bytes, _PIECE):
        piece = buffer[: min(_PIECE, file_bytes - start)]
        read_into(fd, piece, start)
        total.update(piece)
    return total.hexdigest()
