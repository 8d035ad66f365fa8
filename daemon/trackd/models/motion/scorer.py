"""The checkpoint-free scorer: where a track should be by now, how large it is, and what it looks like.

Its logits are log-likelihood ratios, "the same track" against "something else": 0 is even odds. One reference per
live track, so the cost does not grow with the window.

Letters: n instances, M live tracks, m tracks seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.config import StreamSettings
from trackd.models.motion.appearance import Appearance, Descriptors, against_rivals, describe
from trackd.models.motion.filter_bank import StreamMotion
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Scorer, Scores
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image


class MotionScorer(Scorer):
    """Predicted position, size and, with images, appearance of every track."""

    boxes_from = "detection"
    is_light = True
    batch_key = "motion"

    def __init__(self, use_vis_feats: bool = True) -> None:
        """Begin with nothing learnt.

        Args:
            use_vis_feats: with images, compare what instances look like.
        """
        self.needs_image = use_vis_feats
        self.appearance = Appearance()
        self.motion = StreamMotion()

    def configure(self, settings: StreamSettings) -> None:
        self.needs_image = settings.tracker.use_vis_feats

    def encode(self, image: Image | None, instances: Instances) -> Descriptors | None:
        if not self.needs_image or image is None:
            return None
        return describe(image, instances)

    def pack(self, features: Any) -> State | None:
        return None if features is None else {"values": features.values, "there": features.there}

    def unpack(self, packed: State | None) -> Descriptors | None:
        return None if packed is None else Descriptors(packed["values"], packed["there"])

    def score(
        self,
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        window: RollingWindow,
        live_slots: Slots,
        complete: bool,
    ) -> Scores:
        logits, slots, pairs = self.motion.compare(instances, live_slots, frame_index, complete)
        if features is not None:
            looks = self.appearance.compare(features, slots, pairs)
            logits += against_rivals(looks, logits, pairs)
        return Scores(logits, slots, np.zeros(len(slots), np.int64), 2, pairs, one_each=True)

    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        n_new: int,
    ) -> None:
        n_seen = len(slots) - n_new
        self.motion.correct(slots[:n_seen], rows[:n_seen], n_new, frame_index)
        if n_new:
            self.motion.begin(slots[n_seen:], rows[n_seen:], instances, frame_index)
        self.motion.end_frame(frame_index)
        if features is not None and len(slots):
            self.appearance.observe(slots, rows, features, n_new)
        elif n_new and features is None:
            self.appearance.forget(slots[n_seen:])

    def end(self, slots: Slots) -> None:
        """Nothing: a slot's state is written anew when a track begins in it."""

    def clear(self) -> None:
        """Nothing, as `end`."""

    def snapshot(self, slots: Slots) -> State:
        return {"appearance": self.appearance.snapshot(slots), "motion": self.motion.snapshot(slots)}

    def restore(self, state: State, slots: Slots) -> None:
        self.appearance.restore(state["appearance"], slots)
        self.motion.restore(state["motion"], slots)
