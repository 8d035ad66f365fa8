"""The transformer's step and torch's own layers of the same shapes: medians of CPU time in ms, one thread.

    python benchmarks/layers.py

d_model 128, 1 head, 1 + 1 layers. `score` is a whole step without the visual encoder: it collects the window's
references and boxes, runs the forward pass and copies the logits to the host. `torch` is `nn.TransformerEncoderLayer`
over all tokens, `nn.TransformerDecoderLayer` for the queries and two linear layers for each side of the product, in
inference mode and without embeddings or padding. The two alternate, so that other load slows both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn

from targets import Target
from trackd.config import StreamSettings, check_config
from trackd.models.architecture import Architecture
from trackd.models.transformer.gtr import GlobalTrackingTransformer
from trackd.models.transformer.loaded_model import LoadedModel, LoadReport
from trackd.models.transformer.scorer import TransformerScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections

D = 128
SIDE = 1024
EMBEDDING = {"mode": "learned", "emb_num": 16}
MODEL = {
    "d_model": D,
    "nhead": 1,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "embedding_meta": {"pos": EMBEDDING, "temp": EMBEDDING},
    "encoder_cfg": {"model_name": "resnet18"},
}
STREAMS = 8


class TorchLayers(nn.Module):
    """Torch's layers for the same arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(D, 1, D, 0.0, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(D, 1, D, 0.0, batch_first=True)
        self.query, self.key = (nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)) for _ in range(2))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, tokens: Tensor, n_query: int) -> Tensor:
        """(1, N, D) -> (1, Q, N)."""
        memory = self.encoder(tokens)
        queries = self.decoder(tokens[:, -n_query:], memory)
        return self.query(queries) @ self.key(memory).transpose(1, 2)


def load() -> LoadedModel:
    """A model with seeded weights."""
    torch.manual_seed(0)
    architecture = Architecture.from_model_cfg(MODEL)
    model = GlobalTrackingTransformer(architecture)
    return LoadedModel("bench", model, architecture, Path("bench"), LoadReport((), ()))


def full_window(loaded: LoadedModel, n: int, window_size: int, seed: int = 0) -> tuple[TransformerScorer, Query]:
    """Return the request to score n instances against n tracks, which are observed in every frame of the window."""
    tree = {"tracker": {"window_size": window_size, "max_tracks": n, "overlap_thresh": 0.0}}
    settings = StreamSettings.of(check_config(tree))
    tracker = Tracker(settings.tracker, TransformerScorer(loaded, settings))
    rng = np.random.default_rng(seed)
    centres = rng.uniform(50, SIDE - 50, (n, 2))
    for number in range(window_size + 1):
        centres += rng.normal(0, 3, (n, 2))
        boxes = np.concatenate([centres - 30, centres + 30], axis=1).astype(np.float32)
        instances = Instances.of(Detections(boxes=boxes), settings.dataset, None, "crop", (SIDE, SIDE))
        features = torch.from_numpy(rng.normal(0, D**-0.5, (n, D)).astype(np.float32))
        if number < window_size:
            tracker.step(number, number, instances, features, number)
    window = tracker.window
    assert (window.frame_index[window.live] >= 0).sum() == n * window_size
    query = Query(instances, features, number, number, window, window.live, True, np.arange(n))
    assert isinstance(tracker.scorer, TransformerScorer)
    return tracker.scorer, query


def score_batch(requests: list[tuple[TransformerScorer, Query]]) -> list[Scores]:
    return TransformerScorer.score_batch([scorer for scorer, _ in requests], [query for _, query in requests])


def alternate(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run the functions in turn; return the median CPU time of each, ms."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.thread_time()
            work()
            times[name].append(1e3 * (time.thread_time() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


def arithmetic(n: int, window_size: int) -> float:
    """Return the number of multiplications and additions of a step, millions."""
    tokens = (window_size + 1) * n
    linear = 2 * D * D * (10 * tokens + 6 * n)  # rows through a D x D matrix: 6 + 2 + 2 and 4 + 2
    attention = 4 * D * tokens * tokens + 4 * D * tokens * n
    return (linear + attention + 2 * D * tokens * n) / 1e6


def measure(loaded: LoadedModel, layers: TorchLayers, n: int, window_size: int, repeats: int) -> tuple[float, float]:
    """Return the CPU time of `score` and of torch's layers, ms."""
    request = full_window(loaded, n, window_size)
    tokens = torch.randn(1, (window_size + 1) * n, D)
    times = alternate({"score": lambda: score_batch([request]), "torch": lambda: layers(tokens, n)}, repeats)
    return times["score"], times["torch"]


def measure_batch(loaded: LoadedModel, n: int, repeats: int) -> tuple[float, float]:
    """Return the CPU time to score several streams one by one, and in one batch, ms."""
    requests = [full_window(loaded, n, 8, seed) for seed in range(STREAMS)]
    times = alternate(
        {
            "alone": lambda: [score_batch([request]) for request in requests],
            "together": lambda: score_batch(requests),
        },
        repeats,
    )
    return times["alone"], times["together"]


def main() -> None:
    torch.set_num_threads(1)
    loaded, layers = load(), TorchLayers()
    print("window 8         N    score    torch   ratio   (ms)")
    ratios = []
    for n in (10, 50, 100):
        score, bare = measure(loaded, layers, n, 8, max(15, 1500 // n))
        ratios.append(score / bare)
        print(f"{n:18d} {score:8.2f} {bare:8.2f} {ratios[-1]:7.2f}")
    print()
    print("N 50        window    score    torch   ratio   Mflop   (ms)")
    rows = []
    for window_size, repeats in ((8, 30), (64, 5)):
        score, bare = measure(loaded, layers, 50, window_size, repeats)
        rows.append((score, bare, arithmetic(50, window_size)))
        print(f"{window_size:18d} {score:8.2f} {bare:8.2f} {score / bare:7.2f} {rows[-1][2]:7.0f}")
    grown = [large / small for small, large in zip(*rows, strict=True)]
    print(f"64 / 8             {grown[0]:8.1f} {grown[1]:8.1f} {'':7} {grown[2]:7.1f}")
    print()
    print(f"{STREAMS} streams        N    alone together   ratio   (ms for all)")
    for n in (2, 5, 10, 50):
        alone, together = measure_batch(loaded, n, max(5, 200 // n))
        print(f"{n:18d} {alone:8.2f} {together:8.2f} {together / alone:7.2f}")
    worst = max(ratios)
    print(
        Target("transformer step, N 10 to 100, relative to torch's own layers", "≤ 1.5", f"{worst:.2f}", worst <= 1.5)
    )
    print(
        Target(
            "transformer step, window 64 relative to window 8, N 50",
            f"≤ {grown[2]:.1f}, the ratio of the operations",
            f"{grown[0]:.1f}",
            grown[0] <= grown[2],
        )
    )


if __name__ == "__main__":
    main()
