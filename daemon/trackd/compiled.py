"""Functions compiled to machine code: loops over instances and tracks without overhead per operation.

At ten instances the overhead of a numpy call exceeds its arithmetic, so a step of a hundred numpy calls is mostly
overhead. Such loops are written in Python, and Numba compiles them once per machine. Its cache is beside the source, or
in `NUMBA_CACHE_DIR`; only the first start waits for the compiler.

Argument types are declared, so that nothing is compiled while a stream waits: a call with other types is a `TypeError`.
Arrays are in C order. Tables of named numbers are arrays of records (numpy's structured types).

A trap: Numba renews the cache when the function's own file or its types change, not when another file does. The
constants and the compiled functions that a compiled function uses must therefore be in its own file; everything else is
an argument. tests/unit/test_compiled.py checks this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numba import from_dtype, njit, types
from numba.extending import register_jitable

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

INT, FLOAT, FLAG = types.int64, types.float64, types.boolean
INTS, FLOATS, FLAGS, FLOATS32, INTS32 = (
    one[::1] for one in (types.int64, types.float64, types.boolean, types.float32, types.int32)
)
INT_TABLE, FLOAT_TABLE, FLOAT32_TABLE, INT32_TABLE = (
    one[:, ::1] for one in (types.int64, types.float64, types.float32, types.int32)
)
FLOAT32_CUBE = types.float32[:, :, ::1]
GIVEN_BOXES = types.Array(types.float32, 2, "C", readonly=True)  # also read-only memory


def record(dtype: np.dtype[Any]) -> Any:
    """The type of one record."""
    return from_dtype(dtype)


def records(dtype: np.dtype[Any]) -> Any:
    """The type of an array (n,) of records."""
    return from_dtype(dtype)[::1]


def piece(function: Function) -> Function:
    """Mark a function that is compiled as a part of its callers, which are in the same file."""
    made: Function = register_jitable(function)
    return made


@cache
def _warn_once() -> None:
    logger.warning("compiling the tracker for this machine; this takes some seconds and happens once")


def compiled(result: Any, *arguments: Any, nogil: bool = False) -> Callable[[Function], Function]:
    """Compile a function.

    Args:
        result: the type of the result; None: no result.
        arguments: the types of the arguments.
        nogil: let other threads run during a call; for work of more than a fraction of a millisecond.
    """
    signature = (types.void if result is None else result)(*arguments)

    def compile_it(function: Function) -> Function:
        def attempt(keep: bool) -> Function:
            made = njit(signature, cache=keep, nogil=nogil, error_model="numpy")(function)
            if keep and made.stats.cache_misses:
                _warn_once()
            compiled_function: Function = made
            return compiled_function

        try:
            return attempt(keep=True)
        except RuntimeError as error:
            if "cache" not in str(error):
                raise
            logger.warning("%s is compiled at every start: %s", function.__qualname__, error)
            return attempt(keep=False)

    return compile_it
