"""State as bytes and back: nested maps of plain arrays and scalars in MessagePack. Reading them executes no code."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from trackd.tracking.window import State

_ARRAY = "__array__"
_KINDS = "biuf"  # booleans, integers, floats
_NAMES = {np.dtype(code): np.dtype(code).str for code in "?bBhHiIlLqQefd"}  # `dtype.str` takes 1 µs


class DamagedError(ValueError):
    """Stored bytes that are damaged."""


def pack(state: State) -> bytes:
    """Return nested maps and lists of arrays, scalars, texts and None as bytes.

    Raises:
        TypeError: the state holds a value of another type.
    """
    packed: bytes = msgpack.packb(state, default=_encode)
    return packed


def unpack(data: bytes) -> State:
    """Return the state that `pack` was given; its arrays are writable copies.

    Raises:
        DamagedError: the bytes are damaged.
    """
    try:
        state = msgpack.unpackb(data, object_hook=_decode, strict_map_key=True)
    except Exception as error:
        raise DamagedError(f"stored state cannot be read: {type(error).__name__}: {error}") from None
    if not isinstance(state, dict):
        raise DamagedError(f"stored state must be a map; got {type(state).__name__}")
    return state


def nbytes(state: State) -> int:
    """Return about how many bytes a packed state has: the bytes of its arrays."""
    total = 0
    for value in state.values():
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, dict):
            total += nbytes(value)
    return total


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        return {_ARRAY: (_NAMES.get(value.dtype) or value.dtype.str, value.shape, value.tobytes())}
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return value.item()
    raise TypeError(f"state must hold plain arrays and scalars; got {type(value).__name__}")


def _decode(value: dict[str, Any]) -> Any:
    if _ARRAY not in value:
        return value
    name, shape, data = value[_ARRAY]
    dtype = np.dtype(name)
    if dtype.kind not in _KINDS:
        raise ValueError(f"dtype {name!r} is not a plain one")
    return np.frombuffer(data, dtype).reshape(shape).copy()
