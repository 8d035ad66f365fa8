"""Which messages of a stream's log are kept: those of its history, and all that a takeover needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from trackd.store.records import FrameRecord, OpenRecord, Record, SnapshotRecord

Spans = Sequence[tuple[int, int]]  # of messages with frames: sequence and the seq of the last frame, in order


class RetainedMessages:
    """The messages of one stream's log that are not deleted yet.

    Args:
        history_frames: how many frames before a snapshot stay, for a stream without a setting of its own.
        queue_depth: how many frames of a stream may be without an ack, the same.
        spans: of the messages that the log has.
    """

    def __init__(self, history_frames: int, queue_depth: int, spans: Spans = ()) -> None:
        self._history_frames = history_frames
        self._queue_depth = queue_depth
        self._spans = deque(spans)

    def note_opening(self, record: OpenRecord) -> None:
        """Take over a stream's own settings."""
        settings = record.opened.get("settings", {}).get("stream", {})
        self._history_frames = settings.get("history_frames", self._history_frames)
        self._queue_depth = settings.get("queue_depth", self._queue_depth)

    def add_older(self, spans: Spans) -> None:
        """Add messages before the first one."""
        self._spans.extendleft(reversed(spans))

    def base_of(self, snapshot_seq: int) -> int:
        """Return the sequence from which a takeover must read, if a snapshot is appended now; 0: from that message.

        The frames that a client may send again are read too: their acks may be lost, and they are answered as they
        were settled. Of them is the last frame, whose frame_index the next one must exceed.
        """
        base = 0
        for sequence, last_seq in reversed(self._spans):
            if last_seq <= snapshot_seq - self._queue_depth:
                break
            base = sequence
        return base

    def added(self, sequence: int, records: Sequence[Record]) -> int | None:
        """Note a message; return the sequence before which messages may be deleted; None: none.

        A message with a snapshot has the stream's opening too, so that a takeover needs no message before it.
        """
        snapshot_seq = None
        for record in records:
            if isinstance(record, OpenRecord):
                self.note_opening(record)
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
