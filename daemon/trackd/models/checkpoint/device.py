"""The device, number type and threads that checkpoints run with."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_MAX_THREADS = 8  # the upper limit of the default of `daemon.encoder_threads`
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # of a processor, as Linux names them


def resolve_device(asked: str) -> torch.device:
    """The device that `daemon.device` selects on this machine.

    Args:
        asked: "auto" (CUDA where there is one, else the CPU), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        ConfigError: this machine, or this build of torch, has no such device.
    """
    if asked == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = device.index or 0
        if number >= count:
            there = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
            raise ConfigError(
                f"daemon.device must be auto, cpu or a CUDA device of this machine ({there}); got {asked!r}"
            )
        return torch.device("cuda", number)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"daemon.device must be auto or cpu on a machine without MPS; got {asked!r}")
    return device


def resolve_encoder_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The number type that `daemon.encoder_dtype` selects on this device.

    Args:
        asked: "auto" (bfloat16 if the device supports it natively, else float32), "float32" or "bfloat16".
        device: where checkpoints run.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and bool(_processor_flags() & _BFLOAT16_FLAGS)
    if asked == "bfloat16" and not native:
        logger.warning("daemon.encoder_dtype: bfloat16 is emulated on this %s and slow; use float32", device.type)
    return torch.bfloat16 if asked == "bfloat16" or (asked == "auto" and native) else torch.float32


def resolve_encoder_threads(asked: int | None, device: torch.device) -> int:
    """The number of threads that encode a frame's crops.

    Args:
        asked: `daemon.encoder_threads`; None: one per core that the process may use, at most 8.
        device: where checkpoints run; other devices than the CPU use one thread.
    """
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_THREADS) if asked is None else asked


def _processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
