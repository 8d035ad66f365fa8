"""The places of a closed set: how many tracks may still begin, and which detections must be its objects.

Where a detection is out of reach of every missing track, it is false, or an object moved farther than ever before. With
`max_tracks` the frames that have at least as many detections as there are objects tell how often detections are false:
a false one is one too many there.

- Where none of many such frames had too many, each detection is an object, at any distance.
- Where some had too many, a detection is not taken for an object that moved farther than usual before it is seen again
  (candidates.py).
"""

from __future__ import annotations

import math

from trackd.tracking.forced import Forcing
from trackd.tracking.window import State

ENOUGH = 50.0  # full frames that show that detections are not false,
MOST_SURPLUS = 0.01  # if no larger share of them has too many
MEMORY = 2000.0  # full frames; the oldest are forgotten


class Places:
    """Counts full frames, and says which pairs may be accepted below their threshold."""

    def __init__(self) -> None:
        self.full = 0.0  # frames with as many detections as objects, or more
        self.surplus = 0.0  # those with more

    def limit(self, forcing: Forcing, n: int, live: int, objects: int) -> bool:
        """Say which pairs may be accepted below their threshold.

        Args:
            forcing: of the live tracks, changed.
            n: number of detections.
            live: number of tracks that have a place.
            objects: `max_tracks`.

        Returns:
            False if none may: there is a place for each detection, or some detections are false.
        """
        forcing.places = max(objects - live, 0)
        if forcing.places >= n:
            return False
        if self.surplus > MOST_SURPLUS * max(self.full, ENOUGH):
            return False
        if self.full >= ENOUGH and n <= objects:
            forcing.reach = math.inf
        return True

    def count(self, n: int, objects: int) -> None:
        """Count a frame of n detections."""
        if n < objects:
            return
        self.full += 1.0
        self.surplus += n > objects
        if self.full > MEMORY:
            self.surplus *= MEMORY / self.full
            self.full = MEMORY

    def snapshot(self) -> State:
        return {"full": self.full, "surplus": self.surplus}

    def restore(self, state: State) -> None:
        """Replace the counts by those of a snapshot."""
        self.full, self.surplus = float(state["full"]), float(state["surplus"])
