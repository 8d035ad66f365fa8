"""A stream's state in the engine that tracks drawn animals, and learns what they look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from meeting_animals import drawn

from trackd.config import Config, LimitsConfig, StreamSettings
from trackd.engine.outcome import frame_record
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.step import FrameStep, assign, encode, prepare, score
from trackd.engine.stream_state import StreamState
from trackd.models.motion.scorer import MotionScorer
from trackd.store.looks_writer import PendingLooks
from trackd.store.records import FrameRecord
from trackd_client.protocol import Frame


def looks(n: int, seed: int = 0) -> np.ndarray:
    """Patterns (n, 6, 6) of dark and light fields."""
    return np.random.default_rng(seed).integers(40, 220, (n, 6, 6)).astype(np.uint8)


@dataclass
class Run:
    ids: list[dict[int, int]] = field(default_factory=list)  # by animal, of each frame
    events: list[dict[str, Any]] = field(default_factory=list)
    corrected: list[int] = field(default_factory=list)
    assignments: list[Any] = field(default_factory=list)
    records: list[FrameRecord] = field(default_factory=list)
    looks: list[PendingLooks] = field(default_factory=list)  # that are due


class Scene:
    def __init__(self, patterns: np.ndarray, seed: int = 1, with_images: bool = True, **tracker: Any) -> None:
        settings = StreamSettings.of(Config()).changed({
            "use_vis_feats": False, "learn_identities": True, "max_tracks": 3, **tracker,
        })  # fmt: skip
        self.state = StreamState("cam", 1, 0, settings, None, None, lambda _: MotionScorer(False), LimitsConfig())
        self.queue = StreamQueue("cam", 1)
        self.patterns = patterns
        self.random = np.random.default_rng(seed)
        self.with_images = with_images
        self.last = -1  # the seq of the last frame

    def run(self, first: int, last: int) -> Run:
        run = Run()
        for index in range(first, last):
            self.last = index
            image, detections, shown = drawn(index, self.random, self.patterns)
            frame = Frame("cam", index, index, round(index / 30 * 1e9), detections, image if self.with_images else None)
            step = FrameStep(self.queue, QueuedFrame(frame, 0, 0), self.state)
            for function in (prepare, encode, score, assign):
                function([step])
            assert step.error is None, step.error
            assert step.instances is not None
            assert step.assignment is not None
            run.records.append(frame_record("cam", 1, frame, step.instances, None, step.assignment))
            if step.looks is not None:
                run.looks.append(step.looks)
            run.assignments.append(step.assignment)
            run.ids.append(dict(zip(shown, step.assignment.track_ids.tolist(), strict=True)))
            run.events += step.assignment.identity_events
            if step.corrected:
                run.corrected.append(index)
        return run
