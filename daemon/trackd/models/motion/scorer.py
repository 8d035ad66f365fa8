"""The checkpoint-free scorer: predicted position, size, pose and appearance of every track.

Its logits are log-likelihood ratios, "the same track" against "something else": 0 is even odds. Each live track has one
reference, so the cost does not grow with the window.

Letters: n instances, M live tracks, m matched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trackd.config import StreamSettings
from trackd.models.motion.appearance import Appearance, Descriptors, describe, relative_to_best
from trackd.models.motion.filter_bank import FilterBank
from trackd.models.motion.merged_boxes import MAX_MISSED
from trackd.models.motion.pose import Poses
from trackd.models.motion.predict import CAUTION
from trackd.tracking.instances import Instances
from trackd.tracking.merging import Merged
from trackd.tracking.scorer import Matches, Query, Scorer, Scores
from trackd.tracking.window import Slots, State
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage


class MotionScorer(Scorer):
    """Predicted position and size of every track, with keypoints its pose, with images its appearance."""

    boxes_from = "detection"
    is_light = True
    learns_births = True
    follows_merges = True

    def __init__(self, use_vis_feats: bool = True, use_scores: bool = True) -> None:
        """Start without tracks and statistics.

        Args:
            use_vis_feats: with images, compare the appearance of instances.
            use_scores: learn what the detector's scores say.
        """
        self.needs_image = use_vis_feats
        self.appearance = Appearance()
        self.poses = Poses()
        self.motion = FilterBank(use_scores)

    @property
    def closed(self) -> float:
        return self.motion.closed

    def configure(self, settings: StreamSettings) -> None:
        self.needs_image = settings.tracker.use_vis_feats
        self.motion.use_scores = settings.tracker.use_scores

    def encode(self, image: Image | EncodedImage | None, instances: Instances) -> Descriptors | None:
        if not self.needs_image or image is None:
            return None
        return describe(cast(Image, image), instances)  # files are decoded, without `decodes_jpeg`

    def pack(self, features: Any) -> Callable[[], State | None]:
        return lambda: None if features is None else {"values": features.values, "there": features.valid}

    def unpack(self, packed: State | None) -> Descriptors | None:
        return None if packed is None else Descriptors(packed["values"], packed["there"])

    def score(self, query: Query) -> Scores:
        prune = not (query.complete or query.every_track or query.merged is not None)
        instances = query.instances if query.instances.keypoints is None else self.poses.placed(query.instances)
        logits, slots, pairs = self.motion.compare(
            instances, query.live_slots, query.frame_index, query.complete, prune, query.merged
        )
        if query.instances.keypoints is not None:
            per_step = self.motion.indices_per_step(query.frame_index)
            self.poses.weigh(logits, pairs, query.instances, slots, query.frame_index, per_step)
        if query.features is not None:
            appearance = self.appearance.compare(query.features, slots, pairs)
            logits += relative_to_best(appearance, logits, pairs)
        return Scores(logits, slots, np.zeros(len(slots), np.int64), 2, pairs, CAUTION, True)

    def merge(self, query: Query, matches: Matches, merged: Merged, missed: NDArray[np.int64]) -> None:
        if not merged.count and not self.motion.may_merge(matches.slots, matches.rows, matches.unmatched, missed):
            return
        frame, merging = self.motion.frame(), self.motion.merging
        if merged.count:
            slots = merged.members()[0]
            ratios = None if query.features is None else self.appearance.compare(query.features, slots)
            merging.separate(frame, matches, merged, ratios)
        gone = np.setdiff1d(query.live_slots[missed[query.live_slots] <= MAX_MISSED], matches.slots)
        if merged.count:
            gone = gone[merged.hosts_of(gone) < 0]
        if len(gone):
            merging.find(frame, matches, merged, gone)
        if merged.count:
            merging.end(merged, matches, missed)
            hidden, rows = merged.in_boxes(matches.slots, matches.rows)
            if len(hidden):
                matches.hidden, matches.hidden_rows = hidden, rows

    def jumps(self, slots: Slots, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.motion.jumps(slots, rows)

    def doubtful(self, query: Query, rows: NDArray[np.intp]) -> NDArray[np.bool_] | None:
        return self.motion.doubtful(query.instances, rows, query.frame_index)

    def update(self, query: Query, matches: Matches) -> None:
        n_new, slots, rows, doubtful = matches.n_new, matches.slots, matches.rows, matches.doubtful
        n_matched = len(slots) - n_new
        if matches.hidden is not None and matches.hidden_rows is not None:
            hosts = slots[np.searchsorted(rows[:n_matched], matches.hidden_rows)]
            self.motion.follow(matches.hidden, matches.hidden_rows, hosts, query.frame_index)
            alone = ~np.isin(slots, hosts)
            slots, rows = slots[alone], rows[alone]
            n_matched = len(slots) - n_new
        unowned = rows
        if len(matches.unmatched) > n_new:  # some are doubtful, or `max_tracks` leaves no place
            unowned = np.concatenate([rows, np.setdiff1d(matches.unmatched, rows[n_matched:])])
        self.motion.update(slots[:n_matched], unowned, query.instances, query.frame_index)
        if doubtful is not None or self.motion.has_doubtful:
            self.motion.doubt(rows[:0] if doubtful is None else doubtful, query.instances, query.frame_index)
        if n_new:
            instances = query.instances if query.instances.keypoints is None else self.poses.placed(query.instances)
            self.motion.begin(slots[n_matched:], rows[n_matched:], instances, query.frame_index)
        if query.instances.keypoints is not None:
            per_step = self.motion.indices_per_step(query.frame_index)
            self.poses.update(slots, rows, n_new, query.instances, query.frame_index, per_step)
        elif n_new and self.poses.n_nodes:
            self.poses.forget(slots[n_matched:])
        self.motion.end_frame(query.frame_index)
        if query.features is not None and len(slots):
            self.appearance.update(slots, rows, query.features, n_new)
        elif n_new and query.features is None:
            self.appearance.forget(slots[n_matched:])

    def end(self, slots: Slots) -> None:
        """Do nothing: a new track overwrites the state of its slot."""

    def clear(self) -> None:
        """Do nothing, as `end`."""

    def snapshot(self, slots: Slots) -> State:
        state = {"appearance": self.appearance.snapshot(slots), "motion": self.motion.snapshot(slots)}
        if self.poses.n_nodes > 1:
            state["poses"] = self.poses.snapshot(slots)
        return state

    def restore(self, state: State, slots: Slots) -> None:
        self.appearance.restore(state["appearance"], slots)
        self.motion.restore(state["motion"], slots)
        self.poses.restore(state.get("poses"), slots)  # not in snapshots of earlier versions, nor without poses
