"""Features of the last frame that are used again, where an instance hardly moved and looks the same: `encode_every`.

A look is a crop in 8 x 8 cells. Two looks are compared by their mean absolute difference, relative to the standard
deviation of the encoded one: `encode_change` is the largest that counts as the same, whatever the contrast is.

Letters: n instances of a frame, m of the last one, k crops, A anchors, C channels of an anchor, F feature width;
L = A times the cells of a look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.encoder.upload import to_device
from trackd.tracking.instances import Instances
from trackd.tracking.rules.iou import anchor_iou
from trackd.tracking.window import State

SAME_PLACE = 0.7  # the least IoU of two crop boxes of one instance: it moved by at most 0.18 of the crop's side
NEAR = 0.5  # a box of this IoU is a second candidate: it is within a third of the side
MAX_PAIRS = 4_194_304  # of boxes that are compared; in a larger frame every crop is encoded
_CELLS = 8  # a look has 8 x 8 cells per anchor


@dataclass(slots=True, eq=False)
class Encoded:
    """The features of one frame, with what decides whether the next frame may use them again."""

    features: Tensor  # (n, F) on the device
    looks: Tensor  # (n, L) float16 on the device: of the crop that was encoded, in this frame or an earlier one
    ages: NDArray[np.int32]  # (n,) frames since that crop; −1: the row has no feature

    @classmethod
    def empty(cls, features: Tensor, n_anchors: int) -> Encoded:
        """Return a frame none of whose crops has been looked at yet."""
        n = len(features)
        looks = torch.zeros((n, n_anchors * _CELLS**2), dtype=torch.float16, device=features.device)
        return cls(features, looks, np.full(n, -1, np.int32))

    def pack(self) -> State:
        """Convert to plain arrays for the journal."""
        return {"features": self.features.cpu().numpy(), "looks": self.looks.cpu().numpy(), "ages": self.ages}

    @classmethod
    def unpack(cls, packed: State, device: torch.device) -> Encoded:
        """Convert the result of `pack` back."""
        features, looks = (torch.from_numpy(packed[name]).to(device) for name in ("features", "looks"))
        return cls(features, looks, packed["ages"])


def looks_of(crops: Tensor, n_anchors: int) -> Tensor:
    """Compute what is compared of crops (k, A C, h, w): the mean of each cell over pixels and channels, (k, L)."""
    k, channels, h, w = crops.shape
    grey = crops.reshape(k, n_anchors, channels // n_anchors, h, w).mean(dim=2)
    return F.adaptive_avg_pool2d(grey, _CELLS).flatten(1).to(torch.float16)


class FeatureReuse:
    """The last tracked frame of a stream, and which of its features the next frame may use.

    `encode` reads it and `update` replaces it, so a frame that is not tracked changes nothing. All of it is in the
    journal's frames and in the snapshot: a replay has the same state after each frame.
    """

    def __init__(self, every: int, change: float, device: torch.device) -> None:
        """Start without a last frame.

        Args:
            every: a feature is used in at most this many frames in a row, that of its crop included; at least 2.
            change: the largest difference of two looks that count as the same.
            device: of the features.
        """
        self.every = every
        self.change = change
        self._device = device
        self._boxes = np.empty((0, 1, 4), np.float32)  # (m, A, 4)
        self._last: Encoded | None = None

    def candidates(self, instances: Instances) -> NDArray[np.intp]:
        """Return the row of the last frame that is certainly the same instance by its place, (n,); −1: there is none.

        It is certain if the two boxes overlap by `SAME_PLACE`, and no other box of the two frames overlaps one of them
        by `NEAR`. A row whose feature has been used `every` times is no candidate.
        """
        boxes, before, last = instances.boxes, self._boxes, self._last
        n, m = len(boxes), len(before)
        if last is None or not n or not m or n * m > MAX_PAIRS:
            return np.full(n, -1, np.intp)
        overlap = anchor_iou(boxes, before)
        best = overlap.argmax(axis=1)
        near = overlap >= NEAR
        certain = overlap[np.arange(n), best] >= SAME_PLACE
        certain &= (near.sum(axis=1) == 1) & (near.sum(axis=0)[best] == 1)
        certain &= (last.ages[best] >= 0) & (last.ages[best] < self.every - 1)
        return np.where(certain, best, -1)

    def reuse(
        self, encoded: Encoded, candidates: NDArray[np.intp], rows: NDArray[np.intp], crops: Tensor
    ) -> NDArray[np.bool_]:
        """Give the crops that look as their candidates the features of these.

        Args:
            encoded: of the frame; its rows are written.
            candidates: (n,) of the frame.
            rows: (k,) the instances of the crops.
            crops: (k, A C, h, w).

        Returns:
            (k,) which crops must be encoded.
        """
        looks = looks_of(crops, encoded.looks.shape[1] // _CELLS**2)
        encoded.looks[self._index(rows)] = looks
        encoded.ages[rows] = 0
        changed = np.ones(len(rows), bool)
        asked = np.flatnonzero(candidates[rows] >= 0)
        if self._last is None or not len(asked):
            return changed
        before = self._last.looks[self._index(candidates[rows[asked]])].float()
        difference = (looks[self._index(asked)].float() - before).abs().mean(dim=1)
        same = difference <= self.change * before.std(dim=1, correction=0)
        kept = asked[same.cpu().numpy()]  # one wait for the device
        if len(kept):
            to, sources = self._index(rows[kept]), candidates[rows[kept]]
            at = self._index(sources)
            encoded.features[to] = self._last.features[at]
            encoded.looks[to] = self._last.looks[at]  # the crop that was encoded: small differences do not add up
            encoded.ages[rows[kept]] = self._last.ages[sources] + 1
            changed[kept] = False
        return changed

    def remember(self, instances: Instances, encoded: Encoded) -> None:
        """Replace the last frame."""
        self._boxes = instances.boxes
        self._last = encoded

    def snapshot(self) -> State | None:
        """Return the last frame; None if there is none."""
        return None if self._last is None else {"boxes": self._boxes, **self._last.pack()}

    def restore(self, state: State | None) -> None:
        """Restore the result of `snapshot`."""
        self._last = None
        if state is not None:
            self._boxes, self._last = state["boxes"], Encoded.unpack(state, self._device)

    def _index(self, rows: NDArray[np.intp]) -> Tensor:
        return to_device(rows, self._device)
