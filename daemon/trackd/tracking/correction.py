"""A correction: what a person changes in the tracks of a stream between two frames, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_KEPT = 64  # corrections of a stream that can be undone
MAX_BETWEEN = 64  # corrections between two frames
MAX_NAMES = 256  # named tracks of a stream
MAX_CHARACTERS = 64  # of a name, and of an author
_SHOWN = 20  # ids in an error's text


class Action(StrEnum):
    """What a correction does."""

    RENAME = "rename"  # give a track a name, or remove it
    SWAP = "swap"  # exchange the ids of two tracks
    MERGE = "merge"  # one track goes on as another, which is lost
    END = "end"  # end a track
    NEW_ID = "new_id"  # the animal goes on as a new track
    UNDO = "undo"  # take an earlier correction back


class CorrectionError(ValueError):
    """A correction that is not possible. The text states what would be right."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction as a person asks for it."""

    action: Action
    tracks: tuple[int, ...] = ()  # one id; two with `swap`; none with `undo`
    into: int | None = None  # with `merge`: the id that stays
    name: str | None = None  # with `rename`; None removes the name
    undoes: int | None = None  # with `undo`: the number of a correction; None: the last one that is not undone
    author: str = ""
    t_ns: int = 0  # when it was asked for, Unix ns


@dataclass(frozen=True, slots=True)
class Applied:
    """A correction that was applied."""

    number: int  # from 1 in each epoch
    action: Action
    author: str
    t_ns: int
    tracks: tuple[int, ...]
    into: int | None = None
    new_id: int | None = None
    renames: bool = False  # a track has another name now, or none
    name: str | None = None  # which
    undoes: int | None = None
    restored: int | None = None  # with `undo`: the id that had ended, and is live again
    replaced: int | None = None  # with `undo`: the id of a later track, which goes on as the restored one
    # What an undo needs beside that.
    name_before: str | None = None  # of the first of `tracks`
    moved: bool = False  # with `merge`: the animal has moved to the other id; else only the track ends
    first_index: int = -1  # with `merge`: of the slot that stays; with `end`: of the track
    hits: int = 0  # with `merge` and `end`: of the slot that ends

    @property
    def ids(self) -> set[int]:
        """All ids that it concerns."""
        return {*self.tracks, *(each for each in (self.into, self.new_id, self.replaced) if each is not None)}

    def as_map(self) -> dict[str, Any]:
        """Return what is published of it, as plain values."""
        published: dict[str, Any] = {
            "number": self.number,
            "action": str(self.action),
            "author": self.author,
            "t_ns": self.t_ns,
            "tracks": list(self.tracks),
        }
        if self.renames:
            published["name"] = self.name
        for name in ("into", "new_id", "undoes", "restored", "replaced"):
            if (value := getattr(self, name)) is not None:
                published[name] = value
        return published


def check_text(what: str, value: str) -> None:
    """Check a name or an author.

    Raises:
        CorrectionError: it is empty or too long, has a character that cannot be printed, or a space at an end.
    """
    if not 1 <= len(value) <= MAX_CHARACTERS:
        raise CorrectionError(f"{what} must have 1 to {MAX_CHARACTERS} characters; got {len(value)}")
    if not value.isprintable() or value != value.strip():
        raise CorrectionError(f"{what} must have printable characters only, and no space at its ends; got {value!a}")


def listed(numbers: list[int]) -> str:
    """Return numbers as an error's text has them."""
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more
