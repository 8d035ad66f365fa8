"""The visual encoder and torch's own modes: 10 crops of 128 px through resnet18 on the CPU, medians in ms.

    python benchmarks/encoder.py

`trackd` is `encode_crops` with the daemon's settings for this machine. torch's modes run the unchanged network: float32
or bfloat16, contiguous or channels last, with 1 or 2 of torch's threads, batch norms folded or not. All modes
alternate, so that other load slows all of them; `cpu` is the time of all threads together. On a processor without
bfloat16 that mode is slow, so it runs only once after its first run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from figures import Figure
from targets import Target
from trackd.models.architecture import Architecture
from trackd.models.checkpoint.device import resolve_encoder_dtype, resolve_encoder_threads
from trackd.models.encoder.resnet import ResNetEncoder
from trackd.models.transformer.gtr import GlobalTrackingTransformer

CROPS, SIDE = 10, 128
REPEATS = 9
_PAUSE_S = 0.05  # torch's threads spin for a while after the mode before
CPU = torch.device("cpu")


@dataclass
class Mode:
    """A way to run the network."""

    name: str
    run: Callable[[], Tensor]
    repeats: int
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def measure(self) -> Tensor:
        time.sleep(_PAUSE_S)
        wall, cpu = time.perf_counter(), time.process_time()
        features = self.run()
        self.wall_ms.append(1e3 * (time.perf_counter() - wall))
        self.cpu_ms.append(1e3 * (time.process_time() - cpu))
        return features

    @property
    def median_ms(self) -> float:
        return float(np.median(self.wall_ms[1:]))  # the first run allocates


def network(folded: bool = False) -> GlobalTrackingTransformer:
    """Return the model with seeded weights."""
    torch.manual_seed(0)
    cfg = {"d_model": 128, "nhead": 1, "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = GlobalTrackingTransformer(Architecture.from_model_cfg({**cfg, "encoder_cfg": {"model_name": "resnet18"}}))
    if folded:
        model.fold()
    return model


def torch_modes(crops: Tensor, native: bool) -> list[Mode]:
    """Return torch's own modes."""
    modes = []
    for dtype, layout, folded, threads in product(
        (torch.float32, torch.bfloat16), (torch.contiguous_format, torch.channels_last), (False, True), (1, 2)
    ):
        encoder = network(folded).visual_encoder
        assert isinstance(encoder, ResNetEncoder)
        extract = encoder.feature_extractor.to(dtype).to(memory_format=layout)
        given = crops.to(dtype, memory_format=layout)
        name = f"{str(dtype).removeprefix('torch.')}, {str(layout).removeprefix('torch.')}"
        quick = native or dtype is torch.float32
        if not quick and (layout is torch.contiguous_format or folded or threads > 1):
            continue  # emulated: one mode is enough
        modes.append(
            Mode(
                f"{name}{', folded' if folded else ''}, {threads} thread{'s' * (threads > 1)}",
                lambda extract=extract, head=encoder.out_layer, given=given, threads=threads: _run_network(
                    extract, head, given, threads
                ),
                REPEATS if quick else 2,
            )
        )
    return modes


def _run_network(extract: nn.Module, head: nn.Module, crops: Tensor, threads: int) -> Tensor:
    torch.set_num_threads(threads)
    with torch.inference_mode():
        features: Tensor = nn.functional.normalize(head(extract(crops).float()))
    torch.set_num_threads(1)
    return features


def main() -> None:
    torch.set_num_threads(1)
    crops = torch.rand(CROPS, 3, SIDE, SIDE)
    dtype, threads = resolve_encoder_dtype("auto", CPU), resolve_encoder_threads(None, CPU)
    model, single = network(folded=True), network(folded=True)
    model.prepare(dtype, threads)
    single.prepare(dtype, 1)
    ours = Mode(f"trackd: {dtype}, {threads} threads", lambda: model.encode_crops(crops), REPEATS)
    alone = Mode(f"trackd: {dtype}, 1 thread", lambda: single.encode_crops(crops), REPEATS)
    others = torch_modes(crops, native=dtype is torch.bfloat16)
    wanted = network().encode_crops(crops)
    errors = {}
    for number in range(REPEATS):
        for mode in (*others, ours, alone):
            if number < mode.repeats:
                errors[mode.name] = float((mode.measure() - wanted).abs().max())
    print(f"{CROPS} crops of {SIDE} px{'':31} wall      cpu    error")
    for mode in (*others, ours, alone):
        print(f"{mode.name:48s} {mode.median_ms:8.1f} {np.median(mode.cpu_ms[1:]):8.1f} {errors[mode.name]:8.1e}")
    best = min(others, key=lambda mode: mode.median_ms)
    ratio = ours.median_ms / best.median_ms
    print(f"best of torch's: {best.name}")
    print(Figure.of("visual encoder, 10 crops", ours.wall_ms[1:], "ms"))
    print(Figure.of("visual encoder, relative to the best mode", np.divide(ours.wall_ms[1:], best.median_ms)))
    print(
        Target("visual encoder, 10 crops, relative to the best of torch's modes", "≤ 1.1", f"{ratio:.2f}", ratio <= 1.1)
    )


if __name__ == "__main__":
    main()
