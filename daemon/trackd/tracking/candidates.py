"""Candidates: the tracks that `max_tracks` leaves no place.

A detection that has no track and no place is false, or it is an object whose place another track has. It begins a
candidate, which is associated as all tracks are and is not published. So a false detection that is seen again and
again, such as a reflection, belongs to its candidate, and takes the id of no object.

A candidate that is seen again gets

- the track of an object that is missing, if the object can have moved so far (forced.py) and was hardly seen since the
  candidate began: two that are seen at one time are two;
- else a place that is free, and a new id, the one first that was seen in most frames;
- else the place and the id of a track that is seen in fewer frames, or as often at one place where it has always been.

Letters: n instances, S slots, M live tracks, P of them with a place, c matched candidates, m matched tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT_TABLE, FLOATS, GIVEN_BOXES, INTS, compiled
from trackd.tracking.forced import ODDS_WORTH, REACH, weigh_forced
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.linear_assignment import best_pairs
from trackd.tracking.scorer import Matches, Query, Scores
from trackd.tracking.window import RollingWindow, Slots, State

MOST = 32  # candidates at one time
PATIENCE, LONGEST = 2, 100  # a candidate ends that is missing for over so many times its frames, or so many
TOGETHER = 3  # an object was hardly seen: in at most a third of the frames in which the candidate was
MEMORY, RECENT = 200.0, 30.0  # frames over which the share of the frames with a track is a mean
# A candidate takes a place if its share is higher by so many standard deviations, and by this difference:
DEVIATIONS, LEAST_DIFFERENCE = 3.0, 0.2
STATIC, STATIC_OF_MOVED = 0.35, 0.5  # by this one if it has never moved, and by the other if the track has
STEADY = 0.8  # in any case, if it has moved, the track has not, and this is its share of the recent frames
AWAY, MOVED = 0.5, 5.0  # a track has moved that was so many sides from its first place in so many frames in a row


@compiled(None, INTS, INTS, GIVEN_BOXES, FLOATS, FLOATS, FLOATS, FLOAT_TABLE, FLOATS)
def _count(
    live: Slots,
    seen: Slots,
    boxes: NDArray[np.float32],
    shares: NDArray[np.float64],
    recent: NDArray[np.float64],
    frames: NDArray[np.float64],
    homes: NDArray[np.float64],
    away: NDArray[np.float64],
) -> None:
    """Count a frame for all live tracks; boxes (S, 4) and all behind them are by slot."""
    for slot in live:
        frames[slot] = min(frames[slot] + 1.0, MEMORY)
        shares[slot] -= shares[slot] / frames[slot]
        recent[slot] -= recent[slot] / min(frames[slot], RECENT)
    for slot in seen:
        shares[slot] += 1.0 / frames[slot]
        recent[slot] += 1.0 / min(frames[slot], RECENT)
        box, home = boxes[slot], homes[slot]
        x, y = 0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3])
        if np.isnan(home[0]):
            home[0], home[1] = x, y
        elif away[slot] < MOVED:
            squared = (x - home[0]) ** 2 + (y - home[1]) ** 2
            area = max((box[2] - box[0]) * (box[3] - box[1]), 1.0)
            away[slot] = away[slot] + 1.0 if squared > AWAY**2 * area else 0.0


@dataclass(slots=True, eq=False)
class Aside:
    """The matched candidates of a frame."""

    rows: NDArray[np.intp]  # (c,)
    slots: Slots  # (c,)
    probabilities: NDArray[np.float32]  # (c,)


class Candidates:
    """The candidates of one tracker: `window.candidates`.

    Args:
        window: of the tracker.
        lifecycle: of the tracker.
    """

    def __init__(self, window: RollingWindow, lifecycle: Lifecycle) -> None:
        self._window = window
        self._lifecycle = lifecycle
        self.forget()

    def forget(self) -> None:
        """Forget how often tracks were seen; those that are candidates stay candidates."""
        self._allocate(0)

    def _allocate(self, capacity: int) -> None:
        self._shares = np.zeros(capacity)  # (S,) of the frames since a track began that it was seen in
        self._recent = np.zeros(capacity)  # (S,) of the last of them, about `RECENT`
        self._frames = np.zeros(capacity)  # (S,) their number, at most `MEMORY`
        self._homes = np.full((capacity, 2), np.nan)  # (S, 2) a track's first place
        self._away = np.zeros(capacity)  # (S,) frames in a row in which it was elsewhere, up to `MOVED`

    # --- a frame: the calls in their order; all but `see` and `begin` only if there are candidates ---

    def set_aside(self, query: Query, matches: Matches) -> Aside:
        """Take the candidates out of a frame's live tracks and its matches."""
        self._reserve()
        query.live_slots = self._window.placed
        mine = self._window.ids[matches.slots] < 0
        return Aside(*matches.take(mine))

    def place(
        self,
        aside: Aside,
        query: Query,
        matches: Matches,
        scores: Scores | None,
        max_tracks: int | None,
        together: Slots,
    ) -> tuple[Slots, list[int]]:
        """Give candidates that are seen again their places, and put all matched ones back. Flags the frame.

        Args:
            aside: the result of `set_aside`; changed.
            query: the frame.
            matches: of the frame; changed.
            scores: the scorer's result, of every pair; None: there was nothing to compare.
            max_tracks: of the configuration; None: there is a place for each.
            together: tracks that are in one box with others, or were in the frame before: they stay as they are.

        Returns:
            the candidates that are objects that were missing, and so end; and new ids.
        """
        window, ended, new_ids = self._window, aside.slots[:0], list[int]()
        if scores is not None and len(aside.slots):
            missing = np.setdiff1d(window.placed, np.concatenate([matches.slots, together]))
            if len(missing):
                ended = self._find_missing(aside, query, missing, scores)
            waiting = aside.slots[window.ids[aside.slots] < 0]
            waiting = waiting[np.argsort(-self._shares[waiting] * self._frames[waiting], kind="stable")]
            free = len(waiting) if max_tracks is None else max(max_tracks - len(window.placed), 0)
            new_ids = self._lifecycle.place(waiting[:free])
            swapped = len(waiting) > free and self._take_place(waiting[free:], np.setdiff1d(window.placed, together))
            if len(ended) or swapped:
                query.flags.append("forced")
        matches.add(aside.rows, aside.slots, aside.probabilities)
        return ended, new_ids

    def _find_missing(self, aside: Aside, query: Query, missing: Slots, scores: Scores) -> Slots:
        """Match candidates with missing tracks; returns the candidates that are now those."""
        window, life = self._window, self._lifecycle
        since = life.first_index[aside.slots][:, None, None]
        together = (window.frame_index[missing][None] >= since).sum(axis=2)
        hardly = np.minimum((life.hits[aside.slots] + 1) // TOGETHER, window.window_size - 1)
        weights = np.nan_to_num(scores.logits[np.ix_(aside.rows, np.searchsorted(scores.slots, missing))])
        weigh_forced(
            weights, np.zeros(len(missing)), ODDS_WORTH, query.instances.centres[aside.rows], life.extents[missing],
            life.missed[missing], REACH,
        )  # fmt: skip
        weights[together > hardly[:, None]] = 0
        found, columns = best_pairs(weights, np.zeros(len(missing)))
        ended, tracks = aside.slots[found], missing[columns]
        aside.slots[found], aside.probabilities[found] = tracks, 0
        for name in _ARRAYS:  # it can still be false: it has the evidence of the candidate
            getattr(self, f"_{name}")[tracks] = getattr(self, f"_{name}")[ended]
        return np.sort(ended)

    def _take_place(self, waiting: Slots, placed: Slots) -> bool:
        """Let the one of these candidates that has most evidence take the place of a track that has less."""
        shares = self._shares
        if not len(placed):
            return False
        frames = np.maximum(np.minimum(self._frames[waiting][:, None], self._frames[placed]), 1.0)
        moved, other_moved = (self._away[waiting] >= MOVED)[:, None], self._away[placed] >= MOVED
        least = np.where(moved, LEAST_DIFFERENCE, np.where(other_moved, STATIC_OF_MOVED, STATIC))
        margin = np.maximum(DEVIATIONS * 0.5 / np.sqrt(frames), least)
        steady = moved & (self._recent[waiting] >= STEADY)[:, None] & (frames >= RECENT)
        margin[steady & ~other_moved] = -1.0
        excess = shares[waiting][:, None] - shares[placed] - margin
        row, column = np.unravel_index(np.argmax(excess), excess.shape)
        if excess[row, column] <= 0:
            return False
        other = int(placed[column])
        self._lifecycle.exchange_places(int(waiting[row]), other)
        shares[other] = self._recent[other] = self._frames[other] = 0.0  # it can return as soon as another candidate
        return True

    def see(self, seen: Slots) -> None:
        """Count a frame; `seen` are the tracks that are in it, hidden ones included."""
        self._reserve()
        _count(
            self._window.live, seen, self._lifecycle.extents, self._shares, self._recent, self._frames,
            self._homes, self._away,
        )  # fmt: skip

    def over(self) -> Slots:
        """Return the candidates that are missing for too long."""
        mine, life = self._window.candidates, self._lifecycle
        return mine[life.missed[mine] > np.minimum(PATIENCE * life.hits[mine], LONGEST)]

    def room(self, max_tracks: int) -> int:
        """Return how many candidates may begin."""
        window = self._window
        unused = window.max_slots - len(window.live) - len(window.retired)
        return max(min(unused, min(MOST, window.max_slots - max_tracks) - len(window.candidates)), 0)

    def begin(self, slots: Slots) -> None:
        """Note that tracks and candidates have begun in this frame."""
        self._reserve()
        self._shares[slots] = self._recent[slots] = self._frames[slots] = 1.0
        boxes = self._lifecycle.extents[slots]
        self._homes[slots], self._away[slots] = 0.5 * (boxes[:, :2] + boxes[:, 2:]), 0

    # --- state ---

    def snapshot(self) -> State:
        """Return what is known of all tracks, in the order of their slots."""
        slots = self._window.occupied
        self._reserve()
        return {name: getattr(self, f"_{name}")[slots] for name in _ARRAYS}

    def restore(self, state: State | None) -> None:
        """Restore the state that `snapshot` returned, after the window; None: all tracks were always seen."""
        self._allocate(self._window.capacity)
        slots = self._window.occupied
        self._shares[slots] = self._recent[slots] = self._frames[slots] = 1.0
        if state is not None:
            for name in _ARRAYS:
                getattr(self, f"_{name}")[slots] = state[name]

    def _reserve(self) -> None:
        count = len(self._shares)
        if count >= self._window.capacity:
            return
        old = {name: getattr(self, f"_{name}") for name in _ARRAYS}
        self._allocate(self._window.capacity)
        for name, array in old.items():
            getattr(self, f"_{name}")[:count] = array


_ARRAYS = ("shares", "recent", "frames", "homes", "away")
