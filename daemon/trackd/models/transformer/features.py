"""The features of the window's observations, on the device: written once, in place, and read by index.

Letters: S slots, W observations per slot, F feature width; m observations that are written or read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.device_points import ARMED, device_point
from trackd.models.encoder.upload import IndexUpload
from trackd.tracking.window import FIRST_CAPACITY, Slots


class FeatureStore:
    """One tensor (S, W, F) with the layout of `RollingWindow`'s rings; it grows by doubling.

    Features of observations that left the window may remain: read only the places that the window holds.
    """

    def __init__(self, window_size: int, width: int, device: torch.device, apart: bool = False) -> None:
        """Allocate room for a few tracks.

        Args:
            window_size: W.
            width: F.
            device: where the features are.
            apart: as on CUDA: indices are copied to other buffers.
        """
        self.width = width
        self.device = device
        self._features = self._allocate(FIRST_CAPACITY, window_size)
        self._indices = IndexUpload(device, 2, apart)
        self._observed = torch.empty((0, width), device=device)  # (≥ m, F) the observations of a frame

    @property
    def capacity(self) -> int:
        """Number of slots that fit now."""
        return self._features.shape[0]

    @torch.inference_mode()
    def reserve(self, slots: int, rows: int) -> None:
        """Make room, so that `write` allocates nothing.

        Args:
            slots: the slots below this number may be written.
            rows: at most so many observations are written at once.

        Raises:
            RuntimeError: the device's memory is full; nothing has changed.
        """
        if slots > self.capacity:
            grown = self._allocate(max(slots, 2 * self.capacity), self._features.shape[1])
            grown[: self.capacity] = self._features
            self._features = grown
        if rows > len(self._observed):
            self._observed = torch.empty((max(rows, 2 * len(self._observed)), self.width), device=self.device)
        self._indices.reserve(rows)

    @torch.inference_mode()
    def write(
        self, slots: Slots, positions: NDArray[np.int64], features: Tensor, rows: NDArray[np.integer[Any]]
    ) -> None:
        """Write rows (m,) of features (n, F) to ring positions (m,) of slots (m,)."""
        self.reserve(int(slots.max(initial=-1)) + 1, len(slots))
        if ARMED:
            device_point("update")
        places, chosen = self._indices(self.places(slots, positions), rows)
        observed = self._observed[: len(slots)]
        torch.index_select(features, 0, chosen, out=observed)
        self._flat.index_copy_(0, places, observed)

    def places(self, slots: Slots, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices for `gather` of ring positions (m,) of slots (m,); valid until the next write."""
        return slots.astype(np.int64) * self._features.shape[1] + positions

    @torch.inference_mode()
    def gather(self, places: Tensor, out: Tensor) -> None:
        """Copy the features at places (m,), a tensor on the device, into out (m, F)."""
        torch.index_select(self._flat, 0, places, out=out)

    @torch.inference_mode()
    def resize(self, source: NDArray[np.int64]) -> None:
        """Rearrange the rings as `RollingWindow.resize` does; `source` is its result.

        Raises:
            RuntimeError: the device's memory is full; nothing has changed.
        """
        old = self._features
        n_slots = min(len(source), self.capacity)
        resized = self._allocate(max(len(source), FIRST_CAPACITY), source.shape[1])
        places = torch.from_numpy(np.maximum(source[:n_slots], 0)).to(self.device)  # −1: empty, may hold anything
        resized[:n_slots] = torch.take_along_dim(old[:n_slots], places.unsqueeze(2), dim=1)
        self._features = resized

    @torch.inference_mode()
    def snapshot(self, slots: Slots) -> NDArray[np.float32]:
        """The rings of these slots, (len(slots), W, F), on the host. Allocates nothing on the device."""
        rings = self._features[: int(slots.max(initial=-1)) + 1].cpu()
        return rings.numpy()[slots]

    @torch.inference_mode()
    def restore(self, rings: NDArray[np.float32], slots: Slots) -> None:
        """Replace the state by that of a snapshot, including W."""
        top = int(slots.max(initial=-1)) + 1
        restored = self._allocate(max(top, FIRST_CAPACITY), rings.shape[1])
        index = torch.from_numpy(slots.astype(np.int64)).to(self.device)
        restored.index_copy_(0, index, torch.tensor(rings, dtype=torch.float32, device=self.device))
        self._features = restored

    @property
    def _flat(self) -> Tensor:
        return self._features.view(-1, self.width)

    def _allocate(self, capacity: int, window_size: int) -> Tensor:
        with torch.inference_mode():
            return torch.zeros((capacity, window_size, self.width), device=self.device)
