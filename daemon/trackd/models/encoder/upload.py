"""Copies of frames and of indices to the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd_client.detections import Image


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy a small array to the device. On CUDA nothing waits: it goes through pinned memory of torch's cache."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class _Sent:
    """Whether the last copy out of a pinned buffer is complete; elsewhere than on CUDA copies are complete at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @property
    def is_later(self) -> bool:
        """Whether copies are queued, and not complete at once."""
        return self._event is not None

    def wait(self) -> None:
        """Wait until the buffer may be overwritten."""
        if self._event is not None:
            self._event.synchronize()

    def note(self) -> None:
        """Note that a copy was queued."""
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(self._device))


class FrameUpload:
    """Copies frames to the device through buffers that are reused while frames have the same shape.

    A received image is a read-only view of a message, at any alignment: it must be copied once before torch can use
    it. On CUDA the buffer on the host is pinned, so the transfer needs no further copy and is asynchronous; work on the
    frame is queued behind it. A frame waits only if the transfer of the previous one is not complete. An image that is
    in pinned memory itself is transferred from there.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._staging = torch.empty(0, dtype=torch.uint8)
        self._frame = self._staging
        self._sent = _Sent(device)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Tensor:
        """The image (h, w) or (h, w, c), uint8 or uint16, on the device; valid until the next call."""
        dtype = torch.uint16 if image.dtype == np.uint16 else torch.uint8
        pinned = _pinned(image) if self.device.type == "cuda" else None
        if tuple(self._frame.shape) != image.shape or self._frame.dtype is not dtype:
            # Both are set when both exist: an allocation may fail.
            frame = torch.empty(image.shape, dtype=dtype, device=self.device)
            self._staging = frame if self.device.type == "cpu" else torch.empty(0, dtype=dtype)
            self._frame = frame
        if pinned is not None:
            self._frame.copy_(pinned, non_blocking=True)
            return self._frame
        if self._staging.shape != self._frame.shape:
            self._staging = torch.empty(image.shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        self._sent.wait()
        np.copyto(self._staging.numpy(), image)
        if self._frame is not self._staging:
            self._frame.copy_(self._staging, non_blocking=self._sent.is_later)
            self._sent.note()
        return self._frame


def _pinned(image: Image) -> Tensor | None:
    """Return a view of an image that is in pinned memory; None for any other."""
    if not (image.flags.writeable and image.flags.c_contiguous):
        return None
    tensor = torch.from_numpy(image)
    return tensor if tensor.is_pinned() else None


class IndexUpload:
    """Copies rows of indices to the device, into a buffer that is reused: after `reserve` nothing is allocated.

    Args:
        device: where they are used.
        rows: r.
        apart: as on CUDA: the buffer on the device is another one than that on the host.
    """

    def __init__(self, device: torch.device, rows: int, apart: bool = False) -> None:
        self._device = device
        self._apart = apart or device.type != "cpu"
        self._host = self._there = torch.empty((rows, 0), dtype=torch.int64)
        self._sent = _Sent(device)

    @torch.inference_mode()
    def reserve(self, count: int) -> None:
        """Make room for `count` indices in each row."""
        if count <= self._host.shape[1]:
            return
        shape = (self._host.shape[0], max(count, 2 * self._host.shape[1]))
        host = torch.empty(shape, dtype=torch.int64, pin_memory=self._device.type == "cuda")
        there = torch.empty(shape, dtype=torch.int64, device=self._device) if self._apart else host
        self._sent.wait()
        self._host, self._there = host, there

    @torch.inference_mode()
    def __call__(self, *rows: NDArray[np.integer[Any]]) -> tuple[Tensor, ...]:
        """The rows (m,) on the device; valid until the next call.

        Args:
            rows: r of them, of equal length; `reserve` has made room for them.
        """
        count = len(rows[0])
        self._sent.wait()
        host = self._host.numpy()
        for place, row in enumerate(rows):
            host[place, :count] = row
        if self._apart:
            self._there.copy_(self._host, non_blocking=self._sent.is_later)
            self._sent.note()
        return tuple(self._there[place, :count] for place in range(len(rows)))
