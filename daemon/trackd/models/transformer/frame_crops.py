"""The crops of one stream's frames, cut on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.encoder.crops import crop_shape, cut_crops, keep_near, stretched
from trackd.models.encoder.upload import FrameUpload
from trackd.models.transformer.crop_batch import CropBatch
from trackd.models.transformer.requirements import Requirements
from trackd.tracking.instances import Instances
from trackd_client.detections import Image

if TYPE_CHECKING:
    from trackd_client.recordings.config import LiveDataset


class FrameCrops:
    """Cuts crops as a stream's settings and a checkpoint's requirements say."""

    def __init__(self, requirements: Requirements, dataset: LiveDataset, device: torch.device) -> None:
        """Start.

        Args:
            requirements: of the checkpoint.
            dataset: of the stream's settings.
            device: of the crops.
        """
        self._requirements = requirements
        self._upload = FrameUpload(device)
        self.configure(dataset)

    def configure(self, dataset: LiveDataset) -> None:
        """Use other settings from the next frame on."""
        self._shape = crop_shape(dataset.crop_width_height, dataset.padding)
        self._unit_range = dataset.pixel_range == "unit"
        self._radius_px = dataset.dilation_radius_px

    def cut(
        self, image: Image | Tensor, instances: Instances, rows: NDArray[np.intp], batch: CropBatch
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the crops of one frame in pieces for the batch, each with its first position in `rows`."""
        needs = self._requirements
        frame = image if isinstance(image, Tensor) else self._upload(image)
        if frame.dtype is torch.uint16 and not self._unit_range:
            frame = stretched(frame)
        boxes = instances.boxes[rows, : needs.crops]
        keypoints = None if instances.keypoints is None or not self._radius_px else instances.keypoints[rows]
        first = 0
        for size in batch.sizes(len(rows), boxes.shape[1] * needs.channels * int(np.prod(self._shape))):
            piece = boxes[first : first + size]
            crops = cut_crops(frame, piece, self._shape, needs.channels, unit_range=self._unit_range)
            if keypoints is not None:
                crops = keep_near(crops, piece, keypoints[first : first + size], self._radius_px)
            yield first, crops
            first += size
