"""The device of the parity tests: TRACKD_TEST_DEVICE, else the CPU; benchmarks/gpu.py sets it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from trackd.models.checkpoint.load import load_checkpoint
from trackd.models.transformer.loaded_model import LoadedModel

DEVICE = torch.device(os.environ.get("TRACKD_TEST_DEVICE", "cpu"))


def loaded_for_tests(path: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load a checkpoint and prepare it on the device, as the daemon does."""
    loaded = load_checkpoint(path)
    loaded.model.to(DEVICE)
    loaded.model.prepare(dtype, threads=1)
    return loaded
