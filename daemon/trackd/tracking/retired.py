"""Retired tracks: those that a correction has ended, as long as it can be undone.

A retired track keeps its slot, so that its window, its filters and its features stay as they are. It takes no part in
any frame. It is forgotten when a lost track in its place would have ended, when a new track needs its slot, and when
its correction is kept no longer.

If a track is ended whose animal is in the picture, the animal begins a new track at the same place. That track is its
successor: the undo lets the animal go on from there under its old id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.forced import match_left
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.window import RollingWindow, Slots, State

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

# A successor begins within the reach of the last box, as a track that is matched against its odds, and within so many
# frames: later another animal may have come there.
MOST_FRAMES = 5


class Retired:
    """The retired tracks of one tracker; at most one for each correction that is kept.

    Args:
        window: holds their slots.
        lifecycle: of the tracker.
        forget: deletes the state of retired slots.
    """

    def __init__(self, window: RollingWindow, lifecycle: Lifecycle, forget: Callable[[Slots], None]) -> None:
        self._window = window
        self._lifecycle = lifecycle
        self._forget = forget
        self._successors: dict[int, int | None] = {}  # by id of those that were in the picture; None: not begun yet

    def add(self, ended: list[int]) -> Slots:
        """Retire the live tracks in these slots; return them."""
        slots = np.array(ended, np.intp)
        for slot in ended:
            if not self._lifecycle.lost[slot]:
                self._successors[int(self._window.ids[slot])] = None
        self._window.retire(slots)
        return slots

    def slot_of(self, track: int) -> int | None:
        """Return the slot of a retired track; None if it was forgotten."""
        found = self._window.retired[self._window.ids[self._window.retired] == track]
        return int(found[0]) if len(found) else None

    def successor_of(self, track: int) -> int | None:
        """Return the id of the track that has begun where this one was ended; None for none."""
        return self._successors.get(track)

    def revive(self, track: int) -> None:
        """Make a retired track a live one again, in its slot."""
        slot = self.slot_of(track)
        assert slot is not None
        self._window.revive(slot)
        self._successors.pop(track, None)

    def drop(self, track: int) -> None:
        """Forget a track: its correction is undone, or kept no longer."""
        self._successors.pop(track, None)
        if (slot := self.slot_of(track)) is not None:
            self._forget(np.array([slot], np.intp))

    def make_room(self, count: int) -> None:
        """Forget the tracks retired first, if so many new tracks need their slots."""
        window = self._window
        excess = len(window.live) + len(window.retired) + count - window.max_slots
        if excess > 0:
            self._forget(window.retired[:excess])

    def follow(self, begun: Slots, frame_index: int, t_ns: int, config: TrackerConfig) -> None:
        """Note which tracks have begun where others were ended, and forget the retired tracks that would have ended.

        Args:
            begun: (n,) slots of this frame's new tracks; not of the parts of a track that has divided.
            frame_index: the frame's number.
            t_ns: its capture time.
            config: the `tracker` section.
        """
        life, retired = self._lifecycle, self._window.retired
        seeking = [track for track, successor in self._successors.items() if successor is None]
        if seeking and len(begun):
            slots = retired[np.isin(self._window.ids[retired], seeking)]
            self._find_successors(slots[life.missed[slots] <= MOST_FRAMES], begun)
        over = life.missing_after(frame_index, t_ns, config.max_gap, config.max_gap_s, retired)
        if config.min_hits > 1:
            over = np.union1d(over, life.missing_tentative(config.min_hits, retired))
        if len(over):
            self._forget(over)
        for track in [track for track, successor in self._successors.items() if successor is None]:
            slot = self.slot_of(track)
            if slot is None or life.missed[slot] > MOST_FRAMES:
                del self._successors[track]

    def _find_successors(self, slots: Slots, begun: Slots) -> None:
        life, ids = self._lifecycle, self._window.ids
        rows, columns = match_left(_centres(life.extents[begun]), life.extents[slots], life.missed[slots])
        for track, successor in zip(ids[slots[columns]].tolist(), ids[begun[rows]].tolist(), strict=True):
            self._successors[track] = successor

    def snapshot(self) -> State:
        """Return what is known beside the slots, as plain values."""
        return {"successors": [[track, successor] for track, successor in self._successors.items()]}

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned."""
        self._successors = {  # not in snapshots of earlier versions
            int(track): None if successor is None else int(successor)
            for track, successor in state.get("successors", ())
        }

    def faults(self, ended: set[int]) -> dict[str, bool]:
        """Return each invariant's fault, and whether it is present; `ended` are the ids that corrections have ended."""
        retired = self._window.ids[self._window.retired].tolist()
        return {
            "a track is retired whose correction is not kept": not {*retired, *self._successors} <= ended,
            "a track is retired twice": len(set(retired)) != len(retired),
        }


def _centres(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)
