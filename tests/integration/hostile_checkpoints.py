"""Checkpoint files that are crafted to stop a daemon or to fill its memory. They are small, and quick to write."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoint_files import DESCRIPTOR

from trackd.models.architecture import Architecture
from trackd.models.transformer.gtr import GlobalTrackingTransformer

GIB = 1024**3


def write_zip(path: Path, pickled: bytes, *members: tuple[str, bytes]) -> Path:
    """Write a PyTorch zip with a given pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", sys.byteorder)
        for name, data in members:
            file.writestr(f"a/{name}", data)
    return path


def doubled_tuples(levels: int) -> bytes:
    """Return a pickle's opcodes for a tuple of 2^levels empty ones: each holds the one before it twice."""
    return b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(levels))  # BINPUT BINGET TUPLE2


def nested_tuples(depth: int) -> bytes:
    """Return a pickle's opcodes for an empty tuple in `depth` tuples."""
    return b")" + b"\x85" * depth


def _tuple_as_a_key(path: Path) -> Path:
    return write_zip(path, b"\x80\x02}" + doubled_tuples(40) + b"K\x01s.")


def _deep_tuple_as_a_key(path: Path) -> Path:
    return write_zip(path, b"\x80\x02}" + nested_tuples(500_000) + b"K\x01s.")


def _tuple_as_a_persistent_id(path: Path) -> Path:
    return write_zip(path, b"\x80\x02" + doubled_tuples(40) + b"Q.")


def _tuple_in_the_state_dict(path: Path) -> Path:
    # A key whose hash is cheap enough and whose text is not.
    entry = b"}" + doubled_tuples(22) + b"K\x01s"
    head = b"\x80\x02}(X\x0a\x00\x00\x00state_dict" + entry + b"X\x10\x00\x00\x00hyper_parameters}"
    return write_zip(path, head + b"X\x09\x00\x00\x00model_cfg}su.")


def _lists_without_end(path: Path) -> Path:
    return write_zip(path, b"\x80\x02(" + b"]" * 10_000_000 + b"l.")


def _config_in_many_places(path: Path) -> Path:
    config: Any = 1
    for _ in range(30):
        config = [config, config]
    return write_zip(path, pickle.dumps({"state_dict": {}, "hyper_parameters": {"model_cfg": {"a": config}}}, 2))


def stride_zero(path: Path, d_model: int = 2048) -> Path:
    """Write a checkpoint whose weights, gigabytes in memory, are the same few numbers again and again."""
    cfg = {**DESCRIPTOR, "d_model": d_model, "num_encoder_layers": 30, "num_decoder_layers": 30}
    with torch.device("meta"):
        expected = GlobalTrackingTransformer(Architecture.from_model_cfg(cfg)).state_dict()
    one = torch.zeros(1)
    state = OrderedDict(
        (f"model.{key}", (one if value.is_floating_point() else one.long()).expand(value.shape))
        for key, value in expected.items()
    )
    torch.save({"state_dict": state, "hyper_parameters": {"model_cfg": cfg}}, path)
    return path


def _compressed(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", bytes(200_000_000))
    return path


def _claimed_size(path: Path) -> Path:
    """Write a zip whose directory claims 3 GB for its pickle."""
    write_zip(path, b"\x80\x02}.")
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")  # the directory's first entry: its sizes are at 20 and 24
    for offset in (20, 24):
        data[place + offset : place + offset + 4] = (3_000_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    return path


def _sparse(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(8 * GIB)
    return path


def _sparse_zip(path: Path) -> Path:
    """Write a valid pickle, and a directory that claims 3 GB of its own, in a sparse file below the limit."""
    with path.open("wb") as file:
        file.truncate(3 * GIB)
        file.seek(3 * GIB)
        end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2
        file.write(end + (3 * GIB - 1024).to_bytes(4, "little") + (0).to_bytes(4, "little") + bytes(2))
    return path


def _safetensors_header(path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    header = b"[" * 4_000_000
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def _safetensors_sizes(path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    entry = {"dtype": "F32", "shape": [1 << 30, 4], "data_offsets": [0, 1 << 34]}
    header = json.dumps({"__metadata__": {"trackd_model_cfg": "{}"}, "a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "a tuple as a key": _tuple_as_a_key,
    "a deep tuple as a key": _deep_tuple_as_a_key,
    "a tuple as a persistent id": _tuple_as_a_persistent_id,
    "a tuple in the state_dict": _tuple_in_the_state_dict,
    "lists without end": _lists_without_end,
    "a config in many places": _config_in_many_places,
    "stride 0": stride_zero,
    "compressed": _compressed,
    "a claimed size": _claimed_size,
    "sparse": _sparse,
    "a sparse zip": _sparse_zip,
    "a nested safetensors header": _safetensors_header,
    "safetensors of a claimed size": _safetensors_sizes,
    "a FIFO": _fifo,
    "a folder": _folder,
    "a device": _device,
}
SLOW = "a tuple as a key"  # it uses all the processor time that reading may take


def overlapping(path: Path) -> Path:
    """Write a checkpoint whose tensors have storages of their own, all of them in the same bytes of the file."""
    torch.manual_seed(0)
    model = GlobalTrackingTransformer(Architecture.from_model_cfg(DESCRIPTOR))
    buffer = io.BytesIO()
    torch.save(
        {
            "state_dict": OrderedDict((f"model.{key}", value) for key, value in model.state_dict().items()),
            "hyper_parameters": {"model_cfg": DESCRIPTOR},
        },
        buffer,
    )
    with zipfile.ZipFile(buffer) as file, zipfile.ZipFile(path, "w") as out:
        names = file.namelist()
        longest = max((name for name in names if "/data/" in name), key=lambda name: file.getinfo(name).file_size)
        for name in names:
            out.writestr(name, file.read(name) if "/data/" not in name or name == longest else b"")
        place = out.getinfo(longest)
        size = place.file_size
        for name in names:
            if "/data/" in name:
                entry = out.getinfo(name)
                entry.header_offset, entry.file_size, entry.compress_size = place.header_offset, size, size
                entry.CRC = place.CRC
    return path
