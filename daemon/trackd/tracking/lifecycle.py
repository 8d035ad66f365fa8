"""New tracks, gaps and ends of tracks.

Letters: S slots, M live tracks, m tracks matched in a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import FLOAT32_TABLE, GIVEN_BOXES, INT, INT32_TABLE, INTS, INTS32, compiled
from trackd.tracking.window import FREE, RollingWindow, Slots, State

_COUNTS = types.UniTuple(types.int64, 2)


@compiled(
    _COUNTS, INTS, GIVEN_BOXES, INT, INT, INTS, INTS, FLOAT32_TABLE, INTS, INTS, INTS, INTS32, INT32_TABLE
)  # fmt: skip
def _see(
    slots: Slots,
    boxes: NDArray[np.float32],
    frame_index: int,
    t_ns: int,
    last_index: NDArray[np.int64],
    last_t_ns: NDArray[np.int64],
    extents: NDArray[np.float32],
    live: Slots,
    hits: NDArray[np.int64],
    missed: NDArray[np.int64],
    ids: NDArray[np.int32],
    changed: NDArray[np.int32],
) -> tuple[int, int]:
    """Record time and boxes (m, 4) of the (m,) matched slots; count the frame for every live track.

    Returns:
        The number of ids written to the first row of `changed`, (2, M): tracks that became lost; and to the second row:
        tracks that were lost before and are matched now.
    """
    n_lost, n_found = 0, 0
    seen = np.zeros(len(missed), np.bool_)
    for k in range(len(slots)):
        slot = slots[k]
        seen[slot] = True
        last_index[slot] = frame_index
        last_t_ns[slot] = t_ns
        extents[slot] = boxes[k]
    for slot in live:
        if seen[slot]:
            if missed[slot] > 0 and ids[slot] >= 0:
                changed[1, n_found] = ids[slot]
                n_found += 1
            hits[slot] += 1
            missed[slot] = 0
        else:
            if missed[slot] == 0 and ids[slot] >= 0:
                changed[0, n_lost] = ids[slot]
                n_lost += 1
            missed[slot] += 1
    return n_lost, n_found


@dataclass(slots=True, eq=False)
class Sighting:
    """The changes of one frame in the tracks that existed before it."""

    lost: tuple[int, ...]  # ids that are lost from this frame on
    found: tuple[int, ...]  # ids that are matched again after a gap


_NO_CHANGE = Sighting((), ())


class Lifecycle:
    """The first and the last observation of each live track, and the gaps that follow from the last; by slot.

    A track is active if it was matched in the latest frame, else lost. It is tentative until it was observed in
    `min_hits` frames, the first one included. Ids rise by one, and no two tracks ever have the same.
    """

    def __init__(self, window: RollingWindow, first_id: int = 0) -> None:
        self.window = window
        self.next_id = first_id
        self._allocate(window.capacity)

    def _allocate(self, capacity: int) -> None:
        self.first_index = np.full(capacity, -1, np.int64)  # (S,) frame_index of the first observation
        self.last_index = np.full(capacity, -1, np.int64)  # (S,) frame_index of the last observation
        self.last_t_ns = np.zeros(capacity, np.int64)  # (S,)
        self.hits = np.zeros(capacity, np.int64)  # (S,) frames in which it was observed
        self.missed = np.zeros(capacity, np.int64)  # (S,) frames tracked since the last of them
        self.extents = np.full((capacity, 4), np.nan, np.float32)  # (S, 4) the last published box
        self.axes = np.full((capacity, 2), np.nan, np.float32)  # (S, 2) the last body axis

    @property
    def lost(self) -> NDArray[np.bool_]:
        """(S,) whether a track was not matched in the latest frame."""
        return self.missed > 0

    def is_tentative(self, slots: Slots, min_hits: int) -> NDArray[np.bool_]:
        """Return for each of these tracks whether it was observed in fewer than `min_hits` frames."""
        return self.hits[slots] < min_hits

    def missing_tentative(self, min_hits: int, slots: Slots | None = None) -> Slots:
        """Return those of the live tracks, or of these, that are tentative and missing from the last `min_hits` frames.

        Frames that were tracked count, not frame numbers: a frame that nobody looked at is no evidence against a track.
        """
        slots = self.window.live if slots is None else slots
        return slots[self.is_tentative(slots, min_hits) & (self.missed[slots] >= min_hits)]

    def missing_before(self, frame_index: int, t_ns: int, max_gap: int | None, max_gap_s: float | None) -> Slots:
        """Return the tracks whose gap reached its limit before this frame, through dropped frames."""
        live = self.window.live
        if max_gap is None and max_gap_s is None:
            return live[:0]
        gap = frame_index - 1 - self.last_index[live]
        over = np.zeros(len(live), bool)
        if max_gap is not None:
            over |= gap >= max_gap
        if max_gap_s is not None:
            over |= (gap >= 1) & (t_ns - self.last_t_ns[live] >= max_gap_s * 1e9)
        return live[over]

    def missing_after(
        self, frame_index: int, t_ns: int, max_gap: int | None, max_gap_s: float | None, slots: Slots | None = None
    ) -> Slots:
        """Return those of the live tracks, or of these, that this frame lacks too and whose gap is at its limit."""
        slots = self.window.live if slots is None else slots
        if max_gap is None and max_gap_s is None:
            return slots[:0]
        over = np.zeros(len(slots), bool)
        if max_gap is not None:
            over |= frame_index - self.last_index[slots] >= max_gap
        if max_gap_s is not None:
            over |= t_ns - self.last_t_ns[slots] >= max_gap_s * 1e9
        return slots[over & (self.missed[slots] > 0)]

    def see(
        self, slots: Slots, extents: NDArray[np.float32], axes: NDArray[np.float32] | None, frame_index: int, t_ns: int
    ) -> Sighting:
        """Record that these live tracks were matched in this frame, and the others were not.

        Args:
            slots: (m,).
            extents: (m, 4) their published boxes.
            axes: (m, 2) their body axes; None if the orientation rule is off.
            frame_index: the frame's number.
            t_ns: its capture time.
        """
        live = self.window.live
        changed = np.empty((2, len(live)), np.int32)
        n_lost, n_found = _see(
            slots, np.ascontiguousarray(extents, np.float32), frame_index, t_ns, self.last_index, self.last_t_ns,
            self.extents, live, self.hits, self.missed, self.window.ids, changed,
        )  # fmt: skip
        if axes is not None:
            self.axes[slots] = axes
        if len(self.window.retired):
            self.missed[self.window.retired] += 1
        if not n_lost and not n_found:
            return _NO_CHANGE
        return Sighting(tuple(changed[0, :n_lost].tolist()), tuple(changed[1, :n_found].tolist()))

    def begin(
        self,
        extents: NDArray[np.float32],
        axes: NDArray[np.float32] | None,
        frame_index: int,
        t_ns: int,
        placed: bool = True,
    ) -> Slots:
        """Begin a track for each of the (m,) rows, in their order; returns their slots. The window must have room.

        With `placed` false they are candidates.
        """
        count = len(extents)
        slots = self.window.acquire(self._new_ids(count) if placed else np.full(count, FREE, np.int32))
        if len(self.last_index) < self.window.capacity:
            self._grow()
        self.axes[slots] = np.nan if axes is None else axes
        self.hits[slots], self.missed[slots] = 1, 0
        self.first_index[slots] = self.last_index[slots] = frame_index
        self.last_t_ns[slots], self.extents[slots] = t_ns, extents
        return slots

    def place(self, candidates: Slots) -> list[int]:
        """Give candidates new ids, and return these. Nothing was published of them, so none is found again."""
        if not len(candidates):
            return []
        self.missed[candidates] = 0
        ids = self._new_ids(len(candidates))
        self.window.label(candidates, ids)
        return list(map(int, ids))

    def exchange_places(self, candidate: int, other: int) -> None:
        """Give a candidate the id of another track, which becomes a candidate, and what was published of it."""
        pair = np.array([candidate, other])
        self.window.label(pair, np.array([self.window.ids[other], FREE], np.int32))
        for values in (self.hits, self.missed):
            values[pair] = values[pair[::-1]]

    def _new_ids(self, count: int) -> NDArray[np.int32]:
        self.next_id += count
        return np.arange(self.next_id - count, self.next_id, dtype=np.int32)

    def end(self, slots: Slots) -> list[int]:
        """End the tracks in these slots; returns their ids, ascending, without candidates."""
        ended = sorted(track for track in self.window.ids[slots].tolist() if track >= 0)
        self.window.release(slots)
        return ended

    def longest_missing(self, count: int, slots: Slots) -> Slots:
        """Return at most `count` of these tracks that are lost, those lost longest first (then the lowest id).

        The result is ascending by slot.
        """
        lost = slots[self.missed[slots] > 0]
        order = np.lexsort((self.window.ids[lost], self.last_index[lost]))
        return np.sort(lost[order[:count]])

    def snapshot(self) -> State:
        """Return the state of the live and the retired tracks, in the order of their slots."""
        slots = self.window.occupied
        arrays = {name: getattr(self, name)[slots] for name in _ARRAYS}
        return {"next_id": self.next_id, **arrays}

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned; the window must be restored first."""
        self.next_id = int(state["next_id"])
        self._allocate(self.window.capacity)
        slots = self.window.occupied
        # Snapshots of earlier versions have no first_index: the age counts from the last observation in them. They have
        # no hits and missed either: the observations in the window are those that are known.
        earlier = {"first_index": state["last_index"], "hits": self.window.count[slots], "missed": state.get("lost")}
        for name in _ARRAYS:
            getattr(self, name)[slots] = state[name] if name in state else earlier[name]

    def _grow(self) -> None:
        old = {name: getattr(self, name) for name in _ARRAYS}
        self._allocate(self.window.capacity)
        for name, array in old.items():
            getattr(self, name)[: len(array)] = array


_ARRAYS = ("first_index", "last_index", "last_t_ns", "hits", "missed", "extents", "axes")


def choose_new_tracks(rows: NDArray[np.intp], scores: NDArray[np.float32], places: int) -> NDArray[np.intp]:
    """Select the rows that begin a track, if there are fewer places than unmatched rows.

    Rows with the highest detection score are selected first, rows without a score last, equal scores in their order.
    The result keeps the order of the detections.
    """
    if len(rows) <= places:
        return rows
    if places <= 0:
        return rows[:0]
    ranked = np.argsort(-np.nan_to_num(scores[rows], nan=-np.inf), kind="stable")
    return np.asarray(rows[np.sort(ranked[:places])])
