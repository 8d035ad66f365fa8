"""A stream of three objects whose number is known, for tests of `max_tracks`."""

from __future__ import annotations

import numpy as np

from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

SIDE = 40.0
HOMES = ((100, 100), (900, 100), (100, 900))
FALSE, FAR = (500, 500), (900, 1500)


class Stream:
    """A tracker of three objects; boxes are given by their centres."""

    def __init__(self, max_active_tracks: int = 4096, **settings: int) -> None:
        config = TrackerConfig(**{"max_tracks": 3, **settings})
        self.tracker = Tracker(config, MotionScorer(), max_active_tracks)
        self.index = 0

    def frame(self, *centres: tuple[float, float]) -> Assignment:
        middle = np.array(centres, np.float32).reshape(-1, 2)
        boxes = np.concatenate([middle - SIDE / 2, middle + SIDE / 2], axis=1)
        instances = Instances.of(Detections(boxes=boxes), LiveDataset())
        found = self.tracker.step(self.index, self.index * 40_000_000, instances, None, self.index)
        self.index += 1
        return found

    def frames(self, count: int, *centres: tuple[float, float]) -> Assignment:
        for _ in range(count):
            found = self.frame(*centres)
        return found


def ids(found: Assignment) -> list[int]:
    return found.track_ids.tolist()
