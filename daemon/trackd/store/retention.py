"""Which frames the journal keeps: the last ones of each stream, within the bound of the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trackd.store.frame_table import FrameTable
from trackd.store.journal_file import JournalFile

# A row of 1 kB, a quarter of a page, may take a whole page. The tree above the rows also takes pages.
_ROW_GROWTH, _PAGES_PER_BATCH = 4, 16
_SLACK = 64  # a 64th of the bound is freed beyond the need, so that not every batch has to free bytes

# Rows that are deleted for each row that is written. Hundreds at once, after a snapshot, would stop all streams for
# the time of many frames.
_TRIMMED_PER_FRAME = 2
_DELETED_AT_ONCE = 8  # to make room for a batch; up to this many rows more than needed are deleted


class Held(NamedTuple):
    """A stream's frames in the journal."""

    seqs: range
    nbytes: int


_NOTHING = Held(range(0), 0)
_State = tuple[dict[str, int], dict[str, int], dict[str, Held], dict[str, int]]


class Retention:
    """Deletes the oldest frames of streams in the caller's transaction.

    None is deleted that a restart has to replay, or that the stream's outputs have not written.

    Args:
        file: the journal's file.
        table: its table of frames.
        max_bytes: the bound of the file. Frames that a restart needs stay also beyond it; a stream whose outputs are
            behind by an eighth of it gets no credit.
        history_frames: how many frames before a snapshot stay, for streams without a setting of their own.
    """

    def __init__(self, file: JournalFile, table: FrameTable, max_bytes: int, history_frames: int) -> None:
        self._file = file
        self._table = table
        self._max_bytes = max_bytes
        self._default_frames = history_frames
        self._frames: dict[str, int] = {}  # the setting of each stream
        self._snapshot_seq: dict[str, int] = dict(file.db.execute("SELECT stream, seq FROM snapshots").fetchall())
        self._held = {stream: Held(seqs, nbytes) for stream, seqs, nbytes in table.streams()}
        self._over: dict[str, int] = {}  # the last frame of each stream that is too old for its history
        self._page_bytes: int = file.db.execute("PRAGMA page_size").fetchone()[0]
        self._written: dict[str, int] = {}  # of each stream with outputs: no restart writes frames up to this seq again
        self._room = 0  # bytes that fit in any case, without a look at the file

    def state(self) -> _State:
        """Return a copy of the bookkeeping, for `restore` after a failed transaction."""
        return self._frames.copy(), self._snapshot_seq.copy(), self._held.copy(), self._over.copy()

    def restore(self, state: _State) -> None:
        """Set the bookkeeping back to a copy."""
        self._frames, self._snapshot_seq, self._held, self._over = state

    def opened(self, stream: str, opened: Mapping[str, Any]) -> None:
        """Store a stream's setting of `history_frames`."""
        settings = opened.get("settings", {}).get("stream", {})
        self._frames[stream] = settings.get("history_frames", self._default_frames)
        if settings.get("outputs"):
            self._written.setdefault(stream, -1)

    def written(self, stream: str, seq: int) -> None:
        """Note that no restart has to write a stream's frames up to `seq` to its outputs again. For any thread."""
        if stream in self._written:
            self._written[stream] = seq

    def seqs(self, stream: str) -> range:
        """The seqs of a stream's stored frames."""
        return self._held.get(stream, _NOTHING).seqs

    def added(self, stream: str, seq: int, nbytes: int) -> None:
        """Count a frame that was written."""
        held = self._held.get(stream)
        if held is None:
            self._held[stream] = Held(range(seq, seq + 1), nbytes)
        else:
            seqs = range(min(held.seqs.start, seq), max(held.seqs.stop, seq + 1))
            self._held[stream] = Held(seqs, held.nbytes + nbytes)

    def snapshot(self, stream: str, seq: int) -> None:
        """Store the seq of a snapshot. Frames before it that are too old for the history may be deleted."""
        self._snapshot_seq[stream] = seq
        kept = self._frames.get(stream, self._default_frames)
        self._over[stream] = seq - max(kept, 1)  # the last frame has the frame_index that the next one must exceed

    @property
    def trim_due(self) -> bool:
        """Whether there may be rows to delete."""
        return bool(self._over)

    def trim(self, n_written: int) -> None:
        """Delete some of the frames that are too old for the history: a few for each frame that was written."""
        left = _TRIMMED_PER_FRAME * n_written
        for stream, last in list(self._over.items()):
            if left <= 0:
                return
            over = self._oldest(stream, last + 1, left)
            self._delete(stream, over)
            if len(over) < left:
                del self._over[stream]
            left -= len(over)

    def closed(self, stream: str) -> None:
        """Delete all frames of a stream, and its bookkeeping."""
        self._delete(stream, self.seqs(stream))
        self._frames.pop(stream, None)
        self._snapshot_seq.pop(stream, None)
        self._held.pop(stream, None)
        self._over.pop(stream, None)
        self._written.pop(stream, None)

    def reserve(self, nbytes: int) -> bool:
        """Count a batch of `nbytes`; return whether it fits in any case, which takes no query of the file."""
        self._room -= _ROW_GROWTH * nbytes + _PAGES_PER_BATCH * self._page_bytes
        return self._room > 0

    def make_room(self, nbytes: int) -> None:
        """Delete the oldest history of the streams with the most bytes, until `nbytes` more fit."""
        if self.reserve(nbytes):
            return
        excess = self.used_bytes + nbytes - self._max_bytes
        self._room = -excess
        if excess <= 0:
            return
        excess += self._max_bytes // _SLACK
        for stream in sorted(self._held, key=lambda name: -self._held[name].nbytes):
            if excess <= 0:
                return
            excess -= self._delete_bytes(stream, excess)

    @property
    def used_bytes(self) -> int:
        """The bytes in use in the file, without its free pages."""
        pages: int = self._file.db.execute("PRAGMA page_count").fetchone()[0]
        free: int = self._file.db.execute("PRAGMA freelist_count").fetchone()[0]
        return (pages - free) * self._page_bytes

    def _delete_bytes(self, stream: str, nbytes: int) -> int:
        """Delete a stream's oldest frames, at least `nbytes` of them if there are as many; return the deleted bytes."""
        freed, end = 0, self._snapshot_seq.get(stream, 0)
        while freed < nbytes and (over := self._oldest(stream, end, _DELETED_AT_ONCE)):
            freed += self._delete(stream, over)
        return freed

    def _oldest(self, stream: str, end: int, limit: int) -> range:
        """Return the seqs of a stream's oldest frames before `end`, at most `limit`, that its outputs do not need."""
        seqs = self.seqs(stream)
        return range(seqs.start, min(seqs.start + limit, seqs.stop, end, self._written.get(stream, end) + 1))

    def _delete(self, stream: str, oldest: range) -> int:
        """Delete a stream's oldest frames; return their bytes."""
        if not oldest:
            return 0
        freed = self._table.delete(stream, oldest)
        held = self._held[stream]
        self._held[stream] = Held(range(oldest.stop, held.seqs.stop), held.nbytes - freed)
        return freed
