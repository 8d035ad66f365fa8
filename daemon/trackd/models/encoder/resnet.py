"""ResNet-18 and ResNet-50 (He et al. 2015, stride in the 3 x 3 convolution) under timm's parameter names.

Plain torch: torchvision has no CPU build that imports everywhere, and timm imports torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trackd.models.architecture import Architecture
from trackd.models.encoder.packed import PackedResNet, packed
from trackd.models.encoder.pieces import Pieces

# Crops per pass. On a CPU torch computes some convolutions of 1, of 2 to 15 and of more crops in different ways, so
# that the last bits differ. In a pass of 2 to 15 crops, a crop's feature depends on that crop alone.
_LEAST, _MOST = 2, 15


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_width, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_width, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_width, h, w) -> (n, width, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions around a shortcut; the last widens fourfold."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_width, width, 1, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(in_width, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_width, h, w) -> (n, 4 width, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The network up to its average pool."""

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: Sequence[int], in_chans: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_chans, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(block, 64, 64, depths[0], 1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depths[1], 2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depths[2], 2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depths[3], 2)
        self.width = 512 * block.expansion

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_chans, h, w) -> (n, width)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


class ResNetEncoder(nn.Module):
    """Crops to unit-length features: L2(W avgpool(resnet(crop)) + b). No mean or std is subtracted first."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.in_chans = architecture.encoder.in_chans
        self.feature_extractor: ResNet | PackedResNet
        if architecture.encoder.model_name == "resnet18":
            self.feature_extractor = ResNet(BasicBlock, (2, 2, 2, 2), self.in_chans)
        else:
            self.feature_extractor = ResNet(Bottleneck, (3, 4, 6, 3), self.in_chans)
        self.out_layer = nn.Linear(self.feature_extractor.width, architecture.d_model)
        self.dtype = torch.float32
        self.pieces = Pieces()

    def forward(self, crops: Tensor, n_lone: int = 0) -> Tensor:
        """Crops (n, C, h, w) -> (n, D); each of the last n_lone has its own pass, as if it were alone.

        Raises:
            ValueError: C is neither 1 (tiled to 3) nor `in_chans`.
        """
        if crops.shape[1] == 1:
            crops = crops.expand(-1, 3, -1, -1)
        if crops.shape[1] != self.in_chans:
            raise ValueError(
                f"crops must have {self.in_chans} channels (anchors x image channels) for this checkpoint; "
                f"got {crops.shape[1]}"
            )
        if crops.device.type != "cpu":
            return F.normalize(self._encode(crops))
        sizes = self.pieces.sizes(len(crops) - n_lone, _LEAST, _MOST) + [1] * n_lone
        return F.normalize(torch.cat(self.pieces.map(self._encode, torch.split(crops, sizes))))

    def prepare(self, dtype: torch.dtype, pieces: Pieces) -> None:
        """Set how the network runs; call `fold` first. On a CPU it stays there and in this type from then on.

        Args:
            dtype: of the convolutions; features are float32.
            pieces: distributes crops over threads.

        Raises:
            ValueError: it was prepared with another type before.
        """
        self.pieces = pieces
        if isinstance(self.feature_extractor, PackedResNet):
            if dtype is not self.dtype:
                raise ValueError(f"the encoder is prepared for {self.dtype}; got {dtype}")
            return
        self.dtype = dtype
        self.feature_extractor.to(dtype)
        if self.out_layer.weight.device.type == "cpu":
            self.feature_extractor = packed(self.feature_extractor, dtype) or self.feature_extractor

    def fold(self) -> None:
        """Merge every batch norm into the convolution before it: saves one pass over memory each."""
        for module in self.feature_extractor.modules():
            _fold(module)
        self.feature_extractor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _encode(self, crops: Tensor) -> Tensor:
        """One pass: (n, C, h, w) -> (n, D), before their length is made 1."""
        pooled = self.feature_extractor(crops.to(self.dtype, memory_format=torch.channels_last)).float()
        if crops.device.type != "cpu":
            projected: Tensor = self.out_layer(pooled)
            return projected
        # Row by row. A product of many rows differs in its last bits with the number of rows, and on some processors
        # with a row's place among them. The limits differ between processors: 4 and 16 rows were seen.
        weight, bias = self.out_layer.weight, self.out_layer.bias
        return torch.stack([torch.addmv(bias, weight, row) for row in pooled])


_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))  # the last pair: of a shortcut


def _fold(module: nn.Module) -> None:
    for conv_name, norm_name in _PAIRS:
        conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
            setattr(module, norm_name, nn.Identity())


_TORCH_NAMES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def timm_key(key: str) -> str:
    """The timm name of a `feature_extractor` parameter that torchvision's Sequential numbers.

    `feature_extractor.4.0.conv1.weight` -> `feature_extractor.layer1.0.conv1.weight`; other keys are unchanged.
    """
    before, marker, after = key.partition("feature_extractor.")
    head, dot, rest = after.partition(".")
    return before + marker + _TORCH_NAMES.get(head, head) + dot + rest if marker else key


def _conv(in_width: int, width: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_width, width, size, stride, padding=size // 2, bias=False)


def _shortcut(in_width: int, width: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_width == width:
        return None
    return nn.Sequential(_conv(in_width, width, 1, stride), nn.BatchNorm2d(width))


def _stage(block: type[BasicBlock | Bottleneck], in_width: int, width: int, depth: int, stride: int) -> nn.Sequential:
    first = block(in_width, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(depth - 1)))
