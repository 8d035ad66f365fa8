"""The model's architecture: a checkpoint's `hyper_parameters.model_cfg`, checked and typed.

A key absent from `model_cfg` takes the default of DREEM's `GlobalTrackingTransformer`. A key that could change the
forward pass and is not known here is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from trackd.models.errors import CheckpointError
from trackd.models.section import Section


class TemporalInput(StrEnum):
    """The input of the temporal embedding, for an instance of the frame with rank t among T frames."""

    INDEX = "index"  # t; DREEM since 2024-07-30
    FRACTION = "fraction"  # t / T; before


class EmbeddingMode(StrEnum):
    """How positions or times are embedded."""

    OFF = "off"
    FIXED = "fixed"
    LEARNED = "learned"


class EncoderKind(StrEnum):
    """The visual encoder that computes features of crops."""

    RESNET = "resnet"
    DESCRIPTOR = "descriptor"


class Activation(StrEnum):
    """The feed-forward non-linearity (glu can't be loaded: it halves the width that the next layer expects)."""

    RELU = "relu"
    GELU = "gelu"


@dataclass(frozen=True, slots=True)
class MlpConfig:
    """Layers after a position embedding: `num_layers` linear ones, relu between."""

    hidden_dim: int
    num_layers: int


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """One of the two embeddings, position or time."""

    mode: EmbeddingMode = EmbeddingMode.OFF
    emb_num: int = 16  # rows of a learned table
    n_points: int = 1  # anchors of an instance
    temperature: float = 10000.0  # base of the fixed wavelengths
    normalize: bool = False  # fixed: divide by the last anchor's own box
    scale: float = 2 * math.pi  # fixed: factor after `normalize`
    mlp: MlpConfig | None = None


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The visual encoder."""

    kind: EncoderKind = EncoderKind.RESNET
    model_name: str = "resnet18"
    backend: str = "timm"  # "timm" or "torch": the layout of the keys; the function is the same
    in_chans: int = 3
    use_hu_moments: bool = False
    fourier_dim: int | None = None  # feature width of `fourier_proj`; None: the checkpoint has none


@dataclass(frozen=True, slots=True)
class Architecture:
    """All parameters of the model and of its forward pass."""

    d_model: int = 1024
    nhead: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_layers_attn_head: int = 2
    activation: Activation = Activation.RELU
    norm: bool = False
    decoder_self_attn: bool = False
    pos: EmbeddingConfig = EmbeddingConfig()
    temp: EmbeddingConfig = EmbeddingConfig()
    encoder: EncoderConfig = EncoderConfig()

    @property
    def feature_dim(self) -> int:
        """Width of a visual feature: `d_model` for a resnet, 5 or 12 for a descriptor."""
        if self.encoder.kind is EncoderKind.RESNET:
            return self.d_model
        return 12 if self.encoder.use_hu_moments else 5

    @property
    def crop_channels(self) -> int:
        """Channels that a crop needs, all anchors together (a descriptor reads the first one only)."""
        return self.encoder.in_chans if self.encoder.kind is EncoderKind.RESNET else 1

    @property
    def anchors(self) -> int:
        """Boxes per instance."""
        if self.pos.mode is not EmbeddingMode.OFF:
            return self.pos.n_points
        return max(1, self.crop_channels // 3)

    @property
    def uses_fourier(self) -> bool:
        """Whether features go through the Fourier time projection before the transformer."""
        return self.encoder.kind is EncoderKind.DESCRIPTOR

    @classmethod
    def from_model_cfg(cls, model_cfg: Mapping[str, object]) -> Architecture:
        """Reads `hyper_parameters.model_cfg`.

        Raises:
            CheckpointError: a value is of the wrong type, out of range or not supported.
        """
        cfg = Section("model_cfg", model_cfg)
        cfg.only(_MODEL_KEYS)
        meta = cfg.section("embedding_meta")
        meta.only({"pos", "temp", "embedding_agg_method", "use_fourier"})
        d_model = cfg.integer("d_model", 1024, 1, 65536)
        architecture = cls(
            d_model=d_model,
            nhead=cfg.integer("nhead", 8, 1, 1024),
            num_encoder_layers=cfg.integer("num_encoder_layers", 6, 0, 256),
            num_decoder_layers=cfg.integer("num_decoder_layers", 6, 1, 256),
            num_layers_attn_head=cfg.integer("num_layers_attn_head", 2, 1, 256),
            activation=cfg.choice("activation", Activation, Activation.RELU),
            norm=cfg.boolean("norm", False),
            decoder_self_attn=cfg.boolean("decoder_self_attn", False),
            pos=_embedding(meta.section("pos"), d_model),
            temp=_embedding(meta.section("temp"), d_model),
            encoder=_encoder(cfg.section("encoder_cfg")),
        )
        architecture._check(use_fourier=meta.boolean("use_fourier", False))
        return architecture

    def _check(self, *, use_fourier: bool) -> None:
        D, encoder = self.d_model, self.encoder
        if D % self.nhead:
            raise CheckpointError(f"model_cfg.d_model must be a multiple of nhead; got {D} and {self.nhead}")
        if self.pos.mode is EmbeddingMode.FIXED and D % 8:
            raise CheckpointError(f"model_cfg.d_model must be a multiple of 8 for fixed positions; got {D}")
        if self.temp.mode is EmbeddingMode.FIXED and D % 2:
            raise CheckpointError(f"model_cfg.d_model must be even for fixed times; got {D}")
        if self.pos.mode is EmbeddingMode.LEARNED and self.pos.mlp is None and D % (4 * self.pos.n_points):
            raise CheckpointError(
                f"model_cfg.d_model must be a multiple of 4 x n_points = {4 * self.pos.n_points}; got {D}"
            )
        if self.pos.mode is EmbeddingMode.FIXED and self.pos.mlp is None and self.pos.n_points > 1:
            raise CheckpointError("embedding_meta.pos: fixed positions of several n_points need an mlp_cfg")
        if self.uses_fourier and encoder.fourier_dim != self.feature_dim:
            raise CheckpointError(
                f"encoder_cfg.ndim must be {self.feature_dim} for this descriptor; got {encoder.fourier_dim}"
            )
        if encoder.fourier_dim is not None and self.uses_fourier and D % 16:
            raise CheckpointError(f"model_cfg.d_model must be a multiple of 16 for Fourier times; got {D}")
        if use_fourier and not self.uses_fourier:
            raise CheckpointError("embedding_meta.use_fourier must be false with a resnet encoder; got true")


_MODEL_KEYS = {
    *("encoder_cfg", "d_model", "nhead", "num_encoder_layers", "num_decoder_layers", "dropout", "activation"),
    *("return_intermediate_dec", "norm", "num_layers_attn_head", "dropout_attn_head", "embedding_meta"),
    *("return_embedding", "decoder_self_attn", "ckpt_path"),
}
# Encoder keys that affect initialisation or training, not the forward pass.
_INERT_RESNET_KEYS = {"pretrained", "weights", "progress", "drop_rate", "drop_path_rate", "zero_init_residual"}


def _embedding(cfg: Section, d_model: int) -> EmbeddingConfig:
    """`embedding_meta.pos` or `.temp`; an empty one is off."""
    if not cfg.values:
        return EmbeddingConfig()
    cfg.only(
        {"mode", "emb_num", "n_points", "temperature", "normalize", "scale", "mlp_cfg", "over_boxes", "use_fourier"}
    )
    mode = cfg.choice("mode", EmbeddingMode, EmbeddingMode.OFF)
    normalize = cfg.boolean("normalize", False)
    scale = cfg.values.get("scale")
    is_pos = cfg.name.endswith(".pos")
    if mode is EmbeddingMode.FIXED and is_pos and scale is not None and not normalize:
        raise CheckpointError(f"{cfg.name}.scale must be null unless normalize is true; got {scale!r}")
    if mode is EmbeddingMode.LEARNED and is_pos and not cfg.boolean("over_boxes", True):
        raise CheckpointError(f"{cfg.name}.over_boxes must be true; false was never usable")
    mlp = cfg.section("mlp_cfg")
    mlp.only({"hidden_dim", "num_layers", "dropout"})
    num_layers = mlp.integer("num_layers", 0, 0, 256)
    return EmbeddingConfig(
        mode=mode,
        emb_num=cfg.integer("emb_num", 16, 1, 1 << 20),
        n_points=cfg.integer("n_points", 1, 1, 256),
        temperature=cfg.positive("temperature", 10000.0),
        normalize=normalize,
        scale=2 * math.pi if scale is None else cfg.positive("scale", 1.0),
        mlp=MlpConfig(mlp.integer("hidden_dim", d_model, 1, 65536), num_layers) if num_layers else None,
    )


def _encoder(cfg: Section) -> EncoderConfig:
    """`encoder_cfg`: with `encoder_type` only `encoder_type_args` counts; without it all keys are a resnet's."""
    if "encoder_type" not in cfg.values:
        return _resnet(cfg, None)
    kind = cfg.choice("encoder_type", EncoderKind, EncoderKind.RESNET)
    fourier_dim = cfg.integer("ndim", 5, 1, 65536)
    # Until early 2025 the key of the arguments was the type's name.
    args = cfg.section("encoder_type_args" if "encoder_type_args" in cfg.values else kind.value)
    if kind is EncoderKind.RESNET:
        return _resnet(args, fourier_dim)
    args.only({"use_hu_moments"})
    return EncoderConfig(kind, use_hu_moments=args.boolean("use_hu_moments", False), fourier_dim=fourier_dim)


def _resnet(cfg: Section, fourier_dim: int | None) -> EncoderConfig:
    cfg.only({"model_name", "backend", "in_chans", *_INERT_RESNET_KEYS})
    name = cfg.text("model_name", "resnet18")
    base = name.lower().split(".")[0]  # timm appends the weights' origin after a dot
    if base not in ("resnet18", "resnet50"):
        raise CheckpointError(f"{cfg.name}.model_name must be resnet18 or resnet50; got {name!r}")
    backend = cfg.text("backend", "timm").lower()
    if "timm" not in backend and "torch" not in backend:
        raise CheckpointError(f"{cfg.name}.backend must be timm or torch; got {backend!r}")
    in_chans = cfg.integer("in_chans", 3, 1, 4096)
    return EncoderConfig(
        EncoderKind.RESNET,
        model_name=base,
        backend="timm" if "timm" in backend else "torch",
        in_chans=3 if in_chans == 1 else in_chans,
        fourier_dim=fourier_dim,
    )
