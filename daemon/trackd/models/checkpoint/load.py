"""Checkpoints: DREEM's Lightning `.ckpt`, and our `.safetensors` made from one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trackd.models.architecture import Architecture, TemporalInput
from trackd.models.checkpoint.unpickling import LightningArchive, plain, unwrap
from trackd.models.encoder.resnet import timm_key
from trackd.models.errors import CheckpointError
from trackd.models.transformer.gtr import GlobalTrackingTransformer
from trackd.models.transformer.loaded_model import LoadedModel, LoadReport

__all__ = [
    "CheckpointError",
    "CheckpointSummary",
    "LoadReport",
    "LoadedModel",
    "convert",
    "inspect",
    "load_checkpoint",
]

_PREFIX = "model."
_METADATA_KEY = "trackd_model_cfg"
# Since 2024-12 DREEM stores these in all models, including those that don't use them.
_DRIFT_PREFIX = "transformer.fourier_"
_FREQ = "transformer.fourier_embeddings.freq"


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A description of a checkpoint for its user."""

    path: Path
    format: str  # "lightning" or "safetensors"
    file_bytes: int
    architecture: Architecture
    n_tensors: int
    n_parameters: int  # trainable parameters, without batch-norm statistics
    crop_channels: int
    anchors: int
    drift: LoadReport
    may_need_fraction: bool  # written before 2024-12, so possibly trained with t / T

    def lines(self) -> list[str]:
        """The summary as text."""
        a = self.architecture
        encoder = a.encoder.model_name if a.encoder.kind == "resnet" else a.encoder.kind.value
        temporal = "index; fraction if trained before 2024-07-30" if self.may_need_fraction else "index"
        return [
            f"file            {self.path} ({self.format}, {self.file_bytes / 1e6:.1f} MB)",
            f"encoder         {encoder}, features of {a.feature_dim}",
            f"transformer     {a.num_encoder_layers} + {a.num_decoder_layers} layers, d_model {a.d_model}, "
            f"{a.nhead} heads, {a.activation.value}{', norm' if a.norm else ''}"
            f"{', decoder self attention' if a.decoder_self_attn else ''}",
            f"embeddings      position {a.pos.mode.value}, time {a.temp.mode.value}",
            f"crops           {_count(self.crop_channels, 'channel')}, {_count(self.anchors, 'anchor')}",
            f"size            {self.n_parameters} parameters in {self.n_tensors} tensors",
            f"temporal_input  {temporal}",
            f"drift           missing {_names(self.drift.missing)}; unused {_names(self.drift.unexpected)}",
        ]


@dataclass(frozen=True, slots=True)
class _Contents:
    format: str
    state: dict[str, Tensor]  # without the "model." prefix, timm names
    model_cfg: dict[str, object]
    architecture: Architecture


def load_checkpoint(path: str | Path, temporal_input: str = "index") -> LoadedModel:
    """Load a checkpoint without running any code in it.

    Args:
        path: a Lightning `.ckpt` of DREEM, or a `.safetensors` made by `convert`.
        temporal_input: "index" for checkpoints trained since 2024-07-30, "fraction" for earlier ones.

    Raises:
        CheckpointError: another kind of file, a damaged or hostile one, or tensors that don't fit its config; one line.
        ValueError: an unknown `temporal_input`.
    """
    if temporal_input not in set(TemporalInput):
        raise ValueError(f'model.temporal_input must be "index" or "fraction"; got {temporal_input!r}')
    path = Path(path)
    try:
        contents = _read(path)
        model, report = _build(contents, TemporalInput(temporal_input))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.fold()
    return LoadedModel(path.stem, model, contents.architecture, path, report)


def convert(path: str | Path, out: str | Path) -> Path:
    """Write a checkpoint's weights and config as `.safetensors`, which gives the same logits.

    Raises:
        CheckpointError: `path` can't be loaded, or `out` doesn't end in `.safetensors` or can't be written.
    """
    path, out = Path(path), Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the output must end in .safetensors")
    try:
        contents = _read(path)
        _build(contents, TemporalInput.INDEX)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    try:
        # Not `save_file`: only the owner could read its files.
        out.write_bytes(save(contents.state, metadata={_METADATA_KEY: json.dumps(contents.model_cfg)}))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{out}: could not be written: {error}") from error
    return out


