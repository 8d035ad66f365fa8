"""Fuzz target: checkpoints. A file is read as weights, or refused in one line of a `CheckpointError`."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from fuzz_harness import check_text

from trackd.models.architecture import Architecture
from trackd.models.checkpoint.file import parsed
from trackd.models.checkpoint.read_process import answer
from trackd.models.errors import CheckpointError
from trackd.models.transformer.gtr import GlobalTrackingTransformer

PACKAGES = ["trackd.models.checkpoint", "trackd.models.architecture"]
MOST_MS = 2000
MOST_MB = 128
WORDS = (b"\x80\x02", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\ndict\n",
         b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"storage", b"state_dict", b"hyper_parameters", b"model_cfg",
         b"d_model", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"(", b"t", b"R", b"Q", b"b", b"s", b"u", b".",
         b"\x85", b"q\0", b"h\0")  # fmt: skip
RAW, PICKLE, SAFETENSORS = range(3)  # the first byte of an input: what the rest is
CFG = {
    "d_model": 16, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dropout": 0.1,
    "embedding_meta": {"pos": {"mode": "learned", "emb_num": 4}, "temp": None},
    "encoder_cfg": {"encoder_type": "descriptor", "ndim": 5},
}  # fmt: skip


def seeds() -> Iterator[bytes]:
    """A small checkpoint: as the file, as the pickle within it, and converted."""
    torch.manual_seed(0)
    raw = _saved()
    yield bytes([PICKLE]) + _pickle_of(raw)
    yield bytes([RAW]) + raw
    for value in ({}, {"state_dict": {}, "hyper_parameters": {"model_cfg": {}}}, [], {"state_dict": 1}):
        yield bytes([PICKLE]) + pickle.dumps(value, 2)
    yield bytes([SAFETENSORS]) + b"\x02\0\0\0\0\0\0\0{}"


def run(data: bytes) -> None:
    """Read one checkpoint as the reading process does, check its answer as the daemon does, and its architecture."""
    kind, body = (data[0] % 3, data[1:]) if data else (RAW, b"")
    file = io.BytesIO(_zipped(body) if kind == PICKLE else body)
    try:
        lines = answer(file, "safetensors" if kind == SAFETENSORS else "lightning")
        _, cfg = parsed("".join(line + "\n" for line in lines).encode(), len(file.getvalue()))
        if isinstance(cfg, dict):
            Architecture.from_model_cfg(cfg)
    except CheckpointError as error:
        check_text(error)


def _saved() -> bytes:
    model = GlobalTrackingTransformer(Architecture.from_model_cfg(dict(CFG)))
    state = OrderedDict((f"model.{key}", value.clone()) for key, value in model.state_dict().items())
    file = io.BytesIO()
    torch.save({"epoch": 1, "state_dict": state, "hyper_parameters": {"model_cfg": CFG}}, file)
    return file.getvalue()


def _pickle_of(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


_PARTS: dict[str, Any] = {}


def _zipped(data: bytes) -> bytes:
    """A checkpoint with this pickle, and the numbers of the valid one."""
    if not _PARTS:
        with zipfile.ZipFile(io.BytesIO(_saved())) as file:
            _PARTS.update({name: file.read(name) for name in file.namelist() if "/data/" in name})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", data)
        for name, part in _PARTS.items():
            file.writestr(name, part)
    return out.getvalue()
