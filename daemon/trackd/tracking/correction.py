"""Corrections: what a person changes in the tracks of a stream between two frames, and the names of its tracks.

A correction moves ids between slots, or marks a track that ends before the next frame. The state of a track (its
window, its filters, its features) stays in its slot, and no association reads an id. So a correction changes which id
an animal has, and nothing else. Only the number of frames in which a track was observed moves with its id.

What was published of an id before it was corrected is kept until the next frame. The lists of that frame then state how
each id has changed, as if the tracker had decided it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from trackd.tracking.assignment import Assignment
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.window import RollingWindow, State

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


class _Was(StrEnum):
    """What was published of an id before it was corrected."""

    ACTIVE = "active"
    LOST = "lost"
    NEW = "new"  # nothing


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
    # What an undo needs beside that.
    name_before: str | None = None  # with `rename`
    moved: bool = False  # with `merge`: the animal has moved to the other id; else only the track ends
    first_index: int = -1  # with `merge`: of the slot that stays

    @property
    def ids(self) -> set[int]:
        """All ids that it concerns."""
        return {*self.tracks, *(each for each in (self.into, self.new_id) if each is not None)}

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
        for name in ("into", "new_id", "undoes"):
            if (value := getattr(self, name)) is not None:
                published[name] = value
        return published


class Corrections:
    """The names of one tracker's tracks, its last corrections, and what they change in the next frame.

    Attributes:
        names: by id, of live tracks only; each name once.
        ending: ids of the tracks that end before the next frame. They count as ended for every other correction.
    """

    def __init__(self, window: RollingWindow, lifecycle: Lifecycle) -> None:
        self._window = window
        self._lifecycle = lifecycle
        self.names: dict[int, str] = {}
        self.ending: list[int] = []
        self._published: dict[int, _Was] = {}  # of the ids that were corrected since the last frame
        self._kept: dict[int, Applied] = {}  # by number, ascending; those that were undone are not kept
        self._since: list[dict[str, Any]] = []  # those since the last frame, as they are published
        self._count = 0

    # --- corrections ---

    def apply(self, correction: Correction) -> Applied:
        """Apply a correction from the next frame on.

        Raises:
            CorrectionError: it is not possible; nothing has changed.
        """
        steps: dict[Action, Callable[[Correction], Applied]] = {
            Action.RENAME: self._rename,
            Action.SWAP: self._swap,
            Action.MERGE: self._merge,
            Action.END: self._end,
            Action.NEW_ID: self._new_id,
            Action.UNDO: self._undo,
        }
        if len(self._since) >= MAX_BETWEEN:
            raise CorrectionError(f"at most {MAX_BETWEEN} corrections fit between two frames; repeat it after the next")
        applied = replace(
            steps[correction.action](correction), number=self._count + 1, author=correction.author, t_ns=correction.t_ns
        )
        self._count += 1
        self._since.append(applied.as_map())
        if applied.undoes is not None:
            del self._kept[applied.undoes]
        else:
            self._kept[applied.number] = applied
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return applied

    def _rename(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        self._slot(track)
        if asked.name is not None:
            check_text("name", asked.name)
        before = self._set_name(track, asked.name)
        return Applied(0, Action.RENAME, "", 0, (track,), renames=True, name=asked.name, name_before=before)

    def _swap(self, asked: Correction) -> Applied:
        one, other = asked.tracks
        self._slot(one)
        if one == other:
            raise CorrectionError(f"swap needs two different tracks; got {one} twice")
        self._slot(other)
        self._exchange(one, other)
        return Applied(0, Action.SWAP, "", 0, (one, other))

    def _merge(self, asked: Correction) -> Applied:
        (track,), into = asked.tracks, asked.into
        assert into is not None
        life, slot = self._lifecycle, self._slot(track)
        if track == into:
            raise CorrectionError(f"merge needs two different tracks; got {track} twice")
        kept = self._slot(into)
        if not life.lost[slot] and not life.lost[kept]:
            raise CorrectionError(
                f"tracks {track} and {into} are both in the last frame, so they are two animals; swap them if their "
                "ids are exchanged, or end the one that is no animal"
            )
        moved = bool(life.last_index[slot] >= life.last_index[kept])
        if moved:
            self._exchange(track, into)
            slot, kept = kept, slot
        self._note(track)
        self._note(into)
        self.ending.append(track)
        life.hits[kept] += life.hits[slot]
        first_index = int(life.first_index[kept])
        life.first_index[kept] = min(life.first_index[slot], first_index)
        return Applied(0, Action.MERGE, "", 0, (track,), into, moved=moved, first_index=first_index)

    def _end(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        self._slot(track)
        self._note(track)
        self.ending.append(track)
        return Applied(0, Action.END, "", 0, (track,))

    def _new_id(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        slot = self._slot(track)
        self._note(track)
        new_id = self._lifecycle.next_id
        self._lifecycle.next_id += 1
        self._window.ids[slot] = new_id
        self._published[new_id] = _Was.NEW
        return Applied(0, Action.NEW_ID, "", 0, (track,), new_id=new_id)

    def _undo(self, asked: Correction) -> Applied:
        done = self._to_undo(asked.undoes)
        undone = Applied(0, Action.UNDO, "", 0, done.tracks, done.into, done.new_id, undoes=done.number)
        track = done.tracks[0]
        if done.action is Action.RENAME:
            self._slot(track)
            self._set_name(track, done.name_before)
            return replace(undone, renames=True, name=done.name_before)
        if done.action is Action.SWAP:
            self._slot(track)
            self._slot(done.tracks[1])
            self._exchange(*done.tracks)
            return undone
        if done.action is Action.NEW_ID:
            assert done.new_id is not None
            if self._published.get(done.new_id) is not _Was.NEW:
                raise _published_as_ended(done, track)
            self._check_free(self.names.get(track), track)
            self._window.ids[self._slot(done.new_id)] = track
            del self._published[done.new_id]
            self.names.pop(done.new_id, None)
            return undone
        if track not in self.ending:
            raise _published_as_ended(done, track)
        self._check_free(self.names.get(track), track)
        if done.into is not None:
            life, kept = self._lifecycle, self._slot(done.into)
            life.first_index[kept] = done.first_index
            life.hits[kept] -= life.hits[self._slots(ending=True)[track]]
            if done.moved:
                self._exchange(track, done.into)
        self.ending.remove(track)
        return undone

    def _to_undo(self, number: int | None) -> Applied:
        if not self._kept:
            raise CorrectionError("there is no correction to undo")
        number = next(reversed(self._kept)) if number is None else number
        if number not in self._kept:
            raise CorrectionError(
                f"correction {number} cannot be undone: it is undone already, is an undo, or is none of the last "
                f"{MAX_KEPT}; those that can be undone are {_listed(list(self._kept))}"
            )
        done = self._kept[number]
        for later in self._kept.values():
            if later.number > number and later.renames == done.renames and later.ids & done.ids:
                shared = min(later.ids & done.ids)
                raise CorrectionError(
                    f"correction {number} cannot be undone, since correction {later.number} ({later.action}) concerns "
                    f"track {shared} too; undo that one first"
                )
        return done

    # --- frames ---

    def take_ending(self) -> list[int]:
        """Return the slots of the tracks that end before this frame; the caller ends them."""
        slot_of = self._slots(ending=True)
        taken, self.ending = [slot_of[track] for track in self.ending], []
        return sorted(taken)

    def amend(self, assignment: Assignment) -> None:
        """State in a frame's result what was corrected since the last frame, and the names of its tracks."""
        if self._since:
            assignment.corrections, self._since = tuple(self._since), []
        if self._published:
            self._amend_lists(assignment)
        if self.names:
            for track in assignment.ended_tracks:
                self.names.pop(track, None)
            names = tuple(map(self.names.get, assignment.track_ids.tolist()))
            if any(names):
                assignment.names = names

    def _amend_lists(self, assignment: Assignment) -> None:
        published, self._published = self._published, {}
        slot_of, is_lost = self._slots(), self._lifecycle.lost
        new, lost, found, ended = [], [], [], []
        for track, was in sorted(published.items()):
            slot = slot_of.get(track)
            if was is _Was.NEW:
                new.append(track)
            if slot is None:
                ended.append(track)
            elif is_lost[slot] and was is not _Was.LOST:
                lost.append(track)
            elif not is_lost[slot] and was is _Was.LOST:
                found.append(track)
        for name, tracks in (("lost_tracks", lost), ("found_tracks", found), ("ended_tracks", ended)):
            others = [track for track in getattr(assignment, name) if track not in published]
            setattr(assignment, name, (*tracks, *others))
        assignment.new_tracks = (*new, *assignment.new_tracks)
        if assignment.parents:
            assignment.parents = (*[-1] * len(new), *assignment.parents)

    # --- state ---

    def snapshot(self) -> State:
        """Return all that later frames and corrections depend on, as plain values."""
        return {
            "count": self._count,
            "names": [[track, name] for track, name in self.names.items()],
            "ending": list(self.ending),
            "published": [[track, str(was)] for track, was in self._published.items()],
            "since": list(self._since),
            "kept": [{**asdict(each), "action": str(each.action)} for each in self._kept.values()],
        }

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned."""
        self._count = int(state["count"])
        self.names = {int(track): str(name) for track, name in state["names"]}
        self.ending = [int(track) for track in state["ending"]]
        self._published = {int(track): _Was(was) for track, was in state["published"]}
        self._since = list(state["since"])
        self._kept = {each["number"]: _applied(each) for each in state["kept"]}

    def check_integrity(self) -> None:
        """Check the invariants.

        Raises:
            RuntimeError: names the invariant that does not hold.
        """
        live = self._slots(ending=True)
        faults = {
            "a track that is not live has a name": not all(t in live or t in self._published for t in self.names),
            "a track that ends is not live": not all(track in live for track in self.ending),
            "too many corrections or names are kept": len(self._kept) > MAX_KEPT or len(self.names) > MAX_NAMES,
            "a name stands at two tracks": len({*(self.names[t] for t in self.names if t in self._slots())})
            != sum(t in self._slots() for t in self.names),
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(f"corrections: {fault}")

    # --- ids, slots and names ---

    def _slots(self, ending: bool = False) -> dict[int, int]:
        """Return the slot of each live track by its id; with `ending` also of those that end before the next frame."""
        live = self._window.live
        slots = dict(zip(self._window.ids[live].tolist(), live.tolist(), strict=True))
        return slots if ending else {track: slot for track, slot in slots.items() if track not in self.ending}

    def _slot(self, track: int) -> int:
        slots = self._slots()
        if track not in slots:
            what = f"track {track} has ended" if 0 <= track < self._lifecycle.next_id else f"there is no track {track}"
            live = f"the live tracks are {_listed(sorted(slots))}" if slots else "the stream has no live tracks"
            raise CorrectionError(f"{what}; {live}")
        return slots[track]

    def _note(self, track: int) -> None:
        """Note what was published of an id; called before the id is moved."""
        if track not in self._published:
            lost = self._lifecycle.lost[self._slots(ending=True)[track]]
            self._published[track] = _Was.LOST if lost else _Was.ACTIVE

    def _exchange(self, one: int, other: int) -> None:
        self._note(one)
        self._note(other)
        slots, ids, hits = self._slots(ending=True), self._window.ids, self._lifecycle.hits
        at, to = slots[one], slots[other]
        ids[at], ids[to] = other, one
        hits[at], hits[to] = hits[to], hits[at]  # an id that is active does not become tentative again

    def _check_free(self, name: str | None, track: int) -> None:
        live = self._slots()
        for owner, taken in self.names.items():
            if name is not None and taken == name and owner != track and owner in live:
                raise CorrectionError(f"track {owner} has the name {name!r}; rename that track first")

    def _set_name(self, track: int, name: str | None) -> str | None:
        """Give a track a name or none; return the one before."""
        self._check_free(name, track)
        if name is not None and track not in self.names and len(self.names) >= MAX_NAMES:
            raise CorrectionError(f"a stream has at most {MAX_NAMES} names; remove one (rename with the name null)")
        before = self.names.pop(track, None)
        if name is not None:
            self.names[track] = name
        return before


def check_text(what: str, value: str) -> None:
    """Check a name or an author.

    Raises:
        CorrectionError: it is empty or too long, has a character that cannot be printed, or a space at an end.
    """
    if not 1 <= len(value) <= MAX_CHARACTERS:
        raise CorrectionError(f"{what} must have 1 to {MAX_CHARACTERS} characters; got {len(value)}")
    if not value.isprintable() or value != value.strip():
        raise CorrectionError(f"{what} must have printable characters only, and no space at its ends; got {value!a}")


def _published_as_ended(done: Applied, track: int) -> CorrectionError:
    rest = f"; to part the animals again give track {done.into} a new id" if done.into is not None else ""
    return CorrectionError(
        f"correction {done.number} ({done.action}) cannot be undone any more: a frame has been tracked since, track "
        f"{track} has ended with it, and the id of an ended track is never used again{rest}"
    )


def _applied(values: dict[str, Any]) -> Applied:
    return Applied(**{**values, "action": Action(values["action"]), "tracks": tuple(values["tracks"])})


def _listed(numbers: list[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more