def inspect(path: str | Path) -> CheckpointSummary:
    """Describe a checkpoint.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    path = Path(path)
    try:
        contents = _read(path)
        model, report = _build(contents, TemporalInput.INDEX)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return CheckpointSummary(
        path=path,
        format=contents.format,
        file_bytes=path.stat().st_size,
        architecture=contents.architecture,
        n_tensors=len(contents.state),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        crop_channels=contents.architecture.crop_channels,
        anchors=contents.architecture.anchors,
        drift=report,
        may_need_fraction=_FREQ not in contents.state,
    )


def _read(path: Path) -> _Contents:
    if not path.is_file():
        raise CheckpointError("no such file")
    try:
        if path.suffix == ".safetensors":
            kind, (tensors, cfg) = "safetensors", _read_safetensors(path)
        else:
            kind, (tensors, cfg) = "lightning", _read_lightning(path)
    except OSError as error:
        raise CheckpointError(f"it could not be read: {error.strerror}") from error
    state = {timm_key(key): tensor for key, tensor in tensors.items()}
    return _Contents(kind, state, cfg, Architecture.from_model_cfg(cfg))


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    with closing(LightningArchive(path)) as archive:
        state_dict = archive.contents.get("state_dict")
        hyper_parameters = unwrap(archive.contents.get("hyper_parameters"))
        if not isinstance(state_dict, Mapping) or not isinstance(hyper_parameters, Mapping):
            raise CheckpointError("a DREEM checkpoint must hold state_dict and hyper_parameters; one is absent")
        if "model_cfg" not in hyper_parameters:
            raise CheckpointError("its hyper_parameters must hold model_cfg, as DREEM writes them; it is absent")
        cfg = plain(hyper_parameters["model_cfg"], "model_cfg")
        tensors = archive.tensors(state_dict)
    foreign = [key for key in tensors if not key.startswith(_PREFIX)]
    if foreign:
        raise CheckpointError(f"its tensors must be named {_PREFIX}*; got {_names(foreign)}")
    return {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}, _as_config(cfg)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _METADATA_KEY not in metadata:
                raise CheckpointError("it holds no model config; make it with `trackd checkpoint convert`")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, _as_config(json.loads(metadata[_METADATA_KEY]))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"it is damaged: {' '.join(str(error).split())}") from error


def _as_config(cfg: object) -> dict[str, object]:
    if cfg is not None and not isinstance(cfg, dict):
        raise CheckpointError(f"model_cfg must be a dict; got {type(cfg).__name__}")
    return cfg or {}


def _build(contents: _Contents, temporal_input: TemporalInput) -> tuple[GlobalTrackingTransformer, LoadReport]:
    """The model with the checkpoint's weights. Names and shapes are checked before anything is allocated."""
    with torch.device("meta"):
        model = GlobalTrackingTransformer(contents.architecture, temporal_input)
    expected, found = model.state_dict(), contents.state
    report = LoadReport(
        missing=tuple(key for key in expected if key not in found),
        unexpected=tuple(key for key in found if key not in expected),
    )
    unused = () if contents.architecture.uses_fourier else (_DRIFT_PREFIX,)
    for what, keys in (("lacks", report.missing), ("has unknown", report.unexpected)):
        wrong = [key for key in keys if not key.startswith(unused)]
        if wrong:
            raise CheckpointError(f"it {what} tensors for its model_cfg: {_names(wrong)}")
    state = {}
    for key, wanted in expected.items():
        tensor = found[key] if key in found else torch.zeros(wanted.shape, dtype=wanted.dtype)
        if tensor.shape != wanted.shape or tensor.is_floating_point() != wanted.is_floating_point():
            raise CheckpointError(
                f"its tensor {key} must be {_describe(wanted)} for its model_cfg; got {_describe(tensor)}"
            )
        tensor = tensor.to(wanted.dtype)
        # Channels last: on a CPU, convolutions of large crops take a sixth less time.
        state[key] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False), report


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _names(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3]) or "none"
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"
