"""How long a sender that found the daemon's queue full may stay away before it looks for room again."""

from __future__ import annotations

_SHARE = 4  # it comes back when this part of the queue, a quarter, should be free
_LEAST_FRAMES = 2 * _SHARE  # of a queue where that is worth it
MOST_S = 0.05


class Pace:
    """Of one stream.

    To be woken for every frame that settles, to send one more, costs the client more than the frame itself does. The
    queue can be refilled in portions as well: the daemon does not run dry as long as most of it is full.

    A sender that is held back goes at the daemon's pace, so that is the time from one full queue to the next by the
    frames sent in between.
    """

    def __init__(self, now: float, next_seq: int) -> None:
        self._full_at = now
        self._full_seq = next_seq

    def pause_s(self, now: float, next_seq: int, unacked: int) -> float:
        """The queue was found full: how long until the next look.

        Args:
            now: of a clock that does not go back, in seconds.
            next_seq: of the frame that there is no room for.
            unacked: how many frames are in the queue.
        """
        sent, took_s = next_seq - self._full_seq, now - self._full_at
        self._full_at, self._full_seq = now, next_seq
        if sent <= 0 or unacked < _LEAST_FRAMES:
            return 0.0
        return min(MOST_S, unacked // _SHARE * took_s / sent)
