"""The header of a `.safetensors` file: its config, and the places of its tensors. Does not import torch."""

from __future__ import annotations

import io
import json
from typing import BinaryIO

from trackd.models.checkpoint.stored_tensor import ITEM_BYTES, MOST_TENSORS, StoredTensor, lengths
from trackd.models.errors import CheckpointError

METADATA_KEY = "trackd_model_cfg"
_MOST_HEADER_BYTES = 16 * 1024 * 1024
_DTYPES = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "BOOL": "bool",
}


def read_safetensors(file: BinaryIO) -> tuple[dict[str, StoredTensor], object]:
    """Return the tensors by name, and the model config.

    Raises:
        CheckpointError: it is damaged, or was not made by `trackd checkpoint convert`.
    """
    file_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if file_bytes < 8 or length > file_bytes - 8 or length > _MOST_HEADER_BYTES:
        raise CheckpointError(f"it is damaged: its header claims {length} bytes, the file has {file_bytes}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it is damaged: its header is no JSON: {str(error)[:120]}") from None
    if not isinstance(header, dict):
        raise CheckpointError("it is damaged: its header must be a map")
    metadata = header.pop("__metadata__", {})
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError("it holds no model config; make it with `trackd checkpoint convert`")
    if len(header) > MOST_TENSORS:
        raise CheckpointError(f"it must hold at most {MOST_TENSORS} tensors; got {len(header)}")
    tensors = {name: _tensor(name, entry, 8 + length, file_bytes) for name, entry in header.items()}
    try:
        return tensors, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it is damaged: its model config is no JSON: {str(error)[:120]}") from None


def _tensor(name: str, entry: object, base: int, file_bytes: int) -> StoredTensor:
    values = entry if isinstance(entry, dict) else {}
    dtype = _DTYPES.get(str(values.get("dtype"))[:8])
    shape, place = lengths(values.get("shape")), lengths(values.get("data_offsets"))
    if dtype is None or shape is None or place is None or len(place) != 2 or place[1] < place[0]:
        raise CheckpointError(f"it is damaged: its tensor {name[:120]} is described in an unknown way")
    size = place[1] - place[0]
    stride = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        stride[axis - 1] = stride[axis] * shape[axis]
    numel = size // ITEM_BYTES[dtype]
    stored = StoredTensor(name, dtype, shape, tuple(stride), 0, numel, base + place[0], size, None)
    fault = stored.fault(file_bytes)
    if fault is None and stored.nbytes != size:
        fault = f"its tensor {name[:120]} of shape {shape} has {size} bytes"
    if fault is not None:
        raise CheckpointError(f"it is damaged: {fault}")
    return stored
