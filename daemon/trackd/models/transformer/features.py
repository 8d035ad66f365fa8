"""The features of the window's observations, on the device: written once, in place, and read by index.

Letters: S slots, W observations per slot, F feature width; m observations that are written or read.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.tracking.window import FIRST_CAPACITY, Slots


class FeatureStore:
    """One tensor (S, W, F) with the layout of `RollingWindow`'s rings; it grows by doubling.

    Features of observations that left the window may remain: read only the places that the window holds.
    """

    def __init__(self, window_size: int, width: int, device: torch.device) -> None:
        self.width = width
        self.device = device
        self._features = self._allocate(FIRST_CAPACITY, window_size)

    @property
    def capacity(self) -> int:
        """Number of slots that fit now."""
        return self._features.shape[0]

    @torch.inference_mode()
    def write(self, slots: Slots, positions: NDArray[np.int64], features: Tensor) -> None:
        """Write features (m, F) to ring positions (m,) of slots (m,)."""
        top = int(slots.max(initial=-1)) + 1
        if top > self.capacity:
            self._grow(max(top, 2 * self.capacity))
        places = torch.from_numpy(self.places(slots, positions)).to(self.device)
        self._flat.index_copy_(0, places, features)

    def places(self, slots: Slots, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The indices for `gather` of ring positions (m,) of slots (m,); valid until the next write."""
        return slots.astype(np.int64) * self._features.shape[1] + positions

    @torch.inference_mode()
    def gather(self, places: Tensor, out: Tensor) -> None:
        """Copy the features at places (m,), a tensor on the device, into out (m, F)."""
        torch.index_select(self._flat, 0, places, out=out)

    @torch.inference_mode()
    def resize(self, source: NDArray[np.int64]) -> None:
        """Rearrange the rings as `RollingWindow.resize` did; `source` is its result."""
        old = self._features
        n_slots = min(len(source), self.capacity)
        self._features = self._allocate(max(len(source), FIRST_CAPACITY), source.shape[1])
        places = torch.from_numpy(np.maximum(source[:n_slots], 0)).to(self.device)  # −1: empty, may hold anything
        self._features[:n_slots] = torch.take_along_dim(old[:n_slots], places.unsqueeze(2), dim=1)

    @torch.inference_mode()
    def snapshot(self, slots: Slots) -> NDArray[np.float32]:
        """The rings of these slots, (len(slots), W, F), on the host."""
        rings = self._features.index_select(0, torch.from_numpy(slots.astype(np.int64)).to(self.device))
        copied: NDArray[np.float32] = rings.cpu().numpy()
        return copied

    @torch.inference_mode()
    def restore(self, rings: NDArray[np.float32], slots: Slots) -> None:
        """Replace the state by that of a snapshot, including W."""
        top = int(slots.max(initial=-1)) + 1
        self._features = self._allocate(max(top, FIRST_CAPACITY), rings.shape[1])
        index = torch.from_numpy(slots.astype(np.int64)).to(self.device)
        self._features.index_copy_(0, index, torch.tensor(rings, dtype=torch.float32, device=self.device))

    @property
    def _flat(self) -> Tensor:
        return self._features.view(-1, self.width)

    def _allocate(self, capacity: int, window_size: int) -> Tensor:
        with torch.inference_mode():
            return torch.zeros((capacity, window_size, self.width), device=self.device)

    def _grow(self, capacity: int) -> None:
        old = self._features
        self._features = self._allocate(capacity, old.shape[1])
        self._features[: len(old)] = old
