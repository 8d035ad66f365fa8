"""A folded ResNet whose weights have the layout that a processor's convolutions read (oneDNN).

Torch's own convolutions bring the weights into that layout in every call: for small crops that is most of the time.
These also apply the ReLU and the sum with the shortcut while the result is in the cache. Torch's compiler (inductor)
makes the same calls.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_DTYPES = (torch.float32, torch.bfloat16)
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # relative to the largest feature
_NO_DILATION, _GROUPS = (1, 1), 1


def packed(network: Any, dtype: torch.dtype) -> PackedResNet | None:
    """Return a folded network with packed weights; None where torch or the processor cannot, or computes otherwise.

    Args:
        network: a `ResNet`, folded, on the CPU.
        dtype: of its weights.
    """
    if dtype not in _DTYPES or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        made = PackedResNet(network)
        crops = torch.rand(2, network.conv1.in_channels, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
        with torch.inference_mode():
            wanted, found = network(crops.to(memory_format=torch.channels_last)), made(crops)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:  # these calls are not public
        logger.info("the visual encoder's weights are not packed: %s", str(error).splitlines()[0])
        return None
    difference = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
    if not difference <= _TOLERANCE[dtype]:
        logger.warning("the visual encoder's weights are not packed: results differ by %.1e here", difference)
        return None
    return made


class PackedResNet(nn.Module):
    """The network up to its average pool, without parameters: it stays on the CPU, in its number type."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._first = _Convolution(network.conv1)
        stages = (network.layer1, network.layer2, network.layer3, network.layer4)
        self._blocks = [_Block(block) for stage in stages for block in stage]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_chans, h, w) -> (n, width)."""
        x = self._first.relu(x.contiguous(memory_format=torch.channels_last))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        for block in self._blocks:
            x = block(x)
        return x.mean(dim=(2, 3))


class _Block:
    """Convolutions around a shortcut."""

    def __init__(self, block: Any) -> None:
        convolutions = [getattr(block, name) for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        *self._inner, self._last = (_Convolution(each) for each in convolutions)
        self._shortcut = None if block.downsample is None else _Convolution(block.downsample[0])

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self._inner:
            y = convolution.relu(y)
        return self._last.add_relu(y, x if self._shortcut is None else self._shortcut.plain(x))


class _Convolution:
    """One convolution with its bias."""

    def __init__(self, folded: nn.Conv2d) -> None:
        self._padding, self._stride = list(folded.padding), list(folded.stride)
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        weight = folded.weight.detach().contiguous().to_mkldnn()
        self._weight = reorder(weight, self._padding, self._stride, _NO_DILATION, _GROUPS)
        assert folded.bias is not None
        self._bias = folded.bias.detach()

    def plain(self, x: Tensor) -> Tensor:
        return self._run(x, "none")

    def relu(self, x: Tensor) -> Tensor:
        return self._run(x, "relu")

    def _run(self, x: Tensor, after: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, self._padding, self._stride, _NO_DILATION, _GROUPS, after, [], ""
        )
        return result

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor:
        """Add the result to `other`, in place."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, self._weight, self._bias, self._padding, self._stride, _NO_DILATION, _GROUPS,
            "add", 1.0, "relu", [], "",
        )  # fmt: skip
        return result
