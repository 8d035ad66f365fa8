"""Streams of one checkpoint on a device, stepped together from this process: no sockets, no other threads."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from trackd.config import LimitsConfig, StreamSettings, check_config
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import Settlement
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.stream_state import StreamState
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.scorer import TransformerScorer
from trackd_client.detections import Detections
from trackd_client.protocol import Frame, Status
from transformer import seeded

SHAPE = (1080, 1920)
CROP = 128


def checkpoint(encoder: str, device: torch.device, dtype: torch.dtype, threads: int = 1) -> LoadedModel:
    """Return a model with seeded weights, prepared as the daemon prepares a checkpoint."""
    loaded = seeded(encoder)
    loaded.model.to(device)
    loaded.model.prepare(dtype, threads)
    return loaded


class DeviceStreams:
    """Streams of animals that walk in a noisy picture; `step` tracks the next frame of each in one step.

    Args:
        loaded: the model.
        count: streams.
        animals: in each.
        window: observations of each track.
        scorer: of each stream.
        image: of every frame; None: noise of 1080p, in host memory.
        journaling: also convert the features for the journal, as with a `state_dir`.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        count: int,
        animals: int,
        window: int,
        scorer: type[TransformerScorer] = TransformerScorer,
        image: Any = None,
        journaling: bool = False,
    ) -> None:
        tracker = {"max_tracks": animals, "window_size": window, "iou": "mult", "semantics": "2026"}
        settings = StreamSettings.of(check_config({"tracker": tracker})).changed({"crop_size": CROP - 10, "padding": 5})
        inbox = Inbox(1 << 34)
        self._runner = StepRunner(inbox, journaling)
        self._rng = np.random.default_rng(0)
        noise = self._rng.integers(0, 255, SHAPE, np.uint8)
        self._image = noise if image is None else image
        self._places = self._rng.uniform(0, min(SHAPE), (count, animals, 2))
        self._queues = [StreamQueue(f"camera-{number}", 32) for number in range(count)]
        self._seq = 0
        self.only: int | None = None  # the only stream that is stepped; None: all are
        self.ids: list[list[int]] = []  # of each stream and frame
        self.scores: list[bytes] = []  # the same
        for queue in self._queues:
            state = StreamState(
                queue.stream, 1, 0, settings, None, SHAPE, lambda wanted: scorer(loaded, wanted), LimitsConfig(),
            )  # fmt: skip
            inbox.add(queue)
            self._runner.streams[queue] = state

    def step(self) -> float:
        """Track the next frame of each stream; return the seconds that the step took."""
        self._places += self._rng.normal(0, 3, self._places.shape)
        boxes = np.concatenate([self._places - 30, self._places + 30], axis=2).astype(np.float32)
        seq, self._seq = self._seq, self._seq + 1
        work = [
            (queue, QueuedFrame(_frame(queue.stream, seq, boxes[at], self._image), time.monotonic_ns(), 0))
            for at, queue in enumerate(self._queues)
            if self.only in (None, at)
        ]
        started = time.perf_counter()
        outcomes = self._runner.run(work)
        spent = time.perf_counter() - started
        for outcome in outcomes:
            assert isinstance(outcome, Settlement)
            assert outcome.status is Status.TRACKED, outcome
            assert outcome.assignment is not None
            self.ids.append(outcome.assignment.track_ids.tolist())
            self.scores.append(outcome.assignment.track_scores.tobytes())
        return spent

    def times(self, warm_up: int, frames: int) -> np.ndarray:
        """Return the seconds of each of `frames` steps, after others."""
        for _ in range(warm_up):
            self.step()
        return np.array([self.step() for _ in range(frames)])


def _frame(stream: str, seq: int, boxes: np.ndarray, image: Any) -> Frame:
    return Frame(stream, seq, seq, seq * 33_333_333, Detections(boxes=boxes), image)
