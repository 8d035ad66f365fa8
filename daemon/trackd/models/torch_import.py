"""The import of torch in a process whose other threads must not wait."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
from pathlib import Path


def import_torch() -> None:
    """Import torch, and all modules that a checkpoint uses, without long holds of the interpreter lock.

    A plain `import torch` holds the lock for 0.2 to 0.5 s while its libraries are loaded and relocated, and again for
    each collection of garbage among its hundred thousand new objects. Here the libraries are loaded first, by a foreign
    call, which releases the lock; garbage is collected again afterwards, without these objects.
    """
    if "torch" in sys.modules:
        return
    _load_libraries()
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch

        import trackd.models.checkpoint.device
        import trackd.models.checkpoint.load
        import trackd.models.transformer.scorer  # noqa: F401

        torch.set_num_threads(1)  # beside the daemon's own threads, more of torch's are slower
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _load_libraries() -> None:
    spec = importlib.util.find_spec("torch")
    if sys.platform != "linux" or spec is None or not spec.submodule_search_locations:
        return
    library = Path(spec.submodule_search_locations[0]) / "lib" / "libtorch_python.so"
    dlopen = ctypes.CDLL(None).dlopen  # ctypes.CDLL(library) itself would hold the lock
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    dlopen(os.fsencode(library), os.RTLD_NOW | os.RTLD_LOCAL)  # if it fails, the import tells why
