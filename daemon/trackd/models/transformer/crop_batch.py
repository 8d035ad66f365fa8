"""Crops of several frames in one pass of the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trackd.device_points import ARMED, device_point

if TYPE_CHECKING:
    from trackd.models.transformer.gtr import GlobalTrackingTransformer

_CROP_NUMBERS = 1 << 24  # the most that wait at once: bounds the memory of many or large crops (64 MiB)
_LEAST_CROPS = 3  # of a piece: smaller ones could leave a single crop, which a CPU encodes in another way


class CropBatch:
    """Gathers crops, encodes those of one shape together, and writes each feature to its destination."""

    def __init__(self, model: GlobalTrackingTransformer, part: int = 1) -> None:
        """Start without crops.

        Args:
            model: encodes them.
            part: memory for one `part`-th of the usual number of crops is used at once.
        """
        self._model = model
        self.limit = _CROP_NUMBERS // part  # the most numbers of crops that wait
        self._waiting: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor | slice]]] = {}
        self._numbers = 0

    def sizes(self, n: int, numbers: int) -> list[int]:
        """The sizes of the pieces in which a frame's n crops are cut and added; as even as possible.

        Args:
            n: at least 1.
            numbers: of one crop.
        """
        count = -(-n // max(_LEAST_CROPS, self.limit // numbers))
        return [n // count + (i < n % count) for i in range(count)]

    def add(self, crops: Tensor, features: Tensor, rows: Tensor | slice) -> None:
        """Queue crops (k, C, h, w); `flush` encodes them at the latest, into rows (k,) of features (n, F)."""
        if self._numbers + crops.numel() > self.limit:
            self.flush()
        self._waiting.setdefault(crops.shape[1:], []).append((crops, features, rows))
        self._numbers += crops.numel()

    def flush(self) -> None:
        """Encode all queued crops."""
        for waiting in self._waiting.values():
            if ARMED:
                device_point("encode")
            waiting.sort(key=lambda piece: len(piece[0]) == 1)  # a frame's only crop goes last
            crops = waiting[0][0] if len(waiting) == 1 else torch.cat([crops for crops, _, _ in waiting])
            lone = sum(len(crops) == 1 for crops, _, _ in waiting) if crops.device.type == "cpu" else 0
            encoded = self._model.encode_crops(crops, lone)
            # A NaN from extreme weights must not enter the window, where it would affect every later frame.
            encoded = torch.nan_to_num(encoded, nan=0.0, posinf=0.0, neginf=0.0)
            parts = torch.split(encoded, [len(crops) for crops, _, _ in waiting])
            for part, (_, features, rows) in zip(parts, waiting, strict=True):
                features[rows] = part
        self._waiting.clear()
        self._numbers = 0
