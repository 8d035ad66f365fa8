"""Upload of a frame to the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trackd_client.detections import Image


class FrameUpload:
    """Copies frames to the device through buffers that are reused while frames have the same shape.

    A received image is a read-only view of a message, at any alignment: it must be copied once before torch can use
    it. On CUDA the buffer on the host is pinned, so the transfer needs no further copy and is asynchronous; work on the
    frame is queued behind it. A frame waits only if the transfer of the previous one is not complete.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._staging = torch.empty(0, dtype=torch.uint8)
        self._frame = self._staging
        # Recorded behind the transfer: when it is complete, the staging buffer may be overwritten.
        self._sent = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def __call__(self, image: Image) -> Tensor:
        """The image (h, w) or (h, w, c), uint8 or uint16, on the device; valid until the next call."""
        dtype = torch.uint16 if image.dtype == np.uint16 else torch.uint8
        if tuple(self._staging.shape) != image.shape or self._staging.dtype is not dtype:
            self._staging = torch.empty(image.shape, dtype=dtype, pin_memory=self.device.type == "cuda")
            self._frame = self._staging
            if self.device.type != "cpu":
                self._frame = torch.empty(image.shape, dtype=dtype, device=self.device)
        if self._sent is not None:
            self._sent.synchronize()
        np.copyto(self._staging.numpy(), image)
        if self._frame is not self._staging:
            self._frame.copy_(self._staging, non_blocking=self._sent is not None)
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(self.device))
        return self._frame
