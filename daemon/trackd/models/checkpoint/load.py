"""Checkpoints: DREEM's Lightning `.ckpt`, and our `.safetensors` made from one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trackd.models.architecture import Architecture, TemporalInput
from trackd.models.checkpoint.file import CheckpointFile, CheckpointReader
from trackd.models.checkpoint.safetensors_file import METADATA_KEY
from trackd.models.checkpoint.stored_tensor import StoredTensor
from trackd.models.checkpoint.weights import digest, read_weights
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

_T = TypeVar("_T")
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
    """What a file holds; its weights are not read yet."""

    file: CheckpointFile
    format: str  # "lightning" or "safetensors"
    tensors: dict[str, StoredTensor]  # without the "model." prefix, timm names
    model_cfg: dict[str, object]
    architecture: Architecture
    max_bytes: int  # of the model's weights

    def weights(self) -> dict[str, Tensor]:
        """All of its tensors; check the names and shapes first."""
        return read_weights(self.file.fd, self.file.nbytes, self.tensors)


def load_checkpoint(
    path: str | Path, temporal_input: str = "index", reader: CheckpointReader | None = None
) -> LoadedModel:
    """Load a checkpoint without running any code in it.

    A separate process with limits finds the tensors in the file. This one reads their numbers, after it has compared
    all names and shapes with the architecture.

    Args:
        path: a Lightning `.ckpt` of DREEM, or a `.safetensors` made by `convert`.
        temporal_input: "index" for checkpoints trained since 2024-07-30, "fraction" for earlier ones.
        reader: starts the process; a new one by default.

    Raises:
        CheckpointError: another kind of file, a damaged or hostile one, or tensors that don't fit its config; one line.
        ValueError: an unknown `temporal_input`.
    """
    if temporal_input not in set(TemporalInput):
        raise ValueError(f'model.temporal_input must be "index" or "fraction"; got {temporal_input!r}')
    path = Path(path)

    def build(contents: _Contents) -> LoadedModel:
        model, report = _build(contents, TemporalInput(temporal_input))
        found = digest(contents.file.fd, contents.file.nbytes)
        return LoadedModel(path.stem, model, contents.architecture, path, report, found)

    loaded = _with_contents(path, build, reader)
    loaded.model.fold()
    return loaded


def convert(path: str | Path, out: str | Path) -> Path:
    """Write a checkpoint's weights and config as `.safetensors`, which gives the same logits.

    Raises:
        CheckpointError: `path` can't be loaded, or `out` doesn't end in `.safetensors` or can't be written.
    """
    path, out = Path(path), Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the output must end in .safetensors")

    from safetensors import SafetensorError
    from safetensors.torch import save

    def converted(contents: _Contents) -> bytes:
        _build(contents, TemporalInput.INDEX)
        data: bytes = save(contents.weights(), metadata={METADATA_KEY: json.dumps(contents.model_cfg)})
        return data

    try:
        # Not `save_file`: only the owner could read its files.
        out.write_bytes(_with_contents(path, converted))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{out}: could not be written: {error}") from error
    return out


def inspect(path: str | Path) -> CheckpointSummary:
    """Describe a checkpoint.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    path = Path(path)

    def summary(contents: _Contents) -> CheckpointSummary:
        model, report = _build(contents, TemporalInput.INDEX)
        return CheckpointSummary(
            path=path,
            format=contents.format,
            file_bytes=contents.file.nbytes,
            architecture=contents.architecture,
            n_tensors=len(contents.tensors),
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            crop_channels=contents.architecture.crop_channels,
            anchors=contents.architecture.anchors,
            drift=report,
            may_need_fraction=_FREQ not in contents.tensors,
        )

    return _with_contents(path, summary)


def _with_contents(path: Path, use: Callable[[_Contents], _T], reader: CheckpointReader | None = None) -> _T:
    """Open a checkpoint, find what it holds, and use that. An error names the file."""
    reader = reader or CheckpointReader()
    kind = "safetensors" if path.suffix == ".safetensors" else "lightning"
    try:
        with CheckpointFile(path, reader.max_bytes) as file:
            found, cfg = reader.read(file, kind)
            tensors = {timm_key(name): stored for name, stored in found.items()}
            if cfg is not None and not isinstance(cfg, dict):
                raise CheckpointError(f"model_cfg must be a map of keys; got {type(cfg).__name__}")
            model_cfg: dict[str, object] = cfg or {}
            architecture = Architecture.from_model_cfg(model_cfg)
            result = use(_Contents(file, kind, tensors, model_cfg, architecture, reader.max_bytes))
            file.check_unchanged()
            return result
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {_bounded(str(error))}") from error


def _build(contents: _Contents, temporal_input: TemporalInput) -> tuple[GlobalTrackingTransformer, LoadReport]:
    """The model with the checkpoint's weights. Names and shapes are checked before anything is allocated."""
    with torch.device("meta"), _WithoutNormal():
        model = GlobalTrackingTransformer(contents.architecture, temporal_input)
    expected, found = model.state_dict(), contents.tensors
    report = LoadReport(
        missing=tuple(key for key in expected if key not in found),
        unexpected=tuple(key for key in found if key not in expected),
    )
    unused = () if contents.architecture.uses_fourier else (_DRIFT_PREFIX,)
    for what, keys in (("lacks", report.missing), ("has unknown", report.unexpected)):
        wrong = [key for key in keys if not key.startswith(unused)]
        if wrong:
            raise CheckpointError(f"it {what} tensors for its model_cfg: {_names(wrong)}")
    for key, wanted in expected.items():
        if key in found and not _fits(found[key], wanted):
            got = f"{found[key].dtype} {found[key].shape}"
            raise CheckpointError(f"its tensor {key} must be {_describe(wanted)} for its model_cfg; got {got}")
    nbytes = sum(wanted.numel() * wanted.element_size() for wanted in expected.values())
    if nbytes > contents.max_bytes:
        raise CheckpointError(
            f"the weights of its model_cfg must have at most {contents.max_bytes} bytes; got {nbytes}"
        )
    weights = contents.weights()
    state = {}
    for key, wanted in expected.items():
        tensor = weights[key] if key in weights else torch.zeros(wanted.shape, dtype=wanted.dtype)
        tensor = tensor.to(wanted.dtype)
        # Channels last: on a CPU, convolutions of large crops take a sixth less time.
        state[key] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False), report


class _WithoutNormal(TorchFunctionMode):
    """Skips the initial values of embeddings: on the meta device, `normal_` imports sympy, for seconds."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _fits(stored: StoredTensor, wanted: Tensor) -> bool:
    return stored.shape == wanted.shape and ("float" in stored.dtype) == wanted.is_floating_point()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _names(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:3]) or "none"
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def _bounded(text: str) -> str:
    """One line that is not too long: a value in a hostile config may be."""
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:497] + "..."
