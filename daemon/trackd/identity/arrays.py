"""Flat arrays: what identities know, as numbers that a file can hold without any other kind of value.

A list of lists is two arrays: all values, and the length of each list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
_LENGTHS = ".lengths"


def integers(values: Iterable[int]) -> NDArray[np.int64]:
    """Return integers as an array (n,)."""
    return np.array(list(values), np.int64)


def rows(values: Iterable[Sequence[int]], columns: int) -> NDArray[np.int64]:
    """Return rows of integers as an array (n, columns)."""
    return np.array(list(values), np.int64).reshape(-1, columns)


def put_lists(arrays: Arrays, name: str, lists: Iterable[Iterable[int]]) -> None:
    """Add lists of integers."""
    found = [list(each) for each in lists]
    arrays[name] = integers(value for each in found for value in each)
    arrays[name + _LENGTHS] = integers(map(len, found))


def lists_of(arrays: Mapping[str, NDArray[Any]], name: str) -> list[list[int]]:
    """Return the lists that `put_lists` was given.

    Raises:
        KeyError, ValueError: they are missing, or their lengths do not belong to them.
    """
    values, lengths = arrays[name].tolist(), arrays[name + _LENGTHS].tolist()
    if min(lengths, default=0) < 0 or sum(lengths) != len(values):
        raise ValueError(f"the lengths of {name!r} do not belong to its {len(values)} values")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [values[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def put_numbers(arrays: Arrays, name: str, maps: Iterable[Mapping[int, float]]) -> None:
    """Add maps from integers to numbers, such as beliefs."""
    found = list(maps)
    put_lists(arrays, name, found)
    arrays[name + ".values"] = np.array([value for each in found for value in each.values()], np.float64)


def numbers_of(arrays: Mapping[str, NDArray[Any]], name: str) -> list[dict[int, float]]:
    """Return the maps that `put_numbers` was given.

    Raises:
        KeyError, ValueError: they are missing or do not belong together.
    """
    values = iter(arrays[name + ".values"].tolist())
    keys = lists_of(arrays, name)
    if sum(map(len, keys)) != len(arrays[name + ".values"]):
        raise ValueError(f"the numbers of {name!r} do not belong to its keys")
    return [{key: next(values) for key in each} for each in keys]
