"""Typed reading of a checkpoint's config; errors name the key, the value and what would be right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from trackd.models.errors import CheckpointError

_E = TypeVar("_E", bound=StrEnum)


class Section:
    """A dict of the config with its name; every reader raises `CheckpointError` with the key and the value."""

    def __init__(self, name: str, values: Mapping[str, object]) -> None:
        self.name = name
        self.values = values

    def only(self, known: set[str]) -> None:
        """Raise an error for an unknown key."""
        for key in self.values:
            if key not in known:
                raise CheckpointError(f"{self.name}.{key} is not supported; known keys: {', '.join(sorted(known))}")

    def section(self, key: str) -> Section:
        """The dict under a key; empty if absent or null."""
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{self.name}.{key} must be a map of keys, or null; got {value!r}")
        return Section(f"{self.name}.{key}", value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise CheckpointError(f"{self.name}.{key} must be an integer from {low} to {high}; got {value!r}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.name}.{key} must be true or false; got {value!r}")
        return value

    def positive(self, key: str, default: float) -> float:
        """A number above 0."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise CheckpointError(f"{self.name}.{key} must be a number above 0; got {value!r}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.name}.{key} must be a string; got {value!r}")
        return value

    def choice(self, key: str, kind: type[_E], default: _E) -> _E:
        """One of the names of an enum, in any case."""
        value = self.values.get(key, default)
        names = [member.value for member in kind]
        if not isinstance(value, str) or value.lower() not in names:
            raise CheckpointError(f"{self.name}.{key} must be one of {', '.join(names)}; got {value!r}")
        return kind(value.lower())
