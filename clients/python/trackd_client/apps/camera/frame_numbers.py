"""The numbers of a live source's frames, with gaps where frames were lost before they could be grabbed."""

from __future__ import annotations

from collections import deque
from statistics import median

KNOWN_AFTER = 16  # intervals
WINDOW = 64  # intervals
LATE = 1.75  # periods between two frames, from which some were lost between them
MOST_LOST = 300  # in one gap; an outage is not longer in frames, but in capture time


class FrameNumbers:
    """Counts frames by their times: cameras do not number them where OpenCV could read it.

    The period is the median of the last intervals, because many cameras claim a rate that they do not have. A frame
    that comes after k periods has a number higher by k. The number is an estimate; the capture time is measured.
    """

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=WINDOW)
        self._last_s: float | None = None
        self._index = -1

    def next(self, time_s: float) -> int:
        """Return the number of the next frame, from 0.

        Args:
            time_s: of the frame, by any clock that rises.
        """
        lost = 0
        if self._last_s is not None:
            interval = time_s - self._last_s
            if len(self._intervals) >= KNOWN_AFTER and interval > 0:
                period = median(self._intervals)
                if period > 0 and interval > LATE * period:
                    lost = min(round(interval / period) - 1, MOST_LOST)
            self._intervals.append(max(0.0, interval))
        self._last_s = time_s
        self._index += 1 + lost
        return self._index
