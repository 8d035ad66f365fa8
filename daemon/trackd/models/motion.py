"""The checkpoint-free scorer: where a track should be by now, how large it is, and what it looks like.

Its logits are log-likelihood ratios, "the same track" against "something else": 0 is even odds. One reference per
live track, so the cost does not grow with the window.

Letters: n instances, M live tracks, m tracks seen.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trackd.config import StreamSettings
from trackd.models import fleet
from trackd.models.appearance import Appearance, Descriptors, describe
from trackd.models.forecast import against_rivals
from trackd.models.stream_motion import StreamMotion
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Scorer, ScoreRequest, Scores, UpdateRequest
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image

FEW_TRACKS = 24  # with more than these, the tracks that nothing can be are left out


class MotionScorer(Scorer):
    """Predicted position, size and, with images, appearance of every track."""

    boxes_from = "detection"
    is_light = True

    def __init__(self, use_vis_feats: bool = True) -> None:
        """Begin with nothing learnt.

        Args:
            use_vis_feats: with images, compare what instances look like.
        """
        self.needs_image = use_vis_feats
        self.appearance = Appearance()
        self.motion = StreamMotion()
        self._expectation: fleet.Expectation | None = None  # of the frame that is being looked at

    @property
    def batch_key(self) -> Hashable:
        return "motion"

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
        request = ScoreRequest(self, instances, features, frame_index, t_ns, window, live_slots, complete)
        return self.score_batch([request])[0]

    @classmethod
    def score_batch(cls, requests: Sequence[ScoreRequest]) -> list[Scores]:
        scorers = [cast(MotionScorer, request.scorer) for request in requests]
        queries = [
            fleet.Query(
                scorer.motion, request.instances, request.live_slots, request.frame_index, request.complete,
                prune=not request.complete and len(request.live_slots) > FEW_TRACKS,
            )
            for scorer, request in zip(scorers, requests, strict=True)
        ]  # fmt: skip
        results = []
        for scorer, request, each in zip(scorers, requests, fleet.compare(queries), strict=True):
            scorer._expectation = each.expectation
            logits, slots = each.logits, each.expectation.slots
            if request.features is not None:
                looks = scorer.appearance.compare(request.features, slots, each.pairs)
                logits += against_rivals(looks, logits, each.pairs)
            results.append(Scores(logits, slots, np.zeros(len(slots), np.int64), 2, each.pairs, one_each=True))
        return results

    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        n_born: int,
    ) -> None:
        self.update_batch([UpdateRequest(self, slots, rows, positions, instances, features, frame_index, t_ns, n_born)])

    @classmethod
    def update_batch(cls, requests: Sequence[UpdateRequest]) -> None:
        sightings: dict[int, list[fleet.Sighting]] = {}  # by the batch that they were compared in
        for request in requests:
            scorer, n_seen = cast(MotionScorer, request.scorer), len(request.slots) - request.n_born
            expectation = scorer._expectation
            if expectation is not None:
                scorer.motion.count_strangers(request.n_born, n_seen)
            if n_seen:
                assert expectation is not None, "tracks that were seen have been compared"
                slots, rows = request.slots[:n_seen], request.rows[:n_seen]
                sighting = fleet.Sighting(scorer.motion, expectation, slots, rows, request.frame_index)
                sightings.setdefault(id(expectation.batch), []).append(sighting)
        for together in sightings.values():
            fleet.correct(together)
        for request in requests:
            cast(MotionScorer, request.scorer)._finish(request)

    def _finish(self, request: UpdateRequest) -> None:
        n_born, n_seen = request.n_born, len(request.slots) - request.n_born
        if n_born:
            observed = fleet.observe([request.instances])[:, request.rows[n_seen:]]
            self.motion.begin(request.slots[n_seen:], observed, request.frame_index)
        if request.features is None:
            if n_born:
                self.appearance.forget(request.slots[n_seen:])
        elif len(request.slots):
            self.appearance.observe(request.slots, request.rows, request.features, n_born)
        self.motion.count(request.frame_index)
        self._expectation = None

    def end(self, slots: Slots) -> None:
        """Nothing: a slot's state is written anew when a track begins in it."""

    def clear(self) -> None:
        """Nothing, as `end`."""

    def snapshot(self, slots: Slots) -> State:
        return {"appearance": self.appearance.snapshot(slots), "motion": self.motion.snapshot(slots)}

    def restore(self, state: State, slots: Slots) -> None:
        self.appearance.restore(state["appearance"], slots)
        self.motion.restore(state["motion"], slots)
        self._expectation = None
