"""Corrections: what people change in the tracks of a stream between two frames.

A correction moves ids between slots, or marks a track that ends before the next frame. The state of a track (its
window, its filters, its features) stays in its slot, and no association reads an id. So a correction changes which id
an animal has, and nothing else. Only the number of frames in which a track was observed moves with its id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from trackd.tracking.assignment import Assignment
from trackd.tracking.correction import (
    MAX_BETWEEN,
    MAX_KEPT,
    Action,
    Applied,
    Correction,
    CorrectionError,
    check_text,
    listed,
)
from trackd.tracking.labels import Labels
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.retired import Retired
from trackd.tracking.undo import Undo
from trackd.tracking.window import RollingWindow, Slots, State

_ENDING = (Action.MERGE, Action.END)  # a track ends with the next frame, and is retired


class Corrections:
    """The names of one tracker's tracks, its last corrections, and what they change in the next frame.

    Args:
        window: of the tracker.
        lifecycle: of the tracker.
        forget: deletes the state of retired slots.
    """

    def __init__(self, window: RollingWindow, lifecycle: Lifecycle, forget: Callable[[Slots], None]) -> None:
        self._window = window
        self._lifecycle = lifecycle
        self._labels = Labels(window, lifecycle)
        self.retired = Retired(window, lifecycle, forget)
        self._undo = Undo(self._labels, lifecycle, self.retired)
        self._kept: dict[int, Applied] = {}  # by number, ascending; those that were undone are not kept
        self._since: list[dict[str, Any]] = []  # those since the last frame, as they are published
        self._count = 0

    @property
    def count(self) -> int:
        """The number of the last correction; 0 before the first."""
        return self._count

    @property
    def names(self) -> dict[int, str]:
        """The names by id, of live tracks only."""
        return self._labels.names

    @property
    def ending(self) -> list[int]:
        """Ids of the tracks that end before the next frame."""
        return self._labels.ending

    # --- corrections ---

    def apply(self, correction: Correction, max_tracks: int | None = None) -> Applied:
        """Apply a correction from the next frame on.

        Args:
            correction: as a person asks for it.
            max_tracks: the most live tracks that are allowed; None: any number.

        Raises:
            CorrectionError: it is not possible; nothing has changed.
        """
        if len(self._since) >= MAX_BETWEEN:
            raise CorrectionError(f"at most {MAX_BETWEEN} corrections fit between two frames; repeat it after the next")
        steps: dict[Action, Callable[[Correction], Applied]] = {
            Action.RENAME: self._rename,
            Action.SWAP: self._swap,
            Action.MERGE: self._merge,
            Action.END: self._end,
            Action.NEW_ID: self._new_id,
        }
        if correction.action is Action.UNDO:
            applied = self._undo.take_back(self._to_undo(correction.undoes), max_tracks)
        else:
            applied = steps[correction.action](correction)
        applied = replace(applied, number=self._count + 1, author=correction.author, t_ns=correction.t_ns)
        self._count += 1
        self._since.append(applied.as_map())
        if applied.undoes is not None:
            del self._kept[applied.undoes]
        else:
            self._kept[applied.number] = applied
            if len(self._kept) > MAX_KEPT:
                oldest = self._kept.pop(next(iter(self._kept)))
                if oldest.action in _ENDING:
                    self.retired.drop(oldest.tracks[0])
        return applied

    def _rename(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        self._labels.slot(track)
        if asked.name is not None:
            check_text("name", asked.name)
        before = self._labels.set_name(track, asked.name)
        return Applied(0, Action.RENAME, "", 0, (track,), renames=True, name=asked.name, name_before=before)

    def _swap(self, asked: Correction) -> Applied:
        one, other = asked.tracks
        self._labels.slot(one)
        if one == other:
            raise CorrectionError(f"swap needs two different tracks; got {one} twice")
        self._labels.slot(other)
        self._labels.exchange(one, other)
        return Applied(0, Action.SWAP, "", 0, (one, other))

    def _merge(self, asked: Correction) -> Applied:
        (track,), into = asked.tracks, asked.into
        assert into is not None
        life, labels = self._lifecycle, self._labels
        slot = labels.slot(track)
        if track == into:
            raise CorrectionError(f"merge needs two different tracks; got {track} twice")
        kept = labels.slot(into)
        if not life.lost[slot] and not life.lost[kept]:
            raise CorrectionError(
                f"tracks {track} and {into} are both in the last frame, so they are two animals; swap them if their "
                "ids are exchanged, or end the one that is no animal"
            )
        labels.note(track)
        labels.note(into)
        moved = bool(life.last_index[slot] >= life.last_index[kept])
        if moved:
            slot, kept = kept, slot
            labels.give(slot, track)
            labels.give(kept, into)
        labels.ending.append(track)
        hits, first_index = int(life.hits[slot]), int(life.first_index[kept])
        life.hits[kept] += hits
        life.first_index[kept] = min(life.first_index[slot], first_index)
        return Applied(
            0, Action.MERGE, "", 0, (track,), into, name_before=self.names.get(track), moved=moved,
            first_index=first_index, hits=hits,
        )  # fmt: skip

    def _end(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        slot = self._labels.slot(track)
        self._labels.note(track)
        self._labels.ending.append(track)
        first_index, hits = int(self._lifecycle.first_index[slot]), int(self._lifecycle.hits[slot])
        return Applied(
            0, Action.END, "", 0, (track,), name_before=self.names.get(track), first_index=first_index, hits=hits
        )

    def _new_id(self, asked: Correction) -> Applied:
        (track,) = asked.tracks
        slot = self._labels.slot(track)
        self._labels.note(track)
        new_id = self._lifecycle.next_id
        self._lifecycle.next_id += 1
        self._labels.give(slot, new_id)
        self._labels.note_new(new_id)
        return Applied(0, Action.NEW_ID, "", 0, (track,), new_id=new_id, name_before=self.names.get(track))

    def _to_undo(self, number: int | None) -> Applied:
        if not self._kept:
            raise CorrectionError("there is no correction to undo")
        number = next(reversed(self._kept)) if number is None else number
        if number not in self._kept:
            raise CorrectionError(
                f"correction {number} cannot be undone: it is undone already, is an undo, or is none of the last "
                f"{MAX_KEPT}; those that can be undone are {listed(list(self._kept))}"
            )
        done = self._kept[number]
        successor = self.retired.successor_of(done.tracks[0]) if done.action in _ENDING else None
        concerned = done.ids if successor is None else {*done.ids, successor}
        for later in self._kept.values():
            if later.number > number and later.renames == done.renames and later.ids & concerned:
                shared = min(later.ids & concerned)
                raise CorrectionError(
                    f"correction {number} cannot be undone, since correction {later.number} ({later.action}) concerns "
                    f"track {shared} too; undo that one first"
                )
        return done

    # --- frames ---

    def take_ending(self) -> Slots:
        """Retire the tracks that end before this frame; return their slots."""
        slot_of = self._labels.slots(ending=True)
        taken = sorted(slot_of[track] for track in self._labels.ending)
        self._labels.ending = []
        return self.retired.add(taken)

    def amend(self, assignment: Assignment) -> None:
        """State in a frame's result what was corrected since the last frame, and the names of its tracks."""
        if self._since:
            assignment.corrections, self._since = tuple(self._since), []
        self._labels.amend(assignment)

    # --- state ---

    def snapshot(self) -> State:
        """Return all that later frames and corrections depend on, as plain values."""
        return {
            "count": self._count,
            **self._labels.snapshot(),
            **self.retired.snapshot(),
            "since": list(self._since),
            "kept": [{**asdict(each), "action": str(each.action)} for each in self._kept.values()],
        }

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned; the window must be restored first."""
        self._count = int(state["count"])
        self._labels.restore(state)
        self.retired.restore(state)
        self._since = list(state["since"])
        self._kept = {each["number"]: _applied(each) for each in state["kept"]}

    def check_integrity(self) -> None:
        """Check the invariants.

        Raises:
            RuntimeError: names the invariant that does not hold.
        """
        ended = {each.tracks[0] for each in self._kept.values() if each.action in _ENDING}
        faults = {
            **self._labels.faults(),
            **self.retired.faults(ended),
            "too many corrections are kept": len(self._kept) > MAX_KEPT,
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(f"corrections: {fault}")


def _applied(values: dict[str, Any]) -> Applied:
    return Applied(**{**values, "action": Action(values["action"]), "tracks": tuple(values["tracks"])})
