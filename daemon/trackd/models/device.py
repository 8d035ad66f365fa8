"""Where checkpoints run."""

from __future__ import annotations

import torch

from trackd_client.configuration import ConfigError


def resolve_device(asked: str) -> torch.device:
    """The device that `daemon.device` means on this machine.

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
