"""A tensor in a checkpoint's file: its type, its shape, and the place of its numbers. Does not import torch."""

from __future__ import annotations

from typing import NamedTuple

ITEM_BYTES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "bool": 1,
}  # torch's names
MOST_TENSORS = 16_384  # of one checkpoint; the largest architecture that trackd accepts has 11,000
MOST_NAME = 512  # characters
_MOST_AXES = 8
_MOST_LENGTH = 1 << 40


class StoredTensor(NamedTuple):
    """A view of a storage, which is a range of bytes in the file."""

    name: str
    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # numbers
    offset: int  # of the first number in the storage
    storage_numel: int
    start: int  # byte of the file where the storage begins
    size: int  # bytes of the storage in the file
    crc: int | None  # CRC-32 of these bytes; None: the file has none

    @property
    def numel(self) -> int:
        """How many numbers the tensor has."""
        total = 1
        for length in self.shape:
            total *= length
        return total

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in memory."""
        return self.numel * ITEM_BYTES[self.dtype]

    def fault(self, file_bytes: int) -> str | None:
        """Return what is wrong with this description, for a file of so many bytes; None: nothing."""
        name = f"its tensor {self.name}"
        if len(self.name) > MOST_NAME:
            return f"a tensor's name must have at most {MOST_NAME} characters; got {len(self.name)}"
        if self.start < 0 or self.size < 0 or self.start + self.size > file_bytes:
            return f"{name} lies past the end of the file"
        if self.storage_numel < 0 or self.storage_numel * ITEM_BYTES[self.dtype] > self.size:
            return f"{name} needs {self.storage_numel} numbers; the file holds fewer"
        if len(self.shape) != len(self.stride) or self.offset < 0 or self._last >= self.storage_numel:
            return f"{name} of shape {self.shape} reaches past its {self.storage_numel} numbers"
        if self.numel > self.storage_numel:
            return f"{name} of shape {self.shape} repeats its {self.storage_numel} numbers"
        return None

    @property
    def _last(self) -> int:
        """The index of the last number in the storage; −1 for a tensor without numbers."""
        if 0 in self.shape:
            return -1
        steps = zip(self.shape, self.stride, strict=False)
        return self.offset + sum((length - 1) * step for length, step in steps)


def lengths(value: object) -> tuple[int, ...] | None:
    """Return a shape or stride as a tuple; None where it is not one."""
    if not isinstance(value, tuple | list) or len(value) > _MOST_AXES:
        return None
    if all(type(item) is int and 0 <= item < _MOST_LENGTH for item in value):
        return tuple(value)
    return None
