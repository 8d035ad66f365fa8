"""Which messages of a stream's log are kept: those of its history, and all that a takeover needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from trackd.store.records import FrameRecord, OpenRecord, Record, SnapshotRecord


class RetainedMessages:
    """The messages of one stream's log that are not deleted yet.

    Args:
        history_frames: how many frames before a snapshot stay, for a stream without a setting of its own.
        spans: of the messages that the log has: sequence and the seq of the last frame, in order.
    """

    def __init__(self, history_frames: int, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._history_frames = history_frames
        self._spans = deque(spans)

    def added(self, sequence: int, records: Sequence[Record]) -> int | None:
        """Note a message; return the sequence before which messages may be deleted; None: none.

        A message with a snapshot has the stream's opening too, so that a takeover needs no message before it.
        """
        snapshot_seq = None
        for record in records:
            if isinstance(record, OpenRecord):
                settings = record.opened.get("settings", {}).get("stream", {})
                self._history_frames = settings.get("history_frames", self._history_frames)
            elif isinstance(record, SnapshotRecord):
                snapshot_seq = record.seq
        last = next((record.seq for record in reversed(records) if isinstance(record, FrameRecord)), None)
        if last is not None:
            self._spans.append((sequence, last))
        if snapshot_seq is None:
            return None
        # The last frame stays: the frame_index of the next one must be above its own.
        kept, before = snapshot_seq - max(self._history_frames, 1), None
        while self._spans and self._spans[0][1] <= kept and self._spans[0][0] < sequence:
            before = self._spans.popleft()[0] + 1
        return before
