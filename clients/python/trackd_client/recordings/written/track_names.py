"""The ids and the names that tracks have in files which hold a name for every track."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_NUMBER = re.compile(r"(?:track_?)?(\d{1,9})", re.ASCII)


def numbers_of(names: Mapping[int, str]) -> dict[int, int] | None:
    """The numbers that all names are, such as `7` or `track_7`; None if one is no number, or two are equal.

    Args:
        names: by identity.

    Returns:
        The numbers by identity.
    """
    matches = {identity: _NUMBER.fullmatch(name) for identity, name in names.items()}
    numbers = {identity: int(match[1]) for identity, match in matches.items() if match is not None}
    return numbers if len(numbers) == len(names) == len(set(numbers.values())) else None


def ids_of(names: Sequence[str]) -> tuple[list[int], dict[int, str]]:
    """The ids of tracks that have nothing but names, and the names that are no numbers, by id.

    If all names are numbers, the ids are these. Else the tracks are numbered in their order, and keep their names.
    """
    numbers = numbers_of(dict(enumerate(names)))
    if numbers is not None:
        return [numbers[place] for place in range(len(names))], {}
    return list(range(len(names))), dict(enumerate(names))


def given_names(ids: Sequence[int], names: Sequence[str], *, plain: str = "track_{}") -> dict[int, str]:
    """The names that tracks were given, by id, of names as trackd writes them.

    Args:
        ids: of the tracks.
        names: a name for each. One that has the id in brackets, behind the name of an earlier track, is that name.
        plain: the name of a track that was given none.
    """
    taken: set[str] = set()
    given: dict[int, str] = {}
    for track_id, name in zip(ids, names, strict=True):
        whole = name.removesuffix(f" ({track_id})")
        shown = whole if whole in taken else name
        taken.add(name)
        if shown != plain.format(track_id):
            given[track_id] = shown
    return given
