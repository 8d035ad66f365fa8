"""Fragments: the parts of tracks within which an id cannot have been exchanged.

A fragment ends where its track touches another one, or is not seen. Afterwards the track goes on with a new fragment,
whose *suspects* are the ids that the animal may have: those of the tracks that it touched, and their suspects. A
fragment without other suspects than its own id is certain.

Letters: n instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOUCH = 0.15  # two tracks touch if their boxes share more than this part of the smaller one
NEAR = 1.0  # a track that is not seen touches those whose box is within so many sides of its last one


@dataclass(slots=True, eq=False)
class Fragment:
    """One fragment of a track."""

    number: int  # from 0 in the order of time
    track: int  # its id when it began
    suspects: frozenset[int]  # ids that the animal may have, its own included
    frame_index: int  # of its first observation


class Fragments:
    """The current fragment of each track of a stream."""

    def __init__(self) -> None:
        self._current: dict[int, Fragment] = {}  # by id; of the tracks that do not touch another one
        self._suspects: dict[int, set[int]] = {}  # by id, with its own
        self._boxes: dict[int, NDArray[np.float32]] = {}  # the last of each track
        self._lost: set[int] = set()
        self._count = 0

    @property
    def tracks(self) -> list[int]:
        """The ids of all live tracks that were seen."""
        return list(self._boxes)

    def observe(
        self, frame_index: int, track_ids: NDArray[np.int32], boxes: NDArray[np.float32], ended: Collection[int]
    ) -> list[Fragment | None]:
        """Take a frame, and return the fragment of each instance, None where it touches another or has no track.

        Args:
            frame_index: of the frame.
            track_ids: (n,) −1 for none.
            boxes: (n, 4) x1 y1 x2 y2.
            ended: ids of the tracks that have ended since the last frame.
        """
        for track in ended:
            self._remove(track)
        ids: list[int] = track_ids.tolist()
        seen = {track for track in ids if track >= 0}
        lost = {track for track in self._boxes if track not in seen}
        for track in lost:
            self._current.pop(track, None)
        touching = [(ids[i], ids[j]) for i, j in _overlaps(boxes, boxes, 0.0) if i < j and ids[i] >= 0 and ids[j] >= 0]
        touched = {track for pair in touching for track in pair}
        if lost:
            gone = sorted(lost)
            last = np.stack([self._boxes[track] for track in gone])
            touching += [(gone[i], ids[j]) for i, j in _overlaps(last, boxes, NEAR) if ids[j] >= 0]
            touching += [(gone[0], other) for other in gone[1:]]
        begun = seen - self._boxes.keys()
        touching += [(new, old) for new in begun for old in (lost | self._lost) & self._boxes.keys()]
        self._join(touching)
        self._lost = lost
        fragments: list[Fragment | None] = []
        for i, track in enumerate(ids):
            if track < 0:
                fragments.append(None)
                continue
            self._boxes[track] = boxes[i]
            if track in touched:
                self._current.pop(track, None)
                fragments.append(None)
                continue
            if track not in self._current:
                suspects = self._suspects.setdefault(track, {track})
                self._current[track] = Fragment(self._count, track, frozenset(suspects), frame_index)
                self._count += 1
            fragments.append(self._current[track])
        return fragments

    def is_current(self, fragment: Fragment) -> bool:
        """Whether the track still is in this fragment."""
        return self._current.get(fragment.track) is fragment

    def confirm(self, fragment: Fragment) -> None:
        """The animal of this fragment has the id of its track, so no other track can have it."""
        self._clear(fragment.track)

    def trust(self, tracks: Iterable[int]) -> None:
        """A person has said which animals these ids have: their tracks begin new, certain fragments."""
        for track in tracks:
            self._current.pop(track, None)
            self._clear(track)

    def move(self, exchanged: Mapping[int, int], merged: Mapping[int, int], known: Iterable[Fragment]) -> None:
        """Tracks have other ids from now on.

        Args:
            exchanged: the new id of tracks by their old one; a permutation.
            merged: after that, the id that each of these tracks goes on as; its own one ends.
            known: the fragments of which this was found. They go on, under their new ids, which are certain.
        """
        boxes = {new: self._boxes[old] for old, new in exchanged.items()}
        for old in exchanged:
            self._current.pop(old, None)
        self._boxes.update(boxes)
        for old, into in merged.items():
            box = self._boxes[old]
            self._remove(old)
            self._boxes[into] = box
        self._lost = {exchanged.get(track, track) for track in self._lost} - set(merged.values())
        for fragment in known:
            fragment.track = merged.get(fragment.track, exchanged.get(fragment.track, fragment.track))
            self._current[fragment.track] = fragment
            self._clear(fragment.track)

    @property
    def numbers(self) -> set[int]:
        """The numbers of the current fragments."""
        return {each.number for each in self._current.values()}

    def _join(self, touching: list[tuple[int, int]]) -> None:
        """Each track may have any id that a track may have which it touches."""
        for one, other in touching:
            self._current.pop(one, None)
            self._current.pop(other, None)
            joined = self._suspects.setdefault(one, {one}) | self._suspects.setdefault(other, {other})
            for track in joined:
                self._suspects.setdefault(track, {track}).update(joined)

    def _clear(self, track: int) -> None:
        """No other track has this id, and this one no other."""
        for suspects in self._suspects.values():
            suspects.discard(track)
        self._suspects[track] = {track}

    def _remove(self, track: int) -> None:
        self._boxes.pop(track, None)
        self._current.pop(track, None)
        self._suspects.pop(track, None)
        self._lost.discard(track)
        for suspects in self._suspects.values():
            suspects.discard(track)


def _overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32], more: float) -> list[tuple[int, int]]:
    """The pairs of boxes of which one, widened by `more` of its sides on each side, covers a part of the other."""
    widened = boxes + np.concatenate([-(boxes[:, 2:] - boxes[:, :2]), boxes[:, 2:] - boxes[:, :2]], axis=1) * more
    low = np.maximum(widened[:, None, :2], others[None, :, :2])
    high = np.minimum(widened[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    smaller = np.minimum(_areas(boxes)[:, None], _areas(others)[None])
    rows, columns = np.nonzero(shared > TOUCH * smaller)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
