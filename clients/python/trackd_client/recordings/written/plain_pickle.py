"""Lists and tuples of texts and numbers in a pickle, read without `pickle`: no object of any class is ever made.

PyTables stores the names of a table's columns in such a form.
"""

from __future__ import annotations

import pickletools
from typing import Any

MOST_BYTES = 1 << 22
_MARK = object()
_VALUES = frozenset({
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
})  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_plain_pickle(data: bytes) -> Any:
    """The value of a pickle of lists, tuples, texts, whole numbers and None.

    Raises:
        ValueError: it holds something else, or is longer than `MOST_BYTES`.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"has {len(data)} bytes; at most {MOST_BYTES} are read")
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name == "STOP":
                (value,) = stack
                return value
            _step(code.name, argument, stack, memo)
    except (IndexError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"is damaged: {error}") from None
    raise ValueError("is cut short")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _VALUES:
        stack.append(argument)
    elif name == "NONE":
        stack.append(None)
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "MARK":
        stack.append(_MARK)
    elif name in _TUPLES:
        n = _TUPLES[name]
        items = stack[len(stack) - n :]
        if len(items) != n:
            raise IndexError("too few items")
        del stack[len(stack) - n :]
        stack.append(tuple(items))
    elif name in ("LIST", "TUPLE"):
        items = _marked(stack)
        stack.append(items if name == "LIST" else tuple(items))
    elif name == "APPEND":
        item = stack.pop()
        stack[-1].append(item)
    elif name == "APPENDS":
        items = _marked(stack)
        stack[-1].extend(items)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name not in ("PROTO", "FRAME"):
        raise ValueError(f"holds more than lists of texts and numbers: {name}")


def _marked(stack: list[Any]) -> list[Any]:
    """Take what is above the last mark, and the mark."""
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[place + 1 :]
    del stack[place:]
    return items
