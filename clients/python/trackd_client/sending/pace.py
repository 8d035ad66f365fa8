"""The pause of a sender that finds the daemon's queue full."""

from __future__ import annotations

_SHARE = 4  # the pause ends when a quarter of the queue should be free
_MIN_FRAMES = 2 * _SHARE  # in the queue; below this a pause saves nothing
MAX_PAUSE_S = 0.05


class Pace:
    """The sending rate of one stream.

    A wake-up for every settled frame, to send one more, costs the client more than the frame itself. The sender can
    refill the queue in portions instead: the daemon stays busy as long as most of the queue is full.

    A blocked sender sends at the daemon's rate. The time per frame is therefore the time from one full queue to the
    next, divided by the number of frames sent between them.
    """

    def __init__(self, now: float, next_seq: int) -> None:
        self._full_at = now
        self._full_seq = next_seq

    def pause_s(self, now: float, next_seq: int, unacked: int) -> float:
        """Return how long to wait, now that the queue is full.

        Args:
            now: the time of a monotonic clock, seconds.
            next_seq: the seq of the frame that does not fit into the queue.
            unacked: how many frames are in the queue.
        """
        sent, took_s = next_seq - self._full_seq, now - self._full_at
        self._full_at, self._full_seq = now, next_seq
        if sent <= 0 or unacked < _MIN_FRAMES:
            return 0.0
        return min(MAX_PAUSE_S, unacked // _SHARE * took_s / sent)
