"""The names of tracks in files: the ones that tracks were given, else `track_<id>`; no two tracks share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def names_of(track_ids: Iterable[int], names: Mapping[int, str]) -> list[str]:
    """A name for each id, in their order. A name that an earlier id has gets the id after it: `mouse (7)`.

    Args:
        track_ids: the tracks of a file.
        names: those that were given.
    """
    taken: set[str] = set()
    found = []
    for track_id in track_ids:
        name = names.get(track_id) or f"track_{track_id}"
        if name in taken:
            name = f"{name} ({track_id})"
        taken.add(name)
        found.append(name)
    return found
