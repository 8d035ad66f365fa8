"""Read a Lightning checkpoint without running any code in it.

A `.ckpt` is a zip whose `data.pkl` may name any importable function, and Python's pickle would call it. Here a pickle
can use only the names in `_Unpickler.find_class`: immutable builtins, and inert stand-ins that store their arguments.
The stand-ins are created for each file. Tensors are unpickled as references; only the requested ones are read.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from trackd.models.checkpoint.opcodes import check_opcodes
from trackd.models.errors import CheckpointError

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_OMEGACONF = {
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.nodes", "AnyNode"),
    ("omegaconf.base", "ContainerMetadata"),
    ("omegaconf.base", "Metadata"),
}
_CONTENT_KEYS = {"DictConfig": "_content", "ListConfig": "_content", "AnyNode": "_val"}


@dataclass(frozen=True, slots=True)
class StorageType:
    """A stand-in for `torch.FloatStorage` and the like."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """A file in the zip that holds numbers."""

    dtype: torch.dtype
    key: str
    numel: int


class TensorReference:
    """A stand-in for a tensor: the arguments of `torch._utils._rebuild_tensor_v2`."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: object, offset: object, shape: object, stride: object, *_: object) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride


class Inert:
    """A stand-in for an object of a config library: it stores its state."""

    kind = ""
    state: object = None

    def __new__(cls, *_: object) -> Self:
        """Accept any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        # Subclasses for this file only: a pickle can set attributes on classes, and these are discarded.
        self._inert = {key: type(key[1], (Inert,), {"kind": key[1]}) for key in _OMEGACONF}
        self._tensor = type("TensorReference", (TensorReference,), {"__slots__": ()})

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in self._inert:
            return self._inert[module, name]
        if module == "torch" and name in _DTYPES:
            return StorageType(_DTYPES[name])
        match module, name:
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
            case "collections", "OrderedDict":
                return OrderedDict
            case "collections", "defaultdict":
                return defaultdict
            case ("builtins" | "__builtin__", "dict"):
                return dict
            case ("typing", "Any") | ("builtins" | "__builtin__", "list" | "int" | "long"):  # markers in metadata
                return name
        raise CheckpointError(f"it names {module}.{name}, which no DREEM checkpoint needs; nothing in it was run")

    def persistent_load(self, pid: object) -> Storage:
        match pid:
            case ("storage", StorageType(dtype=dtype), str(key), str(), int(numel)):
                return Storage(dtype, key, numel)
        raise CheckpointError(f"it holds a storage record that isn't PyTorch's: {_short(pid)}")


class LightningArchive:
    """An open `.ckpt`: its contents, and its tensors on request.

    Raises:
        CheckpointError: the file isn't a PyTorch zip, is damaged, or names anything but data.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # a malformed directory raises many types
            raise CheckpointError(
                "it is not a PyTorch checkpoint, or is cut short; a Lightning .ckpt is a zip file"
            ) from error
        self._root = self._find_root()
        if f"{self._root}byteorder" in self._zip.namelist() and self._read("byteorder") != sys.byteorder.encode():
            raise CheckpointError(f"its byte order must be {sys.byteorder}, this machine's")
        data = self._read("data.pkl")
        try:
            check_opcodes(data)
            contents = _Unpickler(data).load()
        except CheckpointError:
            raise
        except Exception as error:  # a malformed pickle raises many types
            raise CheckpointError(f"its data.pkl is damaged or hostile: {_short(error)}") from error
        if not isinstance(contents, Mapping):
            raise CheckpointError(f"it must hold a dict with state_dict; got {type(contents).__name__}")
        self.contents: Mapping[object, object] = contents

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def tensors(self, values: Mapping[object, object]) -> dict[str, Tensor]:
        """Read the tensors of a state dict.

        Raises:
            CheckpointError: an entry isn't a named tensor that lies inside its storage.
        """
        storages: dict[str, Tensor] = {}
        out = {}
        for key, value in values.items():
            if not isinstance(key, str) or not isinstance(value, TensorReference):
                raise CheckpointError(f"its state_dict must map names to tensors; {_short(key)} is something else")
            out[key] = self._tensor(key, value, storages)
        return out

    def _tensor(self, key: str, reference: TensorReference, storages: dict[str, Tensor]) -> Tensor:
        storage, offset = reference.storage, reference.offset
        shape, stride = _lengths(reference.shape), _lengths(reference.stride)
        if not isinstance(storage, Storage) or not isinstance(offset, int) or shape is None or stride is None:
            raise CheckpointError(f"its tensor {key} is described in an unknown way")
        if storage.key not in storages:
            data = self._read(f"data/{storage.key}")
            if storage.numel * storage.dtype.itemsize > len(data) or storage.numel < 0:
                raise CheckpointError(f"its tensor {key} needs {storage.numel} numbers; the file holds fewer")
            buffer = torch.frombuffer(bytearray(data), dtype=storage.dtype) if data else torch.empty(0)
            storages[storage.key] = buffer.to(storage.dtype)[: storage.numel]
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=False))
        if len(shape) != len(stride) or offset < 0 or (0 not in shape and last >= storage.numel):
            raise CheckpointError(f"its tensor {key} of shape {shape} reaches past its {storage.numel} numbers")
        return storages[storage.key].as_strided(shape, stride, offset).clone(memory_format=torch.contiguous_format)

    def _find_root(self) -> str:
        names = self._zip.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError("it is a TorchScript program, not a checkpoint of weights")
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(f"a PyTorch checkpoint has one data.pkl; got {len(roots)}")
        return roots[0]

    def _read(self, name: str) -> bytes:
        try:
            if self._zip.getinfo(self._root + name).compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(f"its {name} is compressed; PyTorch stores plain bytes")
            return self._zip.read(self._root + name)
        except CheckpointError:
            raise
        except Exception as error:  # a malformed entry raises many types
            raise CheckpointError(f"its {name} is missing or damaged: {_short(error)}") from error


def unwrap(value: object) -> object:
    """The content of a config stand-in, whose items are still stand-ins; other values unchanged."""
    if isinstance(value, Inert) and isinstance(value.state, Mapping):
        return value.state.get(_CONTENT_KEYS.get(value.kind, ""), value)
    return value


def plain(value: object, where: str, depth: int = 0) -> object:
    """Convert config stand-ins to plain values: dicts, lists, strings, numbers, booleans and None.

    Args:
        value: from the unpickler.
        where: its name, for errors.
        depth: nesting depth of the value.

    Raises:
        CheckpointError: an unresolved interpolation, or something that isn't a config value.
    """
    if depth > 32:
        raise CheckpointError(f"{where} is nested too deeply")
    if isinstance(value, Inert):
        value = unwrap(value)
        if isinstance(value, Inert):
            raise CheckpointError(f"{where} is a {value.kind} object without a value")
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise CheckpointError(f"{where} is {value!r}, which only the training config could resolve")
        return plain(value, where, depth + 1)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CheckpointError(f"{where} must be a config value; got {type(value).__name__}")


def _lengths(value: object) -> tuple[int, ...] | None:
    if isinstance(value, tuple) and all(isinstance(item, int) and item >= 0 for item in value):
        return value
    return None


def _short(value: object) -> str:
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."
