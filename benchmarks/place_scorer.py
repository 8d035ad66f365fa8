"""A scorer for a picture: it compares places with every observation in the window, as a transformer does."""

from __future__ import annotations

from typing import Any

import numpy as np

from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Matches, Query, Scorer, Scores
from trackd.tracking.window import Slots, State

NEAR_LOGIT = 6.0  # at the same place
LOGITS_PER_PX = 0.125


class PlaceScorer(Scorer):
    """One reference per observation: the logit falls with the distance of the centres. It has no state of its own."""

    def encode(self, image: Any, instances: Instances) -> None:
        return None

    def score(self, query: Query) -> Scores:
        window, live = query.window, query.live_slots
        kept = window.frame_index[live] >= 0  # (M, W)
        boxes = window.boxes[live][kept][:, 0]
        frames, rank = np.unique(window.frame_index[live][kept], return_inverse=True)
        centres = (query.instances.extents[:, :2] + query.instances.extents[:, 2:]) / 2
        distance = np.linalg.norm(centres[:, None] - ((boxes[:, :2] + boxes[:, 2:]) / 2)[None], axis=2)
        slots = np.repeat(live, kept.sum(axis=1))
        logits = (NEAR_LOGIT - LOGITS_PER_PX * distance).astype(np.float32)
        order = np.argsort(rank, kind="stable")  # the oldest frame first
        return Scores(logits[:, order], slots[order], rank[order].astype(np.int64), len(frames) + 1)

    def update(self, query: Query, matches: Matches) -> None:
        pass

    def end(self, slots: Slots) -> None:
        pass

    def clear(self) -> None:
        pass

    def snapshot(self, slots: Slots) -> State:
        return {}

    def restore(self, state: State, slots: Slots) -> None:
        pass
