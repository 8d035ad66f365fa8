"""Lines of values that a benchmark prints and run.py reads back."""

from __future__ import annotations

from collections.abc import Iterator

_SEPARATOR = " | "


def line_of(kind: str, *values: str) -> str:
    """Return the line of values of a kind; none of them holds ` | `."""
    return _SEPARATOR.join((kind, *values))


def values_of(kind: str, count: int, printed: str) -> Iterator[list[str]]:
    """Yield the values of each line of a kind with so many of them in a benchmark's output."""
    for each in printed.splitlines():
        found, *values = each.strip().split(_SEPARATOR)
        if found == kind and len(values) == count:
            yield values
