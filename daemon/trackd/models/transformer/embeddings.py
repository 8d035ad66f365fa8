"""Embeddings of position and time.

Letters: N instances, A anchors, D model width, E rows of a learned table; `...` is any leading batch shape.
Formulas are DREEM's `Embedding` and `FourierPositionalEmbeddings`, unchanged: checkpoints were trained with
them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trackd.models.architecture import Architecture, EmbeddingConfig, EmbeddingMode, TemporalInput


class Mlp(nn.Module):
    """Linear layers with relu between them (none after the last)."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_dim) -> (..., out_dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        out: Tensor = last(x)
        return out


class NoEmbedding(nn.Module):
    """A disabled embedding: a zero that broadcasts against the other one."""

    def forward(self, x: Tensor) -> Tensor:
        """Any input -> a zero of shape ()."""
        return torch.zeros((), dtype=torch.float32, device=x.device)


class FixedPosition(nn.Module):
    """Sines and cosines of box coordinates.

    For coordinate c and wavelength w_k = temperature^(2 floor(k/2) / (D/4)): first the sines of c / w_k for even k,
    then the cosines for odd k. With `normalize` each instance's boxes are divided by its own last anchor's box, so
    with one anchor the embedding is the same for all instances.
    """

    def __init__(self, config: EmbeddingConfig, d_model: int) -> None:
        super().__init__()
        self.scale = config.scale if config.normalize else None
        self.mlp: nn.Module = nn.Identity()
        if config.mlp is not None:
            in_dim = config.n_points * d_model
            self.mlp = Mlp(in_dim, config.mlp.hidden_dim, d_model, config.mlp.num_layers)
        quarter = d_model // 4
        k = torch.arange(0, quarter, 2, dtype=torch.float32, device="cpu")
        self.register_buffer("wavelengths", config.temperature ** (k / quarter), persistent=False)  # (D/8,)

    def forward(self, boxes: Tensor) -> Tensor:
        """Normalised boxes (..., N, A, 4) -> (..., N, D)."""
        if self.scale is not None:
            boxes = boxes / (boxes[..., -1:, :] + 1e-6) * self.scale
        angles = boxes.unsqueeze(-1) / self.get_buffer("wavelengths")  # (..., N, A, 4, D/8)
        waves = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (..., N, A, 4, D/4)
        out: Tensor = self.mlp(waves.flatten(-3))
        return out


class LearnedPosition(nn.Module):
    """Every coordinate reads its own table of E rows, interpolated; below 0 it extrapolates, above E - 1 it is flat."""

    def __init__(self, config: EmbeddingConfig, d_model: int) -> None:
        super().__init__()
        self.columns = 4 * config.n_points  # coordinates of an instance
        self.rows = config.emb_num
        width = d_model // self.columns
        self.lookup = nn.Embedding(self.rows * self.columns, width)
        self.mlp: nn.Module = nn.Identity()
        if config.mlp is not None:
            self.mlp = Mlp(self.columns * width, config.mlp.hidden_dim, d_model, config.mlp.num_layers)
        self.register_buffer("column", torch.arange(self.columns, device="cpu"), persistent=False)

    def forward(self, boxes: Tensor) -> Tensor:
        """Normalised boxes (..., N, A, 4) -> (..., N, D)."""
        place = boxes.flatten(-2) * self.rows  # (..., N, 4A)
        left = place.clamp(0, self.rows - 1).trunc()
        row = left.long()
        column = self.get_buffer("column")
        table = self.lookup.weight  # (E * 4A, D / 4A), row-major in (row, coordinate)
        low = F.embedding(row * self.columns + column, table)  # (..., N, 4A, D / 4A)
        high = F.embedding((row + 1).clamp(max=self.rows - 1) * self.columns + column, table)
        out: Tensor = self.mlp(torch.lerp(low, high, (place - left).unsqueeze(-1)).flatten(-2))
        return out


class FixedTime(nn.Module):
    """The usual sinusoid of a whole number, sines and cosines interleaved; a fraction is cut to 0."""

    def __init__(self, config: EmbeddingConfig, d_model: int) -> None:
        super().__init__()
        k = torch.arange(0, d_model, 2, dtype=torch.float32, device="cpu")
        self.register_buffer("wavelengths", config.temperature ** (k / d_model), persistent=False)  # (D/2,)

    def forward(self, time: Tensor) -> Tensor:
        """(..., N) float -> (..., N, D)."""
        angles = time.trunc().unsqueeze(-1) / self.get_buffer("wavelengths")
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class LearnedTime(nn.Module):
    """A table of E rows read at time x E, interpolated. For whole times that is row 0 at 0 and row E - 1 after."""

    def __init__(self, config: EmbeddingConfig, d_model: int) -> None:
        super().__init__()
        self.rows = config.emb_num
        self.lookup = nn.Embedding(self.rows, d_model)

    def forward(self, time: Tensor) -> Tensor:
        """(..., N) float -> (..., N, D)."""
        place = time * self.rows
        left = place.clamp(0, self.rows - 1).trunc()
        row = left.long()
        low = F.embedding(row, self.lookup.weight)  # (..., N, D)
        high = F.embedding((row + 1).clamp(max=self.rows - 1), self.lookup.weight)
        return torch.lerp(low, high, (place - left).unsqueeze(-1))


class FourierTime(nn.Module):
    """Sines and cosines of time at learned frequencies."""

    def __init__(self, n_components: int = 8) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.zeros(1, n_components))

    def forward(self, time: Tensor) -> Tensor:
        """(..., N) float -> (..., N, 2 x components)."""
        angles = (math.pi / 2) * time.unsqueeze(-1) * self.freq[0]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


def position_embedding(architecture: Architecture) -> nn.Module:
    """The module that maps normalised boxes (..., N, A, 4) to (..., N, D)."""
    config, D = architecture.pos, architecture.d_model
    if config.mode is EmbeddingMode.FIXED:
        return FixedPosition(config, D)
    return LearnedPosition(config, D) if config.mode is EmbeddingMode.LEARNED else NoEmbedding()


def temporal_embedding(architecture: Architecture) -> nn.Module:
    """The module that maps times (..., N) to (..., N, D)."""
    config, D = architecture.temp, architecture.d_model
    if config.mode is EmbeddingMode.FIXED:
        return FixedTime(config, D)
    return LearnedTime(config, D) if config.mode is EmbeddingMode.LEARNED else NoEmbedding()


def window_time(t: Tensor, temporal_input: TemporalInput) -> Tensor:
    """The input of the time embeddings: ranks of frames in the window (..., N), 0 the oldest.

    Args:
        t: integer ranks; the highest of each row is the query frame's.
        temporal_input: `INDEX`: t; `FRACTION`: t / T with T = highest rank + 1.
    """
    time = t.to(torch.float32)
    if temporal_input is TemporalInput.INDEX:
        return time
    return time / (time.amax(-1, keepdim=True) + 1)
