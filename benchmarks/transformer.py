"""The time of one frame with a checkpoint: medians in ms, one thread, on the CPU.

    python benchmarks/transformer.py [N ...]

The settings of DREEM's own figures: a full window of 8 (9 N tokens), d_model 128, 1 head, 1 + 1 layers, learned
embeddings, crops of 128 px and 3 channels, iou mult, max_center_dist, max_tracks N. `forward` is the model's
pass alone, on the tokens that `score` collects; `step` is everything but the encoding.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from trackd.config import StreamSettings, check_config
from trackd.models.architecture import Architecture
from trackd.models.transformer.gtr import GlobalTrackingTransformer
from trackd.models.transformer.loaded_model import LoadedModel, LoadReport
from trackd.models.transformer.scorer import TransformerScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections

MODEL: dict[str, Any] = {
    "d_model": 128,
    "nhead": 1,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "embedding_meta": {"pos": {"mode": "learned", "emb_num": 16}, "temp": {"mode": "learned", "emb_num": 16}},
}
ENCODERS = {"descriptor": {"encoder_type": "descriptor", "ndim": 5}, "resnet18": {"model_name": "resnet18"}}
DREEM = {("descriptor", 10): 14.5, ("descriptor", 50): 56.9, ("resnet18", 10): 137.9, ("resnet18", 50): 786.8}
SIDE = 1024
WARM_UP = 12


def seeded(encoder: str) -> LoadedModel:
    """Return a model with seeded weights, as after the load of a checkpoint."""
    torch.manual_seed(0)
    architecture = Architecture.from_model_cfg({**MODEL, "encoder_cfg": ENCODERS[encoder]})
    model = GlobalTrackingTransformer(architecture)
    model.fold()
    return LoadedModel("bench", model, architecture, Path("bench"), LoadReport((), ()))


def timed_scorer(times_ms: list[float]) -> type[TransformerScorer]:
    """Return the scorer, which also appends the time of each `score_batch`."""

    class Timed(TransformerScorer):
        @classmethod
        def score_batch(cls, scorers: Sequence[TransformerScorer], queries: Sequence[Query]) -> list[Scores]:
            started = time.perf_counter()
            found = super().score_batch(scorers, queries)
            times_ms.append(1e3 * (time.perf_counter() - started))
            return found

    return Timed


def measure(encoder: str, n: int, frames: int) -> dict[str, float]:
    """Return the median time of each part of a frame, ms."""
    loaded = seeded(encoder)
    tracker_cfg = {"iou": "mult", "semantics": "2026", "max_center_dist": 60.0, "max_tracks": n}
    settings = StreamSettings.of(check_config({"tracker": tracker_cfg})).changed({"crop_size": 118, "padding": 5})
    times: dict[str, list[float]] = defaultdict(list)
    _time(times, "associate_batch", loaded.model)
    scorer = timed_scorer(times["score"])(loaded, settings)
    tracker = Tracker(settings.tracker, scorer)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (SIDE, SIDE), np.uint8)
    places = rng.uniform(0, SIDE, (n, 2))
    for number in range(WARM_UP + frames):
        places += rng.normal(0, 3, (n, 2))
        detections = Detections(boxes=np.concatenate([places - 30, places + 30], axis=1).astype(np.float32))
        started = time.perf_counter()
        instances = Instances.of(detections, settings.dataset, None, "crop", (SIDE, SIDE))
        features = scorer.encode(image, instances)
        encoded = time.perf_counter()
        tracker.step(number, number, instances, features)
        ended = time.perf_counter()
        times["encode"].append(1e3 * (encoded - started))
        times["step"].append(1e3 * (ended - encoded))
        times["frame"].append(1e3 * (ended - started))
    return {name: float(np.median(values[-frames:])) for name, values in times.items()}


def _time(times: dict[str, list[float]], name: str, owner: Any) -> None:
    """Replace a method by one that also appends the time of each call, ms."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = method(*args, **kwargs)
        times[name].append(1e3 * (time.perf_counter() - started))
        return result

    setattr(owner, name, timed)


def main() -> None:
    torch.set_num_threads(1)
    counts = [int(argument) for argument in sys.argv[1:]] or [10, 50]
    print("encoder          N   frame  encode    step   score    forward   DREEM's frame   (ms)")
    for encoder in ENCODERS:
        for n in counts:
            row = measure(encoder, n, 10 if encoder == "resnet18" else 60)
            parts = "".join(f"{row[name]:8.2f}" for name in ("frame", "encode", "step", "score"))
            print(f"{encoder:12s} {n:5d}{parts} {row['associate_batch']:10.2f} {DREEM.get((encoder, n), np.nan):15.1f}")


if __name__ == "__main__":
    main()
