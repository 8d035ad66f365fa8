"""The global tracking transformer: from crops and boxes to association logits.

Letters: B streams, N tokens (instances of the window, the query frame's last), Q queries, A anchors, F feature width,
D model width, H heads. Figure: GTR (Zhou et al. 2022) as DREEM changed it: post-norm, feed-forward width D, position
and time added again before every encoder layer. Parameter names are those of DREEM's checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trackd.models.architecture import Activation, Architecture, EncoderKind, TemporalInput
from trackd.models.encoder.descriptor import DescriptorEncoder
from trackd.models.encoder.fixed_passes import FixedPasses
from trackd.models.encoder.pieces import Pieces
from trackd.models.encoder.resnet import ResNetEncoder
from trackd.models.transformer.attention import Attention
from trackd.models.transformer.embeddings import FourierTime, Mlp, position_embedding, temporal_embedding, window_time


class FeedForward(nn.Module):
    """The two linear layers that encoder and decoder layers share (a base class, so that the keys are flat)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        D = architecture.d_model
        self.linear1 = nn.Linear(D, D)
        self.linear2 = nn.Linear(D, D)
        self.activation = F.relu if architecture.activation is Activation.RELU else F.gelu

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        out: Tensor = self.linear2(self.activation(self.linear1(x)))
        return out


class EncoderLayer(FeedForward):
    """Self-attention over all tokens."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.self_attn = Attention(architecture.d_model, architecture.nhead)
        self.norm1 = _norm(architecture)
        self.norm2 = _norm(architecture)

    def forward(self, x: Tensor, embedding: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, N, D); the embedding is also part of the attention's values."""
        x = x + embedding
        x = self.norm1(x + self.self_attn(x, mask=mask))
        out: Tensor = self.norm2(x + self.feed_forward(x))
        return out


class Encoder(nn.Module):
    """All encoder layers."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(architecture) for _ in range(architecture.num_encoder_layers))
        self.norm = _norm(architecture)

    def forward(self, x: Tensor, embedding: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        for layer in self.layers:
            x = layer(x, embedding, mask)
        out: Tensor = self.norm(x)
        return out


class DecoderLayer(FeedForward):
    """Self-attention over the queries, if the checkpoint has it, then attention over the encoder's output."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        D, heads = architecture.d_model, architecture.nhead
        self.multihead_attn = Attention(D, heads)
        self.self_attn = Attention(D, heads) if architecture.decoder_self_attn else None
        self.norm1 = _norm(architecture)  # in every checkpoint with norms, used with self-attention only
        self.norm2 = _norm(architecture)
        self.norm3 = _norm(architecture)

    def forward(
        self, y: Tensor, embedding: Tensor, memory: Tensor, query_mask: Tensor | None, memory_mask: Tensor | None
    ) -> Tensor:
        """Queries (B, Q, D), their embedding (B, Q, D), embedded memory (B, N, D) -> (B, Q, D)."""
        y = y + embedding
        if self.self_attn is not None:
            y = self.norm1(y + self.self_attn(y, mask=query_mask))
        y = self.norm2(y + self.multihead_attn(y, memory, memory_mask))
        out: Tensor = self.norm3(y + self.feed_forward(y))
        return out


class Decoder(nn.Module):
    """All decoder layers."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(architecture) for _ in range(architecture.num_decoder_layers))
        self.norm = _norm(architecture)

    def forward(
        self, y: Tensor, embedding: Tensor, memory: Tensor, query_mask: Tensor | None, memory_mask: Tensor | None
    ) -> Tensor:
        """(B, Q, D) -> (B, Q, D)."""
        for layer in self.layers:
            y = layer(y, embedding, memory, query_mask, memory_mask)
        out: Tensor = self.norm(y)
        return out


class AttentionHead(nn.Module):
    """Association logits: the unscaled dot product of projected queries and projected tokens."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        D, depth = architecture.d_model, architecture.num_layers_attn_head
        self.q_proj = Mlp(D, D, D, depth)
        self.k_proj = Mlp(D, D, D, depth)

    def forward(self, y: Tensor, memory: Tensor) -> Tensor:
        """(B, Q, D) and (B, N, D) -> (B, Q, N)."""
        logits: Tensor = self.q_proj(y) @ self.k_proj(memory).transpose(1, 2)
        return logits


