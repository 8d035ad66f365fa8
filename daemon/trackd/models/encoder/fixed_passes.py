"""Passes of a network over a fixed number of crops, for devices that choose their kernels by shapes.

A library that computes a matrix product or a convolution in several ways chooses one by the sizes, and the last bits
differ between them. Every pass here has one shape. So a crop's feature does not depend on how many other crops are
encoded with it: the same alone, in a batch, and when a restart tracks a frame again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trackd.models.replay import Replay

CROPS = 16  # of a pass
_KEPT = 4  # shapes of crops of a thread; the buffers of the least recently used one are freed


@dataclass(frozen=True, slots=True)
class _Pass:
    crops: Tensor  # (CROPS, C, h, w), the input
    features: Tensor  # (CROPS, F), the output
    replay: Replay


class FixedPasses:
    """Runs a network over any number of crops. Each thread has its own buffers; on CUDA a pass is a graph."""

    def __init__(self, network: Callable[[Tensor], Tensor], width: int) -> None:
        """Allocate nothing yet.

        Args:
            network: crops (k, C, h, w) to features (k, F), float32; each row depends on its own crop only.
            width: F.
        """
        self._network = network
        self._width = width
        self._of_thread = threading.local()

    def __call__(self, crops: Tensor) -> Tensor:
        """Crops (n, C, h, w) -> (n, F)."""
        one = self._pass(crops)
        features = crops.new_empty((len(crops), self._width))
        for first in range(0, len(crops), CROPS):
            piece = crops[first : first + CROPS]
            one.crops[: len(piece)].copy_(piece)
            one.replay()
            features[first : first + CROPS].copy_(one.features[: len(piece)])
        return features

    def clear(self) -> None:
        """Free the calling thread's buffers."""
        self._passes.clear()

    @property
    def passes(self) -> list[_Pass]:
        """The calling thread's passes."""
        return list(self._passes.values())

    @property
    def _passes(self) -> OrderedDict[tuple[torch.Size, torch.device], _Pass]:
        if not hasattr(self._of_thread, "passes"):
            self._of_thread.passes = OrderedDict()
        passes: OrderedDict[tuple[torch.Size, torch.device], _Pass] = self._of_thread.passes
        return passes

    def _pass(self, crops: Tensor) -> _Pass:
        key = (crops.shape[1:], crops.device)
        passes = self._passes
        if key not in passes:
            buffer = crops.new_zeros((CROPS, *crops.shape[1:]))
            features = crops.new_zeros((CROPS, self._width))
            network = self._network

            def work() -> None:
                features.copy_(network(buffer))

            passes[key] = _Pass(buffer, features, Replay(work, crops.device, "the visual encoder"))
            while len(passes) > _KEPT:
                passes.popitem(last=False)
        passes.move_to_end(key)
        return passes[key]
