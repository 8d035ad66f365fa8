"""The beginning of a value, for an error text: its cost depends on the length of the text, not of the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_BRACKETS: dict[type[Any], str] = {list: "[]", tuple: "()", dict: "{}"}
_YAML_WORDS = {"None": "null", "True": "true", "False": "false", "nan": ".nan", "inf": ".inf", "-inf": "-.inf"}


def excerpt(value: Any, most: int = 60) -> str:
    """Return `repr(value)`, cut to `most` characters with `...` at its end."""
    return _cut(value, most, repr)


def yaml_excerpt(value: Any, most: int = 60) -> str:
    """Return the same as a YAML file has it: `null`, `true`, `.nan` in place of Python's words."""
    return _cut(value, most, _yaml_word)


def _cut(value: Any, most: int, scalar: Callable[[Any], str]) -> str:
    text = _beginning(value, most + 1, scalar)
    return text if len(text) <= most else text[: most - 3] + "..."


def _yaml_word(value: Any) -> str:
    text = repr(value)
    return _YAML_WORDS.get(text, text)


def _beginning(value: Any, room: int, scalar: Callable[[Any], str]) -> str:
    """Return the first characters of the value's text: at least `room` of them, or all."""
    if isinstance(value, str | bytes):
        return repr(value[:room])
    brackets = _BRACKETS.get(type(value))
    if brackets is None or not value or room <= 0:
        return scalar(value) if brackets is None or not value else brackets[0]
    pieces, length = [brackets[0]], 1
    for item in value:
        if length > room:
            return "".join(pieces)
        piece = _beginning(item, room - length, scalar)
        if type(value) is dict:
            piece += ": " + _beginning(value[item], room - length, scalar)
        pieces += [piece, ", "]
        length += len(piece) + 2
    pieces[-1] = "," + brackets[1] if type(value) is tuple and len(value) == 1 else brackets[1]
    return "".join(pieces)
