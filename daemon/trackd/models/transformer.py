"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.boxes import normalise_boxes
from trackd.models.crops import crop_shape, cut_crops, keep_near, stretched
from trackd.models.errors import FrameError
from trackd.models.features import FeatureStore
from trackd.models.requirements import Requirements
from trackd.models.upload import FrameUpload
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Scorer, Scores
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.checkpoint import LoadedModel

_CROP_NUMBERS = 1 << 24  # in one piece of work: bounds what a frame of many or large crops takes (64 MiB)


class TransformerScorer(Scorer):
    """Logits of every instance against every observation in the window.

    An observation's feature is computed once, when it is made, and stays on the device until it leaves the window.
    """

    boxes_from = "crop"

    def __init__(self, loaded: LoadedModel, settings: StreamSettings) -> None:
        """Begin with an empty window.

        Args:
            loaded: the checkpoint, on the device that is to be used; shared with other streams.
            settings: of the stream.
        """
        # Torch takes the process's number of threads up in a thread only when it is first asked for there; until
        # then matrix products and convolutions on the engine's thread would use every core.
        torch.get_num_threads()
        self._model = loaded.model
        self._requirements = Requirements.of(loaded.architecture)
        self._device = next(loaded.model.parameters()).device
        self._upload = FrameUpload(self._device)
        self._store = FeatureStore(settings.tracker.window_size, loaded.architecture.feature_dim, self._device)
        self.configure(settings)

    def configure(self, settings: StreamSettings) -> None:
        """Take up what says how crops are made from the next frame on."""
        dataset = settings.dataset
        self.needs_image = settings.tracker.use_vis_feats
        self._crop_shape = crop_shape(dataset.crop_width_height, dataset.padding)
        self._unit_range = dataset.pixel_range == "unit"
        self._radius_px = dataset.dilation_radius_px

    @torch.inference_mode()
    def encode(self, image: Image | None, instances: Instances) -> Tensor:
        """Features (n, F) on the device: zeros where the row is not valid, or crops are not used.

        Raises:
            FrameError: no image where one is needed, one of the wrong channels, or a frame of unknown size.
        """
        rows = _valid_rows(instances)
        features = torch.zeros((len(instances), self._store.width), device=self._device)
        if not len(rows):
            return features
        if self.needs_image and image is None:
            raise FrameError(
                "the model looks at crops and the frame came without an image; send images, or set "
                "tracker.use_vis_feats to false"
            )
        if instances.frame_shape is None:
            raise FrameError("the model needs the frame's size; send images with the frames, or frame_shape with open")
        if not self.needs_image or image is None:
            return features
        self._requirements.check_image(image.shape)
        frame = self._upload(image)
        if frame.dtype is torch.uint16 and not self._unit_range:
            frame = stretched(frame)
        boxes = instances.boxes[rows, : self._requirements.crops]
        at_once = max(
            1, _CROP_NUMBERS // (boxes.shape[1] * self._requirements.channels * int(np.prod(self._crop_shape)))
        )
        keypoints = None if instances.keypoints is None or not self._radius_px else instances.keypoints[rows]
        parts = [
            self._encode_part(frame, boxes[i : i + at_once], None if keypoints is None else keypoints[i : i + at_once])
            for i in range(0, len(rows), at_once)
        ]
        encoded = parts[0] if len(parts) == 1 else torch.cat(parts)
        if instances.all_valid:
            return encoded
        features[torch.from_numpy(rows).to(self._device)] = encoded
        return features

    def pack(self, features: Any) -> State | None:
        return None if features is None else {"features": features.cpu().numpy()}

    def unpack(self, packed: State | None) -> Tensor | None:
        return None if packed is None else torch.from_numpy(packed["features"]).to(self._device)

    def _encode_part(
        self, frame: Tensor, boxes: NDArray[np.float32], keypoints: NDArray[np.floating[Any]] | None
    ) -> Tensor:
        crops = cut_crops(frame, boxes, self._crop_shape, self._requirements.channels, unit_range=self._unit_range)
        if keypoints is not None:
            crops = keep_near(crops, boxes, keypoints, self._radius_px)
        # A NaN from extreme weights must not get into the window, where it would spoil every later frame.
        return torch.nan_to_num(self._model.encode_crops(crops), nan=0.0, posinf=0.0, neginf=0.0)

    @torch.inference_mode()
    def score(
        self,
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        window: RollingWindow,
        live_slots: Slots,
        complete: bool,
    ) -> Scores:
        held = window.frame_index[live_slots]  # (M, W)
        tracks, positions = np.nonzero(held >= 0)
        frames, ranks = np.unique(held[tracks, positions], return_inverse=True)
        order = np.argsort(ranks, kind="stable")
        slots, positions, ranks = live_slots[tracks[order]], positions[order], ranks[order]
        n_frames = len(frames) + 1

        # Instances attend to each other, so those that are not valid must not even be there.
        rows = _valid_rows(instances)
        query = features if instances.all_valid else features[torch.from_numpy(rows).to(self._device)]
        tokens = torch.cat((self._store.read(slots, positions), query))  # (R + q, F)
        boxes = np.concatenate((window.boxes[slots, positions], instances.boxes[rows]))
        t = np.concatenate((ranks, np.full(len(rows), n_frames - 1)))
        logits = self._model.associate(
            tokens,
            self._normalised(boxes, instances.frame_shape),
            torch.from_numpy(t).to(self._device),
            n_query=len(rows),
        )
        found = logits[:, : len(slots)].cpu().numpy()
        if len(rows) < len(instances):
            found, known = np.zeros((len(instances), len(slots)), np.float32), found
            found[rows] = known
        return Scores(found, slots, ranks.astype(np.int64), n_frames)

    def _normalised(self, boxes: NDArray[np.float32], frame_shape: tuple[int, int] | None) -> Tensor:
        assert frame_shape is not None  # `encode` has seen to it
        height, width = frame_shape
        return normalise_boxes(torch.from_numpy(boxes), width, height).to(self._device)

    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        born: NDArray[np.bool_],
    ) -> None:
        if len(slots):
            with torch.inference_mode():
                seen = features.index_select(0, torch.from_numpy(rows.astype(np.int64)).to(self._device))
            self._store.write(slots, positions, seen)

    def end(self, slots: Slots) -> None:
        """Nothing: the window names no place in these slots until they are written again."""

    def clear(self) -> None:
        """Nothing, as `end`."""

    def resize(self, source: NDArray[np.int64]) -> None:
        self._store.resize(source)

    def snapshot(self, slots: Slots) -> State:
        return {"features": self._store.snapshot(slots)}

    def restore(self, state: State, slots: Slots) -> None:
        self._store.restore(np.asarray(state["features"], np.float32), slots)


def _valid_rows(instances: Instances) -> NDArray[np.intp]:
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)
