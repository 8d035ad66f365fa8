"""Read a Lightning checkpoint without running any code in it.

A `.ckpt` is a zip whose `data.pkl` may name any importable function, and Python's pickle would call it. Here a pickle
can use only the names in `_Unpickler.find_class`: immutable builtins, and inert stand-ins that store their arguments.
The stand-ins are created for each file. Tensors are unpickled as references to places in the file.

A pickle can still take any time and memory, in C code that holds the interpreter lock: a few hundred bytes make nested
tuples whose hash takes hours, or ends the process. So only the reading process (read_process.py) uses this module.
It does not import torch.
"""

from __future__ import annotations

import io
import pickle
import reprlib
import sys
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from trackd.models.checkpoint.opcodes import check_opcodes
from trackd.models.checkpoint.stored_tensor import MOST_TENSORS, StoredTensor, lengths
from trackd.models.errors import CheckpointError

MOST_PICKLE_BYTES = 16 * 1024 * 1024  # of data.pkl; that of a checkpoint with 200 million parameters has 0.3 MB
_MOST_CONFIG_VALUES = 10_000
_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "BoolStorage": "bool",
}
_OMEGACONF = {
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.nodes", "AnyNode"),
    ("omegaconf.base", "ContainerMetadata"),
    ("omegaconf.base", "Metadata"),
}
_CONTENT_KEYS = {"DictConfig": "_content", "ListConfig": "_content", "AnyNode": "_val"}
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name


class StorageType(NamedTuple):
    """A stand-in for `torch.FloatStorage` and the like."""

    dtype: str


class Storage(NamedTuple):
    """A file in the zip that holds numbers."""

    dtype: str
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


class _Member(NamedTuple):
    start: int  # byte of the file
    size: int  # bytes
    crc: int


class LightningArchive:
    """An open `.ckpt`: its contents, and the places of its tensors on request.

    Args:
        file: its path, or the file opened for reading bytes.

    Raises:
        CheckpointError: the file isn't a PyTorch zip, is damaged, or names anything but data.
    """

    def __init__(self, file: Path | BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a malformed directory raises many types
            raise CheckpointError(
                "it is not a PyTorch checkpoint, or is cut short; a Lightning .ckpt is a zip file"
            ) from error
        assert self._zip.fp is not None
        self._file = self._zip.fp
        self._file_bytes = self._file.seek(0, io.SEEK_END)
        self._root = self._find_root()
        if f"{self._root}byteorder" in self._zip.namelist() and self._read("byteorder") != sys.byteorder.encode():
            raise CheckpointError(f"its byte order must be {sys.byteorder}, this machine's")
        data = self._read("data.pkl")
        try:
            check_opcodes(data)
            contents = _Unpickler(data).load()
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:  # a malformed pickle raises many types
            raise CheckpointError(f"its data.pkl is damaged or hostile: {_short(error)}") from error
        if not isinstance(contents, Mapping):
            raise CheckpointError(f"it must hold a map with state_dict; got {type(contents).__name__}")
        self.contents: Mapping[object, object] = contents

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def tensors(self, values: Mapping[object, object]) -> dict[str, StoredTensor]:
        """Find the tensors of a state dict.

        Raises:
            CheckpointError: an entry isn't a named tensor that lies inside its storage.
        """
        if len(values) > MOST_TENSORS:
            raise CheckpointError(f"its state_dict must hold at most {MOST_TENSORS} tensors; got {len(values)}")
        members: dict[str, _Member] = {}
        out = {}
        for key, value in values.items():
            if not isinstance(key, str) or not isinstance(value, TensorReference):
                raise CheckpointError(f"its state_dict must map names to tensors; {_short(key)} is something else")
            out[key] = self._tensor(key, value, members)
        return out

    def _tensor(self, key: str, reference: TensorReference, members: dict[str, _Member]) -> StoredTensor:
        storage, offset = reference.storage, reference.offset
        shape, stride = lengths(reference.shape), lengths(reference.stride)
        if not isinstance(storage, Storage) or not isinstance(offset, int) or shape is None or stride is None:
            raise CheckpointError(f"its tensor {_short(key)} is described in an unknown way")
        if storage.key not in members:
            members[storage.key] = self._locate(f"data/{storage.key}")
        stored = StoredTensor(key, storage.dtype, shape, stride, offset, storage.numel, *members[storage.key])
        fault = stored.fault(self._file_bytes)
        if fault is not None:
            raise CheckpointError(fault)
        return stored

    def _find_root(self) -> str:
        names = self._zip.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError("it is a TorchScript program, not a checkpoint of weights")
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(f"a PyTorch checkpoint has one data.pkl; got {len(roots)}")
        return roots[0]

    def _locate(self, name: str) -> _Member:
        """Find a member's bytes. What the zip's directory claims is compared with the size of the file."""
        try:
            info = self._zip.getinfo(self._root + name)
        except KeyError:
            raise CheckpointError(f"its {_short(name)} is missing") from None
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"its {_short(name)} is compressed; PyTorch stores plain bytes")
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4" or info.flag_bits & 1:
            raise CheckpointError(f"its {_short(name)} is damaged: it has no valid header")
        name_bytes, extra_bytes = header[26:28], header[28:30]
        start = info.header_offset + _LOCAL_HEADER
        start += int.from_bytes(name_bytes, "little") + int.from_bytes(extra_bytes, "little")
        if info.file_size != info.compress_size or start + info.file_size > self._file_bytes:
            raise CheckpointError(
                f"its {_short(name)} is damaged: it claims {info.file_size} bytes, more than the file holds"
            )
        return _Member(start, info.file_size, info.CRC)

    def _read(self, name: str) -> bytes:
        member = self._locate(name)
        if member.size > MOST_PICKLE_BYTES:
            raise CheckpointError(f"its {name} must have at most {MOST_PICKLE_BYTES} bytes; got {member.size}")
        self._file.seek(member.start)
        data = self._file.read(member.size)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise CheckpointError(f"its {name} is damaged: its checksum does not match")
        return data


