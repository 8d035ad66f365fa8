"""A scorer with given logits, and a scene that makes frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trackd.config import TrackerConfig
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Matches, Query, Scorer, Scores
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

DATASET = LiveDataset()
SURE, NEVER = 8.0, -12.0


class ScriptedScorer(Scorer):
    """One reference per live track; `logits` maps (instance row, track id) to a logit, `default` elsewhere."""

    def __init__(self) -> None:
        self.logits: dict[tuple[int, int], float] = {}
        self.default = NEVER
        self.ended: list[int] = []
        self.resized: np.ndarray | None = None

    def encode(self, image: Any, instances: Instances) -> None:
        return None

    def score(self, query: Query) -> Scores:
        live_slots = query.live_slots
        table = np.full((len(query.instances), len(live_slots)), self.default, np.float32)
        for (row, track), logit in self.logits.items():
            table[row, query.window.ids[live_slots] == track] = logit
        return Scores(table, live_slots, np.zeros(len(live_slots), np.int64), 2)

    def update(self, query: Query, matches: Matches) -> None:
        assert matches.positions is not None
        assert len(matches.slots) == len(matches.rows) == len(matches.positions) >= matches.n_new

    def end(self, slots) -> None:
        self.ended.extend(slots.tolist())

    def clear(self) -> None:
        self.ended.append(-1)

    def resize(self, source) -> None:
        self.resized = source

    def snapshot(self, slots) -> dict[str, Any]:
        return {"default": self.default}

    def restore(self, state, slots) -> None:
        self.default = state["default"]


class Scene:
    """A tracker with a scripted scorer; each `frame` states which instance belongs to which track."""

    def __init__(self, max_active_tracks: int = 64, clip_length: int | None = None, **settings: Any) -> None:
        self.scorer = ScriptedScorer()
        self.tracker = Tracker(TrackerConfig(**settings), self.scorer, max_active_tracks, clip_length)
        self.next_index = 0

    def frame(
        self,
        n: int,
        same: dict[int, int] | None = None,
        *,
        index: int | None = None,
        t_s: float | None = None,
        logits: dict[tuple[int, int], float] | None = None,
        scores: Sequence[float] | None = None,
        boxes: np.ndarray | None = None,
        position: int | None = None,
    ) -> Assignment:
        index = self.next_index if index is None else index
        self.next_index = index + 1
        self.scorer.logits = dict.fromkeys((same or {}).items(), SURE) | (logits or {})
        found = boxes_of(n) if boxes is None else boxes
        instances = Instances.of(
            Detections(boxes=found, scores=None if scores is None else np.asarray(scores, np.float32)), DATASET
        )
        t_ns = round(1e9 * (index / 25 if t_s is None else t_s))
        result = self.tracker.step(index, t_ns, instances, None, index if position is None else position)
        self.tracker.check_integrity()
        return result


def boxes_of(n: int) -> np.ndarray:
    """Return n boxes of 20 by 10 pixels, 100 pixels apart."""
    left = 100.0 * np.arange(n)[:, None]
    return (left * [1, 0, 1, 0] + [0, 0, 20, 10]).astype(np.float32)
