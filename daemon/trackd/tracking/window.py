"""The rolling window: the last observations of every live track, by slot.

Letters: S slots, W observations kept per slot, A anchors per observation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import INT, INT_TABLE, INTS, compiled

Slots = NDArray[np.intp]
State = dict[str, Any]  # plain arrays and scalars by name

FIRST_CAPACITY = 16
FREE = -1  # the id of a slot without a track


_BOXES, _RINGS = types.Array(types.float32, 3, "C", readonly=True), types.float32[:, :, :, ::1]


@compiled(None, INTS, INTS, INT, INTS)
def _count(written: NDArray[np.int64], slots: Slots, most: int, counts: NDArray[np.int64]) -> None:
    for k in range(len(slots)):
        counts[k] = min(written[slots[k]], most)


@compiled(None, INTS, _BOXES, INT, _RINGS, INT_TABLE, INTS, INTS)
def _write(
    slots: Slots,
    boxes: NDArray[np.float32],
    index: int,
    rings: NDArray[np.float32],
    frame_index: NDArray[np.int64],
    written: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> None:
    for k in range(len(slots)):
        slot = slots[k]
        at = written[slot] % frame_index.shape[1]
        rings[slot, at] = boxes[k]
        frame_index[slot, at] = index
        written[slot] += 1
        positions[k] = at


class RollingWindow:
    """A ring of observations per slot, written in place and never rebuilt.

    A track keeps its slot until it ends; scorers store their state by slot. `live` holds the slots of the live tracks
    in ascending order: those in `placed`, which have an id, and those in `candidates` (candidates.py). `retired` holds
    those of tracks that have ended and can be revived, in the order in which they have ended: nothing is written to
    them. The lowest free slot is taken first, so the same history gives the same slots.
    """

    def __init__(self, window_size: int, max_slots: int) -> None:
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1; got {window_size}")
        if max_slots < 1:
            raise ValueError(f"max_slots must be at least 1; got {max_slots}")
        self.window_size = window_size
        self.max_slots = max_slots
        self.n_anchors = 1
        self._allocate(min(FIRST_CAPACITY, max_slots))

    def _allocate(self, capacity: int) -> None:
        self.boxes = np.full((capacity, self.window_size, self.n_anchors, 4), np.nan, np.float32)
        self.frame_index = np.full((capacity, self.window_size), -1, np.int64)  # (S, W), −1 where empty
        self._written = np.zeros(capacity, np.int64)  # (S,) observations written since the track began
        self.ids = np.full(capacity, FREE, np.int32)  # (S,) `FREE`, or below it for a candidate, or an id
        self.live: Slots = np.empty(0, np.intp)
        self.placed = self.candidates = self.live
        self.retired: Slots = np.empty(0, np.intp)

    @property
    def capacity(self) -> int:
        """Number of allocated slots."""
        return len(self.ids)

    @property
    def occupied(self) -> Slots:
        """The slots of all live and retired tracks, ascending."""
        return np.flatnonzero(self.ids != FREE)

    @property
    def count(self) -> NDArray[np.int64]:
        """(S,) number of observations held."""
        return np.minimum(self._written, self.window_size)

    @property
    def position(self) -> NDArray[np.int64]:
        """(S,) ring position of the next observation."""
        return self._written % self.window_size

    def acquire(self, ids: NDArray[np.int32]) -> Slots:
        """Take a free slot for each track id, growing by doubling; `FREE` in place of an id begins a candidate.

        Raises:
            ValueError: more tracks than `max_slots`, the retired ones included.
        """
        needed = len(self.live) + len(self.retired) + len(ids)
        if needed > self.max_slots:
            raise ValueError(f"the window holds at most {self.max_slots} tracks; got {needed}")
        while self.capacity < needed:
            self._grow(min(2 * self.capacity, self.max_slots))
        slots = np.flatnonzero(self.ids == FREE)[: len(ids)]
        self.label(slots, ids)
        return slots

    def label(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        """Give the tracks in these slots ids; with `FREE` in place of an id a track is a candidate."""
        self.ids[slots] = np.where(ids == FREE, FREE - 1 - slots, ids)
        self._relist()

    def retire(self, slots: Slots) -> None:
        """End live tracks, and keep their slots as they are until they are released or revived."""
        self.retired = np.concatenate([self.retired, slots])
        self._relist()

    def revive(self, slot: int) -> None:
        """Make a retired track a live one."""
        self.retired = self.retired[self.retired != slot]
        self._relist()

    def append(self, slots: Slots, boxes: NDArray[np.float32], frame_index: int) -> NDArray[np.int64]:
        """Write one observation for each of the (m,) slots, over its oldest one.

        Args:
            slots: each at most once.
            boxes: (m, A, 4).
            frame_index: the frame of the observations.

        Returns:
            (m,) the ring positions that were written.
        """
        if boxes.shape[1] != self.n_anchors:
            self._set_anchors(boxes.shape[1])
        positions = np.empty(len(slots), np.int64)
        boxes = np.ascontiguousarray(boxes, np.float32)
        _write(slots, boxes, frame_index, self.boxes, self.frame_index, self._written, positions)
        return positions

    def release(self, slots: Slots) -> None:
        """Free slots, of live tracks or of retired ones, and delete their observations."""
        self.ids[slots] = FREE
        if len(self.retired):
            self.retired = self.retired[self.ids[self.retired] >= 0]
        self._written[slots] = 0
        self.frame_index[slots] = -1
        self.boxes[slots] = np.nan
        self._relist()

    def clear(self) -> None:
        """Free all slots; the memory stays allocated."""
        self.release(self.occupied)

    def counts(self, slots: Slots) -> NDArray[np.int64]:
        """Return the number of observations of each of the (m,) slots."""
        counts = np.empty(len(slots), np.int64)
        _count(self._written, slots, self.window_size, counts)
        return counts

    def last_boxes(self, slots: Slots) -> NDArray[np.float32]:
        """Return each slot's latest observation, (m, A, 4); NaN if it has none."""
        return self.boxes[slots, (self._written[slots] - 1) % self.window_size]

    def resize(self, window_size: int) -> NDArray[np.int64]:
        """Keep `window_size` observations from now on. The latest ones stay.

        Returns:
            (S, window_size) the old ring position of each observation, oldest first; −1 for none. A scorer moves its
            own rings by it.
        """
        source = self.resized(window_size)
        kept = np.minimum(self.count, window_size)
        rows = np.arange(self.capacity)[:, None]
        empty = source < 0
        self.boxes = self.boxes[rows, source]
        self.boxes[empty] = np.nan
        self.frame_index = self.frame_index[rows, source]
        self.frame_index[empty] = -1
        self._written = kept
        self.window_size = window_size
        return source

    def resized(self, window_size: int) -> NDArray[np.int64]:
        """Return what `resize` would return, and change nothing."""
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1; got {window_size}")
        kept = np.minimum(self.count, window_size)
        order = np.arange(window_size)[None, :]
        source: NDArray[np.int64] = (self.position[:, None] - kept[:, None] + order) % self.window_size
        source[order >= kept[:, None]] = -1
        return source

    def check_integrity(self) -> None:
        """Check the invariants.

        Raises:
            RuntimeError: names the invariant that does not hold.
        """
        live_ids = self.ids[self.live]
        held = (self.frame_index >= 0).sum(axis=1)
        ages = np.take_along_axis(self.frame_index, self._oldest_first(), axis=1)
        rising = (np.diff(ages, axis=1) >= 0) | (ages[:, :-1] < 0)
        faults = {
            "live slots do not match the ids": not np.array_equal(self.live, np.setdiff1d(self.occupied, self.retired)),
            "a retired slot is free": bool((self.ids[self.retired] < 0).any()),
            "a track id stands in two slots": len(np.unique(live_ids)) != len(live_ids),
            "more slots than allowed": self.capacity > self.max_slots,
            "a free slot holds observations": bool(self._written[self.ids == FREE].any()),
            "a count differs from the observations held": not np.array_equal(held, self.count),
            "observations are out of order": not bool(rising.all()),
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(f"rolling window: {fault}")

    def snapshot(self) -> State:
        """Return the occupied slots and their observations, as plain arrays and scalars."""
        slots = self.occupied
        state: State = {
            "window_size": self.window_size,
            "capacity": self.capacity,
            "slots": slots.astype(np.int64),
            "ids": self.ids[slots],
            "boxes": self.boxes[slots],
            "frame_index": self.frame_index[slots],
            "count": self.count[slots],
            "position": self.position[slots],
        }
        if len(self.retired):
            state["retired"] = self.retired.astype(np.int64)
        return state

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned."""
        slots = np.array(state["slots"], np.intp)
        self.window_size = int(state["window_size"])
        self.n_anchors = int(np.shape(state["boxes"])[2])
        self._allocate(int(state["capacity"]))
        for name in ("ids", "boxes", "frame_index"):
            getattr(self, name)[slots] = state[name]
        count, position = np.asarray(state["count"]), np.asarray(state["position"])
        self._written[slots] = np.where(count < self.window_size, count, self.window_size + position)
        self.retired = np.array(state.get("retired", ()), np.intp)  # not in snapshots without any
        self._relist()

    def _relist(self) -> None:
        self.live = self.occupied
        if len(self.retired):
            self.live = np.setdiff1d(self.live, self.retired)
        are_placed = self.ids[self.live] >= 0
        self.placed = self.live if are_placed.all() else self.live[are_placed]
        self.candidates = self.live[~are_placed]

    def _oldest_first(self) -> NDArray[np.int64]:
        return (self.position[:, None] + np.arange(self.window_size)[None, :]) % self.window_size

    def _grow(self, capacity: int) -> None:
        old = {name: getattr(self, name) for name in ("ids", "boxes", "frame_index", "_written")}
        lists = self.live, self.placed, self.candidates, self.retired
        self._allocate(capacity)
        for name, array in old.items():
            getattr(self, name)[: len(array)] = array
        self.live, self.placed, self.candidates, self.retired = lists

    def _set_anchors(self, n_anchors: int) -> None:
        """Use another number of anchors: each new anchor of a held observation gets the mean of its old ones."""
        there = np.isfinite(self.boxes)
        count = there.sum(axis=2, keepdims=True)
        total = np.where(there, self.boxes, 0).sum(axis=2, keepdims=True)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
        self.boxes = np.repeat(mean, n_anchors, axis=2)
        self.n_anchors = n_anchors
