"""Functions that run as machine code: loops over instances and tracks that cost what their arithmetic costs.

At ten instances a numpy call takes longer for itself than for its numbers, so a step made of a hundred of them is
nearly all overhead. Such loops are written in Python all the same, and Numba compiles them: once on a machine, into its
cache beside the source (or where `NUMBA_CACHE_DIR` says), so that only the very first start waits for it.

Argument types are given, so that nothing is compiled while a stream waits: a call with others is a `TypeError`. Arrays
are in C order. Tables of named numbers are arrays of records (numpy's structured types).

A trap: the cache is renewed when the function's own file changes, or its types, and knows nothing of other files. So
the constants and the compiled functions that a compiled function names stand in its own file; all else comes as an
argument. tests/unit/test_compiled.py looks.
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
GIVEN_BOXES = types.Array(types.float32, 2, "C", readonly=True)  # also of memory that must not be written


def record(dtype: np.dtype[Any]) -> Any:
    """The type of one record."""
    return from_dtype(dtype)


def records(dtype: np.dtype[Any]) -> Any:
    """The type of an array (n,) of records."""
    return from_dtype(dtype)[::1]


def piece(function: Function) -> Function:
    """A function that is compiled as a part of those which call it, in the same file."""
    made: Function = register_jitable(function)
    return made


@cache
def _say_once() -> None:
    logger.warning("the tracker is being compiled for this machine, once; that takes some seconds")


def compiled(result: Any, *arguments: Any, nogil: bool = False) -> Callable[[Function], Function]:
    """Compile a function.

    Args:
        result: its type, None for nothing.
        arguments: their types.
        nogil: other threads may run meanwhile; for work of more than a fraction of a millisecond.
    """
    signature = (types.void if result is None else result)(*arguments)

    def compile_it(function: Function) -> Function:
        def attempt(keep: bool) -> Function:
            made = njit(signature, cache=keep, nogil=nogil, error_model="numpy")(function)
            if keep and made.stats.cache_misses:
                _say_once()
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