def unwrap(value: object) -> object:
    """The content of a config stand-in, whose items are still stand-ins; other values unchanged."""
    if isinstance(value, Inert) and isinstance(value.state, Mapping):
        return value.state.get(_CONTENT_KEYS.get(value.kind, ""), value)
    return value


def plain(value: object, where: str) -> object:
    """Convert config stand-ins to plain values: dicts, lists, strings, numbers, booleans and None.

    Args:
        value: from the unpickler.
        where: its name, for errors.

    Raises:
        CheckpointError: an unresolved interpolation, something that isn't a config value, or too many values.
    """
    return _Config(where).plain(value, where, 0)


class _Config:
    """One config on its way to plain values. A list may be in several places, so the values are counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = 0

    def plain(self, value: object, where: str, depth: int) -> object:
        self._values += 1
        if depth > 32:
            raise CheckpointError(f"{_short(where)} is nested too deeply")
        if self._values > _MOST_CONFIG_VALUES:
            raise CheckpointError(f"{self._name} has more than {_MOST_CONFIG_VALUES} values")
        if isinstance(value, Inert):
            value = unwrap(value)
            if isinstance(value, Inert):
                raise CheckpointError(f"{_short(where)} is a {value.kind} object without a value")
            if isinstance(value, str) and ("${" in value or value == "???"):
                raise CheckpointError(
                    f"{_short(where)} is {_short(value)!r}, which only the training config could resolve"
                )
            return self.plain(value, where, depth + 1)
        if isinstance(value, Mapping):
            out = {}
            for key, item in value.items():
                if not (key is None or isinstance(key, str | int | float)):
                    raise CheckpointError(f"the keys of {_short(where)} must be texts; got {_short(key)}")
                out[str(key)] = self.plain(item, f"{where}.{_short(key)}", depth + 1)
            return out
        if isinstance(value, list | tuple):
            return [self.plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
        if value is None or isinstance(value, str | int | float | bool):
            return value
        raise CheckpointError(f"{_short(where)} must be a config value; got {type(value).__name__}")


def _short(value: object) -> str:
    """Return one short line; `reprlib` bounds the work for nested values."""
    text = str(value) if isinstance(value, str | Exception) else reprlib.repr(value)
    text = " ".join(text.split()) or type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."
