"""The files that a `dataset` section names, and the names of their recordings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from trackd_client.configuration import ConfigError, find_path

WHERE = "dataset.test_dataset"

T = TypeVar("T")


def named_file(path: str, base: Path, key: str) -> Path:
    """The file that `key` names.

    Raises:
        ConfigError: it is missing, or not a file.
    """
    found = find_path(path, f"{WHERE}.{key}", base, "file")
    if not found.is_file():
        raise ConfigError(f"{WHERE}.{key}: {found} is not a file")
    return found


def named_files(paths: Iterable[str], base: Path, key: str) -> list[Path]:
    """The files that `key` names.

    Raises:
        ConfigError: one is missing, or not a file.
    """
    return [named_file(path, base, key) for path in paths]


def one_each(found: Sequence[T], n: int) -> Sequence[T | None]:
    """One item for each of `n` recordings: those of `found`, or None for every recording if `found` is empty."""
    return found or [None] * n


def unique_names(names: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """Unique names, valid for streams and files. Equal ones get the folder's name, and then a number."""
    plain = [_stream_name(name) for name in names]
    named = [
        _stream_name(f"{path.absolute().parent.name}_{name}") if plain.count(name) > 1 else name
        for name, path in zip(plain, paths, strict=True)
    ]
    taken: set[str] = set()
    for position, name in enumerate(named):
        number = 2
        while named[position] in taken:
            named[position] = f"{name}_{number}"
            number += 1
        taken.add(named[position])
    return named


def _stream_name(name: str) -> str:
    """`name` with underscores for the characters that a stream name may not hold; at most 120 characters."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120] or "recording"
