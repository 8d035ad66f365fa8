"""Fragments: the parts of tracks within which an id cannot have been exchanged.

A fragment ends where its track touches another one, or is not seen. Afterwards the track goes on with a new fragment,
whose *suspects* are the ids that the animal may have: those of the tracks that it touched, and their suspects. A
fragment without other suspects than its own id is certain.

Letters: n instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.identity.arrays import Arrays, integers, lists_of, put_lists, rows
from trackd.identity.fragment import Fragment
from trackd.identity.overlaps import overlaps, widened

_KEPT = 16  # fragments of a track that are followed
MAX_JOINED = 256  # tracks; of a stream with more, frames have more animals than anything is learnt of


class Fragments:
    """The current fragment of each track of a stream."""

    def __init__(self) -> None:
        self._current: dict[int, Fragment] = {}  # by id; of the tracks that do not touch another one
        self._latest: dict[int, list[Fragment]] = {}  # by id; the last ones, the newest at the end
        self._runs: dict[int, int] = {}  # by id; of the tracks that are seen
        self._suspects: dict[int, set[int]] = {}  # by id, with its own
        self._boxes: dict[int, NDArray[np.float32]] = {}  # the last of each track
        self._lost: set[int] = set()
        self._missed: dict[int, int] = {}  # by id; frames in a row without a lost track
        self._count = 0

    @property
    def tracks(self) -> list[int]:
        """The ids of all live tracks that were seen."""
        return list(self._boxes)

    @property
    def count(self) -> int:
        """The number of the next fragment."""
        return self._count

    def observe(
        self,
        frame_index: int,
        track_ids: NDArray[np.int32],
        boxes: NDArray[np.float32],
        ended: Collection[int],
        merged: Iterable[tuple[int, int]] = (),
    ) -> list[Fragment | None]:
        """Take a frame, and return the fragment of each instance, None where it touches another or has no track.

        Args:
            frame_index: of the frame.
            track_ids: (n,) −1 for none.
            boxes: (n, 4) x1 y1 x2 y2.
            ended: ids of the tracks that have ended since the last frame.
            merged: rows whose box is that of a further track too, with the id of that one.
        """
        for track in ended:
            self._remove(track)
        ids: list[int] = track_ids.tolist()
        seen = {track for track in ids if track >= 0}
        lost = {track for track in self._boxes if track not in seen}
        touching = [(ids[i], ids[j]) for i, j in overlaps(boxes, boxes) if i < j and ids[i] >= 0 and ids[j] >= 0]
        touching += [(ids[row], track) for row, track in merged]
        touched = {track for pair in touching for track in pair}  # their fragments end
        if lost:
            gone = sorted(lost)
            last = np.stack([self._boxes[track] for track in gone])
            missed = np.array([self._missed.get(track, 0) for track in gone])
            beside = [(gone[i], ids[j]) for i, j in overlaps(widened(last, 0 * missed), boxes) if ids[j] >= 0]
            reached = widened(last, missed)
            beside += [(gone[i], gone[j]) for i, j in overlaps(reached, reached) if i < j]
            for track in {track for pair in beside for track in pair if track in lost}:
                self._runs.pop(track, None)  # it may go on with another animal
                self._current.pop(track, None)
            changed = (lost - self._lost) | (self._lost - lost)  # lost, or seen again, in this frame
            touched |= {track for pair in beside if changed & set(pair) for track in pair}
            touching += beside
        self._missed = {track: self._missed.get(track, 0) + 1 for track in lost}
        begun = seen - self._boxes.keys()
        touching += [(new, old) for new in begun for old in (lost | self._lost) & self._boxes.keys()]
        self._join(touching)
        for track in touched:
            self._current.pop(track, None)
        self._lost = lost
        fragments: list[Fragment | None] = []
        for i, track in enumerate(ids):
            if track < 0:
                fragments.append(None)
                continue
            self._boxes[track] = boxes[i]
            self._runs.setdefault(track, frame_index)
            if track in touched:
                fragments.append(None)
                continue
            if track not in self._current:
                suspects = self._suspects.setdefault(track, {track})
                self._current[track] = self._begin(track, frozenset(suspects), frame_index)
            fragments.append(self._current[track])
        return fragments

    def _begin(self, track: int, suspects: frozenset[int], frame_index: int) -> Fragment:
        run, latest = self._runs[track], self._latest.setdefault(track, [])
        made = Fragment(self._count, track, suspects, frame_index, run)
        if latest:
            made.before, made.after_gap = latest[-1].number, latest[-1].run != run
        latest.append(made)
        del latest[: len(latest) - _KEPT]
        self._count += 1
        return made

    def is_current(self, fragment: Fragment) -> bool:
        """Whether the track still is in this fragment."""
        return self._current.get(fragment.track) is fragment

    def is_continued(self, fragment: Fragment) -> bool:
        """Whether the track was seen in all frames since this fragment, so that it is most likely the same animal."""
        return self._runs.get(fragment.track) == fragment.run and fragment in self._latest.get(fragment.track, ())

    def confirm(self, fragment: Fragment) -> None:
        """The animal of this fragment has the id of its track, so no other track can have it."""
        self._clear(fragment.track)

    def trust(self, tracks: Iterable[int]) -> None:
        """A person has said which animals these ids have: their tracks begin new, certain fragments."""
        for track in tracks:
            self._current.pop(track, None)
            self._latest.pop(track, None)
            self._clear(track)

    def move(self, exchanged: Mapping[int, int], merged: Mapping[int, int], known: Iterable[Fragment]) -> None:
        """Tracks have other ids from now on.

        Args:
            exchanged: the new id of tracks by their old one; a permutation.
            merged: after that, the id that each of these tracks goes on as; its own one ends.
            known: the fragments of which this was found. They go on, under their new ids, which are certain.
        """
        asked = {id(each) for each in known}
        now = {old: merged.get(new, new) for old, new in {**merged, **exchanged}.items()}
        for latest in self._latest.values():
            for fragment in latest:
                fragment.suspects |= {now.get(track, track) for track in fragment.suspects}
        for suspects in self._suspects.values():
            suspects |= {now.get(track, track) for track in suspects}
        for kept in (self._boxes, self._current, self._latest, self._runs, self._suspects):
            _rename(kept, exchanged)
            for old, into in merged.items():
                kept.pop(into, None)
                _rename(kept, {old: into})
        for old in merged:
            self._remove(old)
        for track, latest in self._latest.items():
            for fragment in latest:
                fragment.track = track
        self._lost = {exchanged.get(track, track) for track in self._lost} - set(merged.values())
        for fragment in list(self._current.values()):
            if id(fragment) in asked:
                self._clear(fragment.track)

    def interrupt(self) -> None:
        """Nobody has seen the animals for some time: each track may go on with any of them."""
        self._current.clear()
        self._runs.clear()
        if len(self._boxes) <= MAX_JOINED:
            for track in self._boxes:
                self._suspects[track] = set(self._boxes)

    def keep(self, live: Collection[int]) -> None:
        """Remove all tracks but these."""
        for track in self._boxes.keys() - live:
            self._remove(track)

    # --- over a restart ---

    def fork(self) -> Fragments:
        """Return the same fragments as they are now; what is observed later does not change its maps."""
        made = Fragments()
        made._current, made._runs, made._boxes = dict(self._current), dict(self._runs), dict(self._boxes)
        made._latest = {track: list(latest) for track, latest in self._latest.items()}
        made._suspects = {track: set(suspects) for track, suspects in self._suspects.items()}
        made._lost, made._missed, made._count = set(self._lost), dict(self._missed), self._count
        return made

    @property
    def all(self) -> list[Fragment]:
        """The current fragments and those before them."""
        return [*self._current.values(), *(each for latest in self._latest.values() for each in latest)]

    def snapshot(self) -> Arrays:
        """Return all that later frames depend on, without the fragments themselves (`put_fragments`)."""
        found: Arrays = {
            "tracks.current": rows(((track, each.number) for track, each in self._current.items()), 2),
            "tracks.latest": integers(self._latest),
            "tracks.runs": rows(self._runs.items(), 2),
            "tracks.suspected": integers(self._suspects),
            "tracks.seen": integers(self._boxes),
            "tracks.boxes": np.array(list(self._boxes.values()), np.float32).reshape(-1, 4),
            "tracks.lost": integers(sorted(self._lost)),
            "tracks.missed": rows(self._missed.items(), 2),
            "tracks.count": integers([self._count]),
        }
        put_lists(found, "tracks.fragments", ((each.number for each in latest) for latest in self._latest.values()))
        put_lists(found, "tracks.suspects", map(sorted, self._suspects.values()))
        return found

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], by_number: Mapping[int, Fragment]) -> Fragments:
        """Return what `snapshot` was made of.

        Args:
            arrays: as it returned them.
            by_number: the fragments, by number.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        made = cls()
        made._current = {track: by_number[number] for track, number in arrays["tracks.current"].tolist()}
        for track, numbers in zip(arrays["tracks.latest"].tolist(), lists_of(arrays, "tracks.fragments"), strict=True):
            made._latest[track] = [by_number[number] for number in numbers]
        made._runs = dict(arrays["tracks.runs"].tolist())
        suspects = lists_of(arrays, "tracks.suspects")
        made._suspects = {
            track: set(each) for track, each in zip(arrays["tracks.suspected"].tolist(), suspects, strict=True)
        }
        seen, boxes = arrays["tracks.seen"].tolist(), arrays["tracks.boxes"].astype(np.float32).reshape(-1, 4)
        made._boxes = dict(zip(seen, boxes, strict=True))
        made._lost = set(arrays["tracks.lost"].tolist())
        made._missed = dict(arrays["tracks.missed"].tolist())
        (made._count,) = arrays["tracks.count"].tolist()
        if not made._lost <= made._boxes.keys() or any(number >= made._count for number in by_number):
            raise ValueError("the tracks and their fragments do not belong together")
        return made

    @property
    def seen(self) -> set[int]:
        """The ids of the tracks that were seen in the last frame."""
        return self._boxes.keys() - self._lost

    @property
    def numbers(self) -> set[int]:
        """The numbers of the current fragments."""
        return {each.number for each in self._current.values()}

    def _join(self, touching: list[tuple[int, int]]) -> None:
        """Each track may have any id that a track may have which it touches."""
        for one, other in touching:
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
        self._latest.pop(track, None)
        self._runs.pop(track, None)
        self._suspects.pop(track, None)
        self._lost.discard(track)
        for suspects in self._suspects.values():
            suspects.discard(track)


def _rename(kept: dict[int, Any], ids: Mapping[int, int]) -> None:
    """Move the values of a map by id to their new ids."""
    moved = {new: kept.pop(old) for old, new in ids.items() if old in kept}
    kept.update(moved)