class Transformer(nn.Module):
    """Features, boxes and times to association logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        D, fourier_dim = architecture.d_model, architecture.encoder.fourier_dim
        self.uses_fourier = architecture.uses_fourier
        self.pos_emb = position_embedding(architecture)
        self.temp_emb = temporal_embedding(architecture)
        self.fourier_embeddings = FourierTime()
        if fourier_dim is not None:
            self.fourier_proj = nn.Linear(D + fourier_dim, D)
            self.fourier_norm = nn.LayerNorm(D)
        self.encoder = Encoder(architecture)
        self.decoder = Decoder(architecture)
        self.attn_head = AttentionHead(architecture)

    def forward(self, features: Tensor, boxes: Tensor, time: Tensor, n_query: int, valid: Tensor | None) -> Tensor:
        """Logits of the last `n_query` tokens against all.

        Args:
            features: (B, N, F).
            boxes: (B, N, A, 4) normalised.
            time: (B, N) from `window_time`.
            n_query: Q.
            valid: (B, N) bool, false for padding; None: all are valid.

        Returns:
            (B, Q, N); padded rows and columns have no meaning.
        """
        mask = None if valid is None else _attention_mask(valid)  # (B, 1, 1, N)
        query_mask = None if mask is None else mask[..., -n_query:]
        embedding = (self.pos_emb(boxes) + self.temp_emb(time)) / 2  # (B, N, D), or a zero if both are off
        query_embedding = embedding[:, -n_query:] if embedding.ndim else embedding
        x = self._with_fourier(features, time) if self.uses_fourier else features  # (B, N, D)
        memory = self.encoder(x, embedding, mask)
        y = self.decoder(x[:, -n_query:], query_embedding, memory + embedding, query_mask, mask)
        logits: Tensor = self.attn_head(y, memory)
        return logits

    def _with_fourier(self, features: Tensor, time: Tensor) -> Tensor:
        waves = self.fourier_embeddings(time)  # (B, N, 16)
        D = self.fourier_norm.normalized_shape[0]
        joined = torch.cat((features, waves.repeat(1, 1, D // waves.shape[-1])), dim=-1)  # (B, N, F + D)
        out: Tensor = self.fourier_norm(self.fourier_proj(joined))
        return out


class GlobalTrackingTransformer(nn.Module):
    """The model of a checkpoint, for inference: evaluation mode, no gradients."""

    def __init__(self, architecture: Architecture, temporal_input: TemporalInput = TemporalInput.INDEX) -> None:
        super().__init__()
        self.architecture = architecture
        self.temporal_input = temporal_input
        self.visual_encoder: nn.Module
        if architecture.encoder.kind is EncoderKind.RESNET:
            self.visual_encoder = ResNetEncoder(architecture)
        else:
            self.visual_encoder = DescriptorEncoder(architecture.encoder.use_hu_moments)
        self.transformer = Transformer(architecture)
        self.passes = FixedPasses(self.visual_encoder, architecture.feature_dim)
        self.fixed_passes = False  # True: also on a CPU, as a test
        self.eval()
        self.requires_grad_(False)

    def fold(self) -> None:
        """Fold the visual encoder for inference; its state can't be loaded or stored afterwards."""
        if isinstance(self.visual_encoder, ResNetEncoder):
            self.visual_encoder.fold()

    def prepare(self, dtype: torch.dtype, threads: int) -> None:
        """Set how a visual encoder with weights runs; call `fold` first.

        Args:
            dtype: of its convolutions. On CUDA, float32 means float32 in the whole process, and never TF32.
            threads: number of threads that encode a frame's crops.
        """
        if next(self.parameters()).device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = (
                False  # some machines turn it on by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
            )
        if isinstance(self.visual_encoder, ResNetEncoder):
            self.visual_encoder.prepare(dtype, Pieces(threads))

    @torch.inference_mode()
    def encode_crops(self, crops: Tensor, n_lone: int = 0) -> Tensor:
        """Visual features of crops.

        Args:
            crops: (n, C x A, h, w) float in the range the checkpoint was trained on, 0 to 1 or 0 to 255.
            n_lone: on a CPU each of the last `n_lone` crops is encoded in its own pass, as if it were alone. Its
                feature may differ in the last bits from that of a pass with several crops. On other devices every
                pass has as many crops, and it does not.

        Returns:
            (n, F) float32.
        """
        if crops.shape[0] == 0:
            return crops.new_zeros((0, self.architecture.feature_dim))
        if crops.device.type in ("cpu", "meta") and not self.fixed_passes:
            features: Tensor = self.visual_encoder(crops, n_lone)
            return features
        return self.passes(crops)

    @torch.inference_mode()
    def associate(self, features: Tensor, boxes: Tensor, t: Tensor, n_query: int) -> Tensor:
        """Association logits of one stream's query frame against its window and itself.

        Args:
            features: (N, F) from `encode_crops`.
            boxes: (N, A, 4) from `normalise_boxes`.
            t: (N,) integer rank of each token's frame among the window's frames, 0 the oldest.
            n_query: the last `n_query` tokens are the query frame's instances.

        Returns:
            (n_query, N) float32.
        """
        if n_query == 0:
            return features.new_zeros((0, features.shape[0]))
        time = window_time(t.unsqueeze(0), self.temporal_input)
        logits: Tensor = self.transformer(features.unsqueeze(0), boxes.unsqueeze(0), time, n_query, None)
        return logits[0]

    @torch.inference_mode()
    def associate_batch(self, features: Tensor, boxes: Tensor, t: Tensor, valid: Tensor, n_query: int) -> Tensor:
        """`associate` for several streams at once, padded to common shapes.

        Args:
            features: (B, N, F); padding may have any value.
            boxes: (B, N, A, 4); padding may have any value.
            t: (B, N) ranks, whole numbers of any type.
            valid: (B, N) bool, false for padding, which may be anywhere; `valid[:, -n_query:]` is of the queries.
            n_query: Q, the last Q tokens of every stream are its queries (or padding).

        Returns:
            (B, Q, N) float32, -inf in the rows and columns of padding.
        """
        if n_query == 0:
            return features.new_zeros((features.shape[0], 0, features.shape[1]))
        features = torch.where(valid[..., None], features, 0.0)
        boxes = torch.where(valid[..., None, None], boxes, 0.0)
        time = window_time(torch.where(valid, t, 0), self.temporal_input)
        logits: Tensor = self.transformer(features, boxes, time, n_query, valid)
        real = valid[:, -n_query:, None] & valid[:, None, :]  # (B, Q, N)
        return torch.where(real, logits, float("-inf"))


def _norm(architecture: Architecture) -> nn.Module:
    return nn.LayerNorm(architecture.d_model) if architecture.norm else nn.Identity()


def _attention_mask(valid: Tensor) -> Tensor:
    """0 if valid, else so low that its weight is exactly 0; finite, so that a stream of padding gives no NaN."""
    return torch.where(valid, 0.0, -1e30)[:, None, None, :]
