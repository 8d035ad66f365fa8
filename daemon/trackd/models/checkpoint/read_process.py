"""The reading process of a checkpoint: it finds the config and the tensors in a file that may be hostile.

    python -S -P -m trackd.models.checkpoint.read_process lightning|safetensors < FILE

writes one JSON value a line: `{"tensors": n, "model_cfg": …}` and n lists in the order of `StoredTensor`'s fields, or
`{"error": "…"}`. The process limits its own time and memory before it reads the first byte, and ends with its parent.
It imports no more than it needs: neither torch nor numpy, nor anything outside the standard library.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO

from trackd.models.checkpoint.safetensors_file import read_safetensors
from trackd.models.checkpoint.stored_tensor import StoredTensor
from trackd.models.checkpoint.unpickling import LightningArchive, plain, unwrap
from trackd.models.errors import CheckpointError

# Constants, not settings: what is read here has a few hundred kilobytes in every checkpoint, whatever the size of its
# weights. It takes less than 0.1 s and 20 MiB.
CPU_S = 2
WALL_S = 60  # on a machine that is busy, or for a slow disk
MEMORY_BYTES = 512 * 1024 * 1024
MOST_CONFIG_BYTES = 256 * 1024
TOO_MUCH_MEMORY = f"reading it takes more than {MEMORY_BYTES >> 20} MiB; it is damaged or hostile"
_PREFIX = "model."
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the checkpoint at the standard input."""
    _limit()
    gc.disable()  # nothing is freed before the end
    with open(0, "rb", closefd=False) as file:
        data = memoryview("".join(line + "\n" for line in answer(file, sys.argv[1])).encode())
    while data:
        data = data[os.write(1, data) :]
    os._exit(0)  # nested objects would take long to free


def answer(file: BinaryIO, kind: str) -> list[str]:
    """Return the lines for a file: its config and its tensors, or one error."""
    error = ""
    try:
        return list(_lines(file, kind))
    except CheckpointError as fault:
        error = str(fault)
    except OSError as fault:
        error = f"it could not be read: {fault.strerror}"
    except MemoryError:
        error = TOO_MUCH_MEMORY
    except (ValueError, RecursionError) as fault:
        error = f"it is damaged or hostile: {' '.join(str(fault).split())[:120]}"
    return [json.dumps({"error": error})]


def _limit() -> None:
    if sys.platform == "linux":
        # The kernel kills this process when its parent ends, however it ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(WALL_S)
    for what, limits in (
        (resource.RLIMIT_CPU, (CPU_S, CPU_S + 1)),  # SIGXCPU, which tells the cause, then SIGKILL
        (resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        (resource.RLIMIT_FSIZE, (0, 0)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        with suppress(ValueError, OSError):  # a system without this limit, or with a lower one
            resource.setrlimit(what, limits)
    os.nice(5)  # the streams of a daemon come first


def _lines(file: BinaryIO, kind: str) -> Iterator[str]:
    tensors, cfg = read_safetensors(file) if kind == "safetensors" else _read_lightning(file)
    first = json.dumps({"tensors": len(tensors), "model_cfg": cfg})
    if len(first) > MOST_CONFIG_BYTES:
        raise CheckpointError(f"its model_cfg must have at most {MOST_CONFIG_BYTES} bytes; got {len(first)}")
    yield first
    for name, stored in tensors.items():
        yield json.dumps((name, *stored[1:]))


def _read_lightning(file: BinaryIO) -> tuple[dict[str, StoredTensor], object]:
    archive = LightningArchive(file)
    state_dict = archive.contents.get("state_dict")
    hyper_parameters = unwrap(archive.contents.get("hyper_parameters"))
    if not isinstance(state_dict, Mapping) or not isinstance(hyper_parameters, Mapping):
        raise CheckpointError("a DREEM checkpoint must hold state_dict and hyper_parameters; one is absent")
    if "model_cfg" not in hyper_parameters:
        raise CheckpointError("its hyper_parameters must hold model_cfg, as DREEM writes them; it is absent")
    cfg = plain(hyper_parameters["model_cfg"], "model_cfg")
    tensors = archive.tensors(state_dict)
    for key in tensors:
        if not key.startswith(_PREFIX):
            raise CheckpointError(f"its tensors must be named {_PREFIX}*; got {key}")
    return {key.removeprefix(_PREFIX): stored for key, stored in tensors.items()}, cfg


if __name__ == "__main__":
    main()
