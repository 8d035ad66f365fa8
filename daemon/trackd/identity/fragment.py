"""A fragment: a part of a track within which its id cannot have been exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trackd.identity.arrays import Arrays, lists_of, put_lists, rows

_COLUMNS = 6


@dataclass(slots=True, eq=False)
class Fragment:
    """One fragment of a track."""

    number: int  # from 0 in the order of time
    track: int  # its id when it began
    suspects: frozenset[int]  # ids that the animal may have, its own included
    frame_index: int  # of its first observation
    run: int = 0  # the run of frames in which the track was seen; a gap begins another one
    before: int | None = None  # the number of the track's fragment before this one
    after_gap: bool = False  # the track was not seen for some frames since then


def put_fragments(arrays: Arrays, fragments: Iterable[Fragment]) -> None:
    """Add fragments, each once."""
    found = sorted({each.number: each for each in fragments}.values(), key=lambda each: each.number)
    columns = [
        (each.number, each.track, each.frame_index, each.run, -1 if each.before is None else each.before,
         int(each.after_gap))
        for each in found
    ]  # fmt: skip
    arrays["fragments"] = rows(columns, _COLUMNS)
    put_lists(arrays, "fragments.suspects", (sorted(each.suspects) for each in found))


def fragments_of(arrays: Mapping[str, NDArray[Any]]) -> dict[int, Fragment]:
    """Return the fragments that `put_fragments` was given, by number.

    Raises:
        KeyError, ValueError: they are missing or do not belong together.
    """
    suspects = lists_of(arrays, "fragments.suspects")
    found = {}
    for row, each in zip(arrays["fragments"].tolist(), suspects, strict=True):
        number, track, frame_index, run, before, after_gap = row
        found[number] = Fragment(
            number, track, frozenset(each), frame_index, run, None if before < 0 else before, bool(after_gap)
        )
    return found
