"""The beginning of a value, for an error text: its cost depends on the length of the text, not of the value."""

from __future__ import annotations

from typing import Any

_BRACKETS: dict[type[Any], str] = {list: "[]", tuple: "()", dict: "{}"}


def excerpt(value: Any, most: int = 60) -> str:
    """Return `repr(value)`, cut to `most` characters with `...` at its end."""
    text = _beginning(value, most + 1)
    return text if len(text) <= most else text[: most - 3] + "..."


def _beginning(value: Any, room: int) -> str:
    """Return the first characters of `repr(value)`: at least `room` of them, or all."""
    if isinstance(value, str | bytes):
        return repr(value[:room])
    brackets = _BRACKETS.get(type(value))
    if brackets is None or not value or room <= 0:
        return repr(value) if brackets is None or not value else brackets[0]
    pieces, length = [brackets[0]], 1
    for item in value:
        if length > room:
            return "".join(pieces)
        piece = _beginning(item, room - length)
        if type(value) is dict:
            piece += ": " + _beginning(value[item], room - length)
        pieces += [piece, ", "]
        length += len(piece) + 2
    pieces[-1] = "," + brackets[1] if type(value) is tuple and len(value) == 1 else brackets[1]
    return "".join(pieces)
