"""Undo: what takes a correction back.

The next frames are those without the correction, as far as that is possible: what was published stays, and a track that
was ended has missed the frames since. Each function checks everything before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trackd.tracking.correction import Action, Applied, CorrectionError
from trackd.tracking.labels import Labels
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.retired import Retired


class Undo:
    """Takes back the corrections of one tracker.

    Args:
        labels: the ids and names.
        lifecycle: of the tracker.
        retired: the tracks that corrections have ended.
    """

    def __init__(self, labels: Labels, lifecycle: Lifecycle, retired: Retired) -> None:
        self._labels = labels
        self._lifecycle = lifecycle
        self._retired = retired

    def take_back(self, done: Applied, max_tracks: int | None) -> Applied:
        """Take a correction back from the next frame on.

        Args:
            done: the correction; no later one concerns the same tracks.
            max_tracks: the most live tracks that are allowed; None: any number.

        Raises:
            CorrectionError: it is not possible; nothing has changed.
        """
        steps: dict[Action, Callable[[Applied, Applied, int | None], Applied]] = {
            Action.RENAME: self._rename,
            Action.SWAP: self._swap,
            Action.MERGE: self._merge,
            Action.END: self._end,
            Action.NEW_ID: self._new_id,
        }
        undone = Applied(0, Action.UNDO, "", 0, done.tracks, done.into, done.new_id, undoes=done.number)
        return steps[done.action](done, undone, max_tracks)

    def _rename(self, done: Applied, undone: Applied, max_tracks: int | None) -> Applied:
        track = done.tracks[0]
        self._labels.slot(track)
        self._labels.set_name(track, done.name_before)
        return replace(undone, renames=True, name=done.name_before)

    def _swap(self, done: Applied, undone: Applied, max_tracks: int | None) -> Applied:
        for track in done.tracks:
            self._labels.slot(track)
        self._labels.exchange(*done.tracks)
        return undone

    def _new_id(self, done: Applied, undone: Applied, max_tracks: int | None) -> Applied:
        labels, track, new_id = self._labels, done.tracks[0], done.new_id
        assert new_id is not None
        slot = labels.slots().get(new_id)
        if slot is None:
            raise _impossible(done, f"track {new_id}, as which track {track} has gone on, has ended")
        if labels.is_new(new_id):
            labels.check_free(labels.names.get(track), track, new_id)
            labels.forget_new(new_id)
            labels.names.pop(new_id, None)
            labels.give(slot, track)
            return undone
        self._check_name(done, new_id)
        labels.note(new_id)
        labels.give(slot, track)
        return self._published_again(done, undone, new_id)

    def _end(self, done: Applied, undone: Applied, max_tracks: int | None) -> Applied:
        labels, life, track = self._labels, self._lifecycle, done.tracks[0]
        if track in labels.ending:
            labels.check_free(labels.names.get(track), track)
            self._check_place(done, track, max_tracks)
            labels.ending.remove(track)
            return undone
        successor = self._retired.successor_of(track)
        slot = None if successor is None else labels.slots().get(successor)
        if slot is None or successor is None:
            self._check_retired(done, track)
            self._check_place(done, track, max_tracks)
            self._check_name(done)
            self._retired.revive(track)
            return self._published_again(done, undone)
        self._check_name(done, successor)
        labels.note(successor)
        self._retired.drop(track)
        labels.give(slot, track)
        life.hits[slot] += done.hits
        life.first_index[slot] = done.first_index
        return self._published_again(done, undone, successor)

    def _merge(self, done: Applied, undone: Applied, max_tracks: int | None) -> Applied:
        labels, life, track, into = self._labels, self._lifecycle, done.tracks[0], done.into
        assert into is not None
        pending = track in labels.ending
        slot = labels.slots().get(into)
        if slot is None:
            raise _impossible(done, f"track {into} has ended")
        # The track that the merge has ended: with `moved` it is the one whose id is `into`.
        ended = labels.slots(ending=True)[track] if pending else self._retired.slot_of(track)
        if not done.moved and ended is None:
            self._check_retired(done, track)
        if ended is not None:
            self._check_place(done, into if done.moved else track, max_tracks)
        if pending:
            labels.check_free(labels.names.get(track), track)
        else:
            self._check_name(done)
        life.hits[slot] -= done.hits
        life.first_index[slot] = done.first_index
        if pending:
            labels.ending.remove(track)
        elif ended is not None:
            self._retired.revive(track)
        if done.moved:
            labels.note(into)
            labels.give(slot, track)
            if ended is not None:
                labels.give(ended, into)
        return undone if pending else self._published_again(done, undone)

    # --- what all need ---

    def _published_again(self, done: Applied, undone: Applied, replaced: int | None = None) -> Applied:
        """Give an id that ended its name back, and state that it is live again.

        Args:
            done: the correction that has ended it.
            undone: what is known of the undo.
            replaced: the id whose track has it now; None: it has its own.
        """
        labels, track = self._labels, done.tracks[0]
        if replaced is not None:
            labels.names.pop(replaced, None)
        if done.name_before is not None:
            labels.names[track] = done.name_before
        was_ended = labels.note_ended(track)
        return replace(undone, restored=track if was_ended else None, replaced=replaced)

    def _check_name(self, done: Applied, besides: int | None = None) -> None:
        """Check that the ended track can have its name again; `besides` is an id that ends."""
        self._labels.check_free(done.name_before, done.tracks[0], besides)
        self._labels.check_room(done.name_before, done.tracks[0], besides)

    def _check_place(self, done: Applied, track: int, max_tracks: int | None) -> None:
        live = len(self._labels.slots())
        if max_tracks is not None and live >= max_tracks:
            raise _impossible(
                done, f"track {track} needs a place, and {live} tracks are live; max_tracks is {max_tracks}. "
                "End one that is no animal first",
            )  # fmt: skip

    def _check_retired(self, done: Applied, track: int) -> None:
        if self._retired.slot_of(track) is not None:
            return
        successor = self._retired.successor_of(track)
        if successor is not None:
            raise _impossible(done, f"track {successor}, as which track {track} has gone on, has ended")
        raise _impossible(
            done, f"track {track} would have ended meanwhile without it (max_gap, max_gap_s, min_hits, the end of its "
            "clip), or its place was needed for another track (limits.active_tracks)",
        )  # fmt: skip


def _impossible(done: Applied, why: str) -> CorrectionError:
    return CorrectionError(f"correction {done.number} ({done.action}) cannot be undone: {why}")
