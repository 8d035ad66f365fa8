"""How much history the journal keeps: each stream's last frames, and no more bytes than the file may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trackd.store.frame_table import FrameTable
from trackd.store.journal_file import JournalFile

# A row of 1 kB, a quarter of a page, may take a whole one; beside rows, the trees above them.
_ROW_GROWTH, _PAGES_PER_BATCH = 4, 16
_SLACK = 64  # a 64th of the bound is freed beyond what is needed, so that not every batch has to free some


# Rows that are let go for each that is written. Hundreds at once, after a snapshot, would hold all streams up for the
# time of many frames.
_TRIMMED_PER_FRAME = 2
_DROPPED_AT_ONCE = 8  # where room is made: so many rows too many may go


class Held(NamedTuple):
    """A stream's frames in the journal."""

    seqs: range
    nbytes: int


_NOTHING = Held(range(0), 0)
_Noted = tuple[dict[str, int], dict[str, int], dict[str, Held], dict[str, int]]


class Retention:
    """Deletes streams' oldest frames, within the caller's transaction; never one that a restart has to play again.

    Args:
        file: the journal's.
        table: its frames.
        most_bytes: what the file may hold. What a restart needs is kept beyond it.
        history_frames: how many frames before a snapshot stay, where a stream does not say.
    """

    def __init__(self, file: JournalFile, table: FrameTable, most_bytes: int, history_frames: int) -> None:
        self._file = file
        self._table = table
        self._most_bytes = most_bytes
        self._default_frames = history_frames
        self._frames: dict[str, int] = {}  # what a stream says
        self._snapshot_seq: dict[str, int] = dict(file.db.execute("SELECT stream, seq FROM snapshots").fetchall())
        self._held = {stream: Held(seqs, nbytes) for stream, seqs, nbytes in table.streams()}
        self._over: dict[str, int] = {}  # the last frame of each stream that history does not reach back to
        self._page_bytes: int = file.db.execute("PRAGMA page_size").fetchone()[0]

        self._room = 0  # bytes that fit for sure

    def noted(self) -> _Noted:
        """All that was noted so far, for a transaction that fails."""
        return self._frames.copy(), self._snapshot_seq.copy(), self._held.copy(), self._over.copy()

    def go_back(self, noted: _Noted) -> None:
        """Forget what was noted since."""
        self._frames, self._snapshot_seq, self._held, self._over = noted

    def opened(self, stream: str, opened: Mapping[str, Any]) -> None:
        """Note what a stream's `open` says of its history."""
        settings = opened.get("settings", {}).get("stream", {})
        self._frames[stream] = settings.get("history_frames", self._default_frames)

    def seqs(self, stream: str) -> range:
        """A stream's frames that are there."""
        return self._held.get(stream, _NOTHING).seqs

    def added(self, stream: str, seq: int, nbytes: int) -> None:
        """Note a frame that was written."""
        held = self._held.get(stream)
        if held is None:
            self._held[stream] = Held(range(seq, seq + 1), nbytes)
        else:
            seqs = range(min(held.seqs.start, seq), max(held.seqs.stop, seq + 1))
            self._held[stream] = Held(seqs, held.nbytes + nbytes)

    def snapshot(self, stream: str, seq: int) -> None:
        """Note a snapshot: frames before it may go that history does not reach back to."""
        self._snapshot_seq[stream] = seq
        kept = self._frames.get(stream, self._default_frames)
        self._over[stream] = seq - max(kept, 1)  # the last one tells which frame_index may come next

    @property
    def trim_due(self) -> bool:
        """Whether there may be rows to let go."""
        return bool(self._over)

    def trim(self, n_written: int) -> None:
        """Let some of the frames go that history does not reach back to: a few for each of those just written."""
        left = _TRIMMED_PER_FRAME * n_written
        for stream, last in list(self._over.items()):
            if left <= 0:
                return
            over = self._oldest(stream, last + 1, left)
            self._drop(stream, over)
            if len(over) < left:
                del self._over[stream]
            left -= len(over)

    def closed(self, stream: str) -> None:
        """Let all frames of a stream go, and forget it."""
        self._drop(stream, self.seqs(stream))
        self._frames.pop(stream, None)
        self._snapshot_seq.pop(stream, None)
        self._held.pop(stream, None)
        self._over.pop(stream, None)

    def make_room(self, nbytes: int) -> None:
        """Let the oldest history of the streams that hold most go, until so many bytes more fit."""
        self._room -= _ROW_GROWTH * nbytes + _PAGES_PER_BATCH * self._page_bytes
        if self._room > 0:
            return  # the file need not be asked each time
        excess = self.used_bytes + nbytes - self._most_bytes
        self._room = -excess
        if excess <= 0:
            return
        excess += self._most_bytes // _SLACK
        for stream in sorted(self._held, key=lambda name: -self._held[name].nbytes):
            if excess <= 0:
                return
            excess -= self._drop_bytes(stream, excess)

    @property
    def used_bytes(self) -> int:
        """What the file holds; what was deleted in it is free for what comes."""
        pages: int = self._file.db.execute("PRAGMA page_count").fetchone()[0]
        free: int = self._file.db.execute("PRAGMA freelist_count").fetchone()[0]
        return (pages - free) * self._page_bytes

    def _drop_bytes(self, stream: str, nbytes: int) -> int:
        """Let a stream's oldest frames go, so many bytes of them if there are; returns how many went."""
        freed, end = 0, self._snapshot_seq.get(stream, 0)
        while freed < nbytes and (over := self._oldest(stream, end, _DROPPED_AT_ONCE)):
            freed += self._drop(stream, over)
        return freed

    def _oldest(self, stream: str, end: int, most: int) -> range:
        """A stream's oldest frames before `end`, at most so many."""
        seqs = self.seqs(stream)
        return range(seqs.start, min(seqs.start + most, seqs.stop, end))

    def _drop(self, stream: str, oldest: range) -> int:
        """Let a stream's oldest frames go; returns their bytes."""
        if not oldest:
            return 0
        freed = self._table.delete(stream, oldest)
        held = self._held[stream]
        self._held[stream] = Held(range(oldest.stop, held.seqs.stop), held.nbytes - freed)
        return freed
