"""What to do when a device fails: its memory is full, or it is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from trackd.device_points import ARMED, device_point
from trackd.models.device_figures import FIGURES
from trackd.models.errors import DeviceLostError, DeviceMemoryError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Of the device's own allocator, of the driver ("CUDA error: out of memory"), and of cuBLAS and cuDNN.
_FULL = ("out of memory", "_STATUS_ALLOC_FAILED")
_REFUSAL = getattr(torch, "AcceleratorError", RuntimeError)  # since torch 2.8


def within_memory(device: torch.device, work: Callable[[], Result], release: Callable[[], None]) -> Result:
    """Run work on the device. If the memory is full, release what can be made again, and run it once more.

    Args:
        device: where it runs.
        work: may be run twice; a run that fails must not have changed anything.
        release: deletes the caller's buffers.

    Raises:
        DeviceMemoryError: the memory does not suffice.
        DeviceLostError: the device does not answer any more.
    """
    full = ""
    for last in (False, True):
        try:
            return work()
        except RuntimeError as error:
            full = _full(error, device)
        # Not in the handler above: the error's traceback keeps the tensors of the work that failed.
        FIGURES.full += 1
        logger.debug("%s: %s", device, full)
        release()
        if not last:
            _empty_cache(device)
    raise DeviceMemoryError(f"the memory of {device} does not suffice: {full}")


def _full(error: RuntimeError, device: torch.device) -> str:
    """Return why the memory is full; raise any other error, as `DeviceLostError` if the device is lost."""
    text = str(error).strip().split("\n")[0]
    if is_full(error):
        return text
    if isinstance(error, _REFUSAL) or device.type == "cuda":
        raise_if_lost(device, text)
    raise error


def is_full(error: BaseException | None) -> bool:
    """Return whether an error says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL)


def raise_if_lost(device: torch.device, text: str) -> None:
    """Raise `DeviceLostError` if the device does not answer.

    A failed kernel, an ECC error or a card that fell off the bus ends the process's context: every later call fails
    with the same error. After other errors, such as a capture that is not possible, calls succeed.

    Args:
        device: to ask.
        text: of the error that led here.
    """
    try:
        if ARMED:
            device_point("probe")
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError as error:
        found = str(error).strip().split("\n")[0]
        raise DeviceLostError(f"{device} is lost: {text}" + ("" if found == text else f"; {found}")) from None


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
