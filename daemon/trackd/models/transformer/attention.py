"""Multi-head attention.

Letters: B streams, N tokens, Q queries, D model width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with the parameters of `nn.MultiheadAttention`, without its per-call overhead."""

    def __init__(self, d_model: int, nhead: int) -> None:
        super().__init__()
        self.nhead = nhead
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))  # rows: query, key, value
        self.in_proj_bias = nn.Parameter(torch.empty(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attention of every row of x over the rows of memory; without memory, self-attention over x.

        Args:
            x: (B, Q, D).
            memory: (B, N, D).
            mask: (B, 1, 1, N), added to the attention logits.

        Returns:
            (B, Q, D).
        """
        D = x.shape[-1]
        if memory is None:
            q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            q = F.linear(x, self.in_proj_weight[:D], self.in_proj_bias[:D])
            k, v = F.linear(memory, self.in_proj_weight[D:], self.in_proj_bias[D:]).chunk(2, dim=-1)
        heads = F.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v), attn_mask=mask)
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.nhead, -1).transpose(1, 2)  # (B, H, N, D / H)
