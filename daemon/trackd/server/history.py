"""The last settlements of a stream, for subscribers that missed some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from trackd_client.protocol import Tracks

MAX_REPLY_BYTES = 512 * 1024  # of arrays; as lists in MessagePack they need about twice as much
_OVERHEAD_BYTES = 1024  # of a settlement without its arrays, an upper bound
_CORRECTION_BYTES = 1024  # of a correction, the same
_MOST_WAITING = 1024  # calls of `when_complete` while the older settlements are awaited


class History:
    """A ring bounded by frames and by bytes. Older settlements are deleted."""

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self.max_frames = max_frames
        self._max_bytes = max_bytes
        self._rows: deque[Tracks] = deque()
        self._sizes: deque[int] = deque()  # of each row, bytes; a pair with the row would be one more for the collector
        self._nbytes = 0
        self._waiting: list[Callable[[], None]] | None = None  # None: it is complete

    def await_older(self) -> None:
        """Note that older settlements are being read, and will be added by `add_older`."""
        self._waiting = []

    def add_older(self, rows: Sequence[Tracks]) -> None:
        """Add the settlements before the first one, as far as the bounds allow; the history is complete then."""
        for tracks in reversed(rows):
            size = _size(tracks)
            if len(self._rows) >= self.max_frames or self._nbytes + size > self._max_bytes:
                break
            self._rows.appendleft(tracks)
            self._sizes.appendleft(size)
            self._nbytes += size
        waiting, self._waiting = self._waiting or [], None
        for act in waiting:
            act()

    def when_complete(self, act: Callable[[], None]) -> None:
        """Call a function once the history is complete: now, or when the older settlements are here.

        Where very many calls wait, it is called now.
        """
        if self._waiting is None or len(self._waiting) >= _MOST_WAITING:
            act()
        else:
            self._waiting.append(act)

    def append(self, tracks: Tracks) -> None:
        """Add the newest settlement, and delete the oldest ones beyond the bounds."""
        size = _size(tracks)
        self._rows.append(tracks)
        self._sizes.append(size)
        self._nbytes += size
        while self._rows and (len(self._rows) > self.max_frames or self._nbytes > self._max_bytes):
            self._rows.popleft()
            self._nbytes -= self._sizes.popleft()

    def select(self, epoch: int | None, from_seq: int, to_seq: int | None, limit: int) -> list[Tracks]:
        """Return at most `limit` settlements of a range of seq, `to_seq` included, oldest first.

        Returns fewer if the message would be too large, but at least one. The client repeats the request from there.
        """
        chosen: list[Tracks] = []
        nbytes = 0
        for row, size in zip(self._rows, self._sizes, strict=True):
            if (epoch is not None and row.epoch != epoch) or row.seq < from_seq:
                continue
            nbytes += size
            too_large = bool(chosen) and nbytes > MAX_REPLY_BYTES
            if (to_seq is not None and row.seq > to_seq) or len(chosen) == limit or too_large:
                break
            chosen.append(row)
        return chosen


def _size(tracks: Tracks) -> int:
    size = _OVERHEAD_BYTES
    for array in (tracks.track_ids, tracks.track_scores, tracks.boxes, tracks.keypoints, tracks.scores):
        if array is not None:
            size += array.nbytes
    if tracks.names:
        size += sum(4 * len(name) for name in tracks.names if name)
    return size + _CORRECTION_BYTES * len(tracks.corrections)
