"""Arrays on the wire: a map in the header describes each part that holds an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.excerpt import excerpt
from trackd_client.protocol.errors import bad_message

Part = bytes | memoryview
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("|u1", "<u2", "<i4", "<i8", "<f4", "<f8")}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_AXIS = 2**31
_SMALL = 4096  # bytes


class PartList:
    """The parts of a message under construction. Part 0 is reserved for the header."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        """Append an array and return the map that describes it in the header.

        Raises:
            ProtocolError: the dtype is not one of the wire's.
        """
        contiguous, name = array, _NAMES.get(array.dtype)
        if name is None or not array.flags.c_contiguous:
            little = array.dtype.newbyteorder("<")
            name = _NAMES.get(little)
            if name is None:
                raise bad_message(f"dtype must be one of {', '.join(DTYPES)}; got {array.dtype.str}")
            contiguous = np.ascontiguousarray(array, dtype=little)
        # A view of a small array takes longer than its copy, and one of an empty array cannot be cast.
        self.parts.append(contiguous.tobytes() if contiguous.nbytes <= _SMALL else contiguous.data.cast("B"))
        return {"dtype": name, "shape": list(array.shape), "part": len(self.parts)}

    def add_bytes(self, data: Part) -> int:
        """Append raw bytes and return their part number."""
        self.parts.append(data)
        return len(self.parts)


def part_at(index: Any, parts: Sequence[Part], name: str) -> Part:
    """The part that a header names, counted from 1."""
    if type(index) is not int or not 1 <= index <= len(parts):
        raise bad_message(f"{name}.part must be 1 to {len(parts)}, the parts after the header; got {excerpt(index)}")
    return parts[index - 1]


def shape_of(ref: Mapping[str, Any], name: str, most_axes: int = 3) -> tuple[int, ...]:
    """The shape in a header, checked. Its sizes are Python integers, so that no product overflows."""
    shape = ref.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= most_axes:
        raise bad_message(f"{name}.shape must be a list of 1 to {most_axes} sizes; got {excerpt(shape)}")
    for size in shape:
        if type(size) is not int or not 0 <= size < _MAX_AXIS:
            raise bad_message(f"{name}.shape must hold sizes from 0 to 2**31 - 1; got {excerpt(shape)}")
    return tuple(shape)


def read_array(
    ref: Any, parts: Sequence[Part], name: str, dtypes: Sequence[str], shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """The array that a header's map describes, as a read-only view of its part.

    Args:
        ref: the map `{"dtype", "shape", "part"}`.
        parts: the parts after the header.
        name: the field, for error texts.
        dtypes: the dtypes that this field may have.
        shape: the result of `shape_of` for this map, if the caller has it.

    Raises:
        ProtocolError: `bad_message`, if the map is ill-formed, or its bytes do not fit its shape.
    """
    if not isinstance(ref, dict):
        raise bad_message(f"{name} must be an array map; got {excerpt(ref)}")
    dtype_name = ref.get("dtype")
    if not isinstance(dtype_name, str) or dtype_name not in dtypes:
        raise bad_message(f"{name}.dtype must be one of {', '.join(dtypes)}; got {excerpt(dtype_name)}")
    if shape is None:
        shape = shape_of(ref, name)
    data = part_at(ref.get("part"), parts, name)
    dtype = DTYPES[dtype_name]
    expected = prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise bad_message(
            f"{name} of shape {list(shape)} and dtype {dtype_name} needs {expected} bytes; its part has {len(data)}"
        )
    try:
        array: NDArray[Any] = np.ndarray(shape, dtype, data)
    except ValueError:  # an empty array with other axes larger than numpy allows
        raise bad_message(f"{name}.shape is too large even for an empty array; got {list(shape)}") from None
    if type(data) is not bytes:  # an array over bytes is read-only already
        array.flags.writeable = False
    return array
