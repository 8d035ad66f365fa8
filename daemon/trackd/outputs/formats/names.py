"""The names of tracks in files: the ones that tracks were given, else `track_<id>`; no two tracks share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trackd.outputs.records import OutputRecord


def note_names(names: dict[int, str], record: OutputRecord) -> None:
    """Keep the last name of each track; one that was removed counts no more.

    Args:
        names: of earlier frames, by track; this frame's are added.
        record: the frame. Its names are those of its tracks.
    """
    if not record.names and not names:
        return
    for track_id in record.track_ids.tolist():
        if track_id in record.names:
            names[track_id] = record.names[track_id]
        else:
            names.pop(track_id, None)


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
