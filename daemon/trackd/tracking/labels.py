"""Labels: which slot has which id, the names of the ids, and what was published of those that were corrected.

A correction moves ids between slots, or marks a track that ends before the next frame. What was published of an id
before it was corrected is kept until the next frame. The lists of that frame then state how each id has changed, as if
the tracker had decided it.
"""

from __future__ import annotations

from enum import StrEnum

from trackd.tracking.assignment import Assignment
from trackd.tracking.correction import MAX_NAMES, CorrectionError, listed
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.window import RollingWindow, State


class _Was(StrEnum):
    """What was published of an id before it was corrected."""

    ACTIVE = "active"
    LOST = "lost"
    NEW = "new"  # nothing
    ENDED = "ended"


class Labels:
    """The ids and names of one tracker's tracks.

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

    # --- ids and slots ---

    def slots(self, ending: bool = False) -> dict[int, int]:
        """Return the slot of each live track by its id; with `ending` also of those that end before the next frame."""
        live = self._window.placed
        slots = dict(zip(self._window.ids[live].tolist(), live.tolist(), strict=True))
        return slots if ending else {track: slot for track, slot in slots.items() if track not in self.ending}

    def slot(self, track: int) -> int:
        """Return the slot of a live track.

        Raises:
            CorrectionError: it is not live.
        """
        slots = self.slots()
        if track not in slots:
            what = f"track {track} has ended" if 0 <= track < self._lifecycle.next_id else f"there is no track {track}"
            live = f"the live tracks are {listed(sorted(slots))}" if slots else "the stream has no live tracks"
            raise CorrectionError(f"{what}; {live}")
        return slots[track]

    def exchange(self, one: int, other: int) -> None:
        """Exchange the ids of two live tracks, and the numbers of frames in which they were observed."""
        self.note(one)
        self.note(other)
        slots, ids, hits = self.slots(ending=True), self._window.ids, self._lifecycle.hits
        at, to = slots[one], slots[other]
        ids[at], ids[to] = other, one
        hits[at], hits[to] = hits[to], hits[at]  # an id that is active does not become tentative again

    def give(self, slot: int, track: int) -> None:
        """Give a live slot an id that no live track has; the one that it had must be noted before."""
        self._window.ids[slot] = track

    # --- what was published ---

    def note(self, track: int) -> None:
        """Note what was published of a live id; called before the id is moved."""
        if track not in self._published:
            lost = self._lifecycle.lost[self.slots(ending=True)[track]]
            self._published[track] = _Was.LOST if lost else _Was.ACTIVE

    def note_new(self, track: int) -> None:
        """Note that nothing was published of an id."""
        self._published[track] = _Was.NEW

    def note_ended(self, track: int) -> bool:
        """Note that an id was published as ended; returns whether it was."""
        return self._published.setdefault(track, _Was.ENDED) is _Was.ENDED

    def is_new(self, track: int) -> bool:
        """Whether nothing was published of an id yet."""
        return self._published.get(track) is _Was.NEW

    def forget_new(self, track: int) -> None:
        """Remove an id of which nothing was published."""
        del self._published[track]

    def amend(self, assignment: Assignment) -> None:
        """State in a frame's result how the ids have changed since the last frame, and the names of its tracks."""
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
        slot_of, is_lost = self.slots(), self._lifecycle.lost
        new, lost, found, ended, restored = [], [], [], [], []
        for track, was in sorted(published.items()):
            slot = slot_of.get(track)
            if was is _Was.NEW:
                new.append(track)
            if slot is None:
                if was is not _Was.ENDED:  # else nothing has changed
                    ended.append(track)
                self.names.pop(track, None)
                continue
            if was is _Was.ENDED:
                restored.append(track)
            if is_lost[slot] and was is not _Was.LOST:
                lost.append(track)
            elif not is_lost[slot] and was is _Was.LOST:
                found.append(track)
        for name, tracks in (("lost_tracks", lost), ("found_tracks", found), ("ended_tracks", ended)):
            others = [track for track in getattr(assignment, name) if track not in published]
            setattr(assignment, name, (*tracks, *others))
        assignment.restored_tracks = tuple(restored)
        assignment.new_tracks = (*new, *assignment.new_tracks)
        if assignment.parents:
            assignment.parents = (*[-1] * len(new), *assignment.parents)

    # --- names ---

    def check_free(self, name: str | None, track: int, besides: int | None = None) -> None:
        """Check that a track can have a name.

        Args:
            name: None for none.
            track: that is to have it.
            besides: another id that may have it, since it ends.

        Raises:
            CorrectionError: another live track has it.
        """
        live = self.slots()
        for owner, taken in self.names.items():
            if name is not None and taken == name and owner not in (track, besides) and owner in live:
                raise CorrectionError(f"track {owner} has the name {name!r}; rename that track first")

    def check_room(self, name: str | None, track: int, besides: int | None = None) -> None:
        """Check that the stream can have one more name; arguments as of `check_free`.

        Raises:
            CorrectionError: it has the most that are possible.
        """
        count = len(self.names) - (besides in self.names)
        if name is not None and track not in self.names and count >= MAX_NAMES:
            raise CorrectionError(f"a stream has at most {MAX_NAMES} names; remove one (rename with the name null)")

    def set_name(self, track: int, name: str | None) -> str | None:
        """Give a track a name or none; return the one before.

        Raises:
            CorrectionError: another live track has it, or there are too many names.
        """
        self.check_free(name, track)
        self.check_room(name, track)
        before = self.names.pop(track, None)
        if name is not None:
            self.names[track] = name
        return before

    # --- state ---

    def snapshot(self) -> State:
        """Return all of it as plain values."""
        return {
            "names": [[track, name] for track, name in self.names.items()],
            "ending": list(self.ending),
            "published": [[track, str(was)] for track, was in self._published.items()],
        }

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned."""
        self.names = {int(track): str(name) for track, name in state["names"]}
        self.ending = [int(track) for track in state["ending"]]
        self._published = {int(track): _Was(was) for track, was in state["published"]}

    def faults(self) -> dict[str, bool]:
        """Return each invariant's fault, and whether it is present."""
        live, shown = self.slots(ending=True), [t for t in self.names if t in self.slots()]
        return {
            "a track that is not live has a name": not all(t in live or t in self._published for t in self.names),
            "a track that ends is not live": not all(track in live for track in self.ending),
            "too many names": len(self.names) > MAX_NAMES,
            "a name stands at two tracks": len({*(self.names[track] for track in shown)}) != len(shown),
        }
