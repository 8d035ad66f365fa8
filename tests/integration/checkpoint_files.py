"""Small checkpoint files in DREEM's format."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trackd.models.architecture import Architecture
from trackd.models.checkpoint.load import load_checkpoint
from trackd.models.transformer.gtr import GlobalTrackingTransformer
from trackd.models.transformer.loaded_model import LoadedModel

DESCRIPTOR: dict[str, Any] = {
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "embedding_meta": {"pos": {"mode": "learned", "emb_num": 8}, "temp": {"mode": "learned", "emb_num": 8}},
    "encoder_cfg": {"encoder_type": "descriptor", "ndim": 5},
}
TWO_ANCHORS = {**DESCRIPTOR, "embedding_meta": {"pos": {"mode": "learned", "emb_num": 8, "n_points": 2}}}
RESNET = {**DESCRIPTOR, "encoder_cfg": {"model_name": "resnet18"}}


def write_checkpoint(path: Path, cfg: dict[str, Any] = DESCRIPTOR, stored_cfg: dict[str, Any] | None = None) -> Path:
    """Write a Lightning checkpoint with seeded weights; its logits are about 1.

    Args:
        path: the file.
        cfg: the model of the weights.
        stored_cfg: the `model_cfg` in the file, if it must differ from `cfg`.
    """
    torch.manual_seed(0)
    model = GlobalTrackingTransformer(Architecture.from_model_cfg(cfg))
    for parameter in model.transformer.parameters():
        parameter.normal_(std=0.3)
    state = OrderedDict((f"model.{key}", value) for key, value in model.state_dict().items())
    hyper_parameters = {"model_cfg": cfg if stored_cfg is None else stored_cfg, "tracker_cfg": {}, "metrics": None}
    torch.save({"epoch": 1, "global_step": 2, "state_dict": state, "hyper_parameters": hyper_parameters}, path)
    return path


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def bad_file(kind: str, folder: Path) -> Path:
    """Write a file that is not a valid checkpoint; if its pickle is run, it creates `it_ran` in the same folder."""
    path = folder / f"{kind}.ckpt"
    if kind == "corrupt":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "truncated":
        whole = write_checkpoint(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "wrong_architecture":
        write_checkpoint(path, DESCRIPTOR, stored_cfg={**DESCRIPTOR, "d_model": 32})
    elif kind == "malicious":
        torch.save({"state_dict": {}, "hyper_parameters": Bomb(folder / "it_ran")}, path)
    return path


def load(folder: Path, cfg: dict[str, Any] = DESCRIPTOR) -> LoadedModel:
    """Write such a checkpoint and load it."""
    torch.set_num_threads(1)
    return load_checkpoint(write_checkpoint(folder / "tiny.ckpt", cfg))
