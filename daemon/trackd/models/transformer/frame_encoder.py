"""From frames to features: a stream's crops through a checkpoint's encoder, and their form in the journal.

Letters: n instances of a frame, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.device_points import ARMED, device_point
from trackd.models.device_faults import within_memory
from trackd.models.encoder.device_jpeg import decoded_shape
from trackd.models.encoder.upload import to_device
from trackd.models.errors import DeviceMemoryError, FrameError
from trackd.models.transformer.crop_batch import CropBatch
from trackd.models.transformer.frame_crops import FrameCrops
from trackd.models.transformer.requirements import Requirements
from trackd.models.transformer.reuse import Encoded, FeatureReuse
from trackd.tracking.instances import Instances
from trackd.tracking.window import State
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.transformer.loaded_model import LoadedModel

Result = TypeVar("Result")

_FEWER = 8  # times fewer crops are in memory at once in each further attempt to encode a frame
_MOST_PARTS = _FEWER**6  # then every piece has the fewest crops


class FrameEncoder:
    """Computes the features of the instances of one stream's frames.

    With `encode_every` a feature may be that of the same instance in the last frame that `remember` was given.

    If the device's memory is full, buffers are freed and the work is done once more, a single frame's crops then in
    smaller and smaller pieces.
    """

    def __init__(self, loaded: LoadedModel, settings: StreamSettings) -> None:
        """Start without a last frame.

        Args:
            loaded: the checkpoint, on the device that runs it; shared with other streams.
            settings: of the stream.
        """
        self._model = loaded.model
        self._release = loaded.release
        self._device = next(loaded.model.parameters()).device
        self._width = loaded.architecture.feature_dim
        self._requirements = Requirements.of(loaded.architecture)
        self._crops = FrameCrops(self._requirements, settings.dataset, self._device)
        self._dataset = settings.dataset
        self._reuse: FeatureReuse | None = None  # None: every crop is encoded
        self._decode = loaded.decode_jpeg
        self._copies: torch.cuda.Stream | None = None  # of features to the host, beside the steps
        self.configure(settings)

    def configure(self, settings: StreamSettings) -> None:
        """Use other crop settings from the next frame on."""
        self.needs_image = settings.tracker.use_vis_feats
        self._crops.configure(settings.dataset)
        self._configure_reuse(settings)

    def _configure_reuse(self, settings: StreamSettings) -> None:
        tracker = settings.tracker
        if tracker.encode_every == 1 or not self.needs_image:
            self._reuse = None
        elif self._reuse is None or settings.dataset != self._dataset:  # other crops have other features
            self._reuse = FeatureReuse(tracker.encode_every, tracker.encode_change, self._device)
        else:
            self._reuse.every, self._reuse.change = tracker.encode_every, tracker.encode_change
        self._dataset = settings.dataset

    @classmethod
    def encode(
        cls,
        encoders: Sequence[FrameEncoder],
        images: Sequence[Image | EncodedImage | None],
        instances: Sequence[Instances],
    ) -> list[Tensor | Encoded]:
        """Compute the features of one frame of each stream in one pass of the model; changes no encoder.

        Args:
            encoders: of the streams, all of one model.
            images: the frames; a file where the model decodes them. None: without one.
            instances: of the frames.

        Returns:
            (n, F) of each frame on the device, zeros for rows that are not valid or if crops are not used; with
            `encode_every` in an `Encoded`.

        Raises:
            FrameError: an image is needed and missing or has the wrong channels, or the frame's size is unknown.
            DecodeError: the device cannot decode an image.
            DeviceMemoryError: the device's memory does not suffice; for one frame: not even for a few crops at once.
            DeviceLostError: the device does not answer any more.
        """
        # A thread uses the process's number of torch threads only after its first call of `get_num_threads`. Without
        # this call, matrix products and convolutions on this thread would use every core.
        torch.get_num_threads()
        for encoder, image, one in zip(encoders, images, instances, strict=True):
            encoder._check(image, one)
        if not encoders:
            return []
        first, part = encoders[0], 1
        while True:
            try:
                return first._within_memory(partial(cls._encode, encoders, images, instances, part))
            except DeviceMemoryError:
                if len(encoders) > 1 or part >= _MOST_PARTS:
                    raise
            part *= _FEWER

    @staticmethod
    @torch.inference_mode()
    def _encode(
        encoders: Sequence[FrameEncoder],
        images: Sequence[Image | EncodedImage | None],
        instances: Sequence[Instances],
        part: int,
    ) -> list[Tensor | Encoded]:
        """Encode the crops of some frames, of which a `part`-th of the usual number is in memory at once."""
        batch = CropBatch(encoders[0]._model, part)
        features: list[Tensor | Encoded] = []
        for encoder, image, one in zip(encoders, encoders[0]._decoded(images), instances, strict=True):
            rows = valid_rows(one)
            whole = torch.zeros((len(one), encoder._width), device=encoder._device)
            if encoder._reuse is not None:
                features.append(encoder._encode_changed(encoder._reuse, batch, image, one, rows, whole))
                continue
            features.append(whole)
            if encoder.needs_image and len(rows):
                at = None if one.all_valid else to_device(rows, encoder._device)
                assert image is not None, "`_check` refuses a missing image"
                for first, crops in encoder._crops.cut(image, one, rows, batch):
                    last = first + len(crops)
                    batch.add(crops, whole, slice(first, last) if at is None else at[first:last])
        batch.flush()
        return features

    def _encode_changed(
        self,
        reuse: FeatureReuse,
        batch: CropBatch,
        image: Image | Tensor | None,
        instances: Instances,
        rows: NDArray[np.intp],
        whole: Tensor,
    ) -> Encoded:
        """Queue the crops of one frame whose features are not those of the last frame; `whole` is (n, F)."""
        encoded = Encoded.empty(whole, self._requirements.crops)
        if len(rows):
            candidates = reuse.candidates(instances)
            assert image is not None, "`_check` refuses a missing image"
            for first, crops in self._crops.cut(image, instances, rows, batch):
                own = rows[first : first + len(crops)]
                changed = np.flatnonzero(reuse.reuse(encoded, candidates, own, crops))
                if len(changed):
                    queued = crops if len(changed) == len(own) else crops[to_device(changed, self._device)]
                    batch.add(queued, whole, to_device(own[changed], self._device))
        return encoded

    def _decoded(self, images: Sequence[Image | EncodedImage | None]) -> list[Image | Tensor | None]:
        """Return the images, with the pixels on the device of those that are files."""
        files = [image for image in images if isinstance(image, EncodedImage)]
        if not files:
            return [image for image in images if not isinstance(image, EncodedImage)]
        assert self._decode is not None, "`decodes_jpeg` says whether files are given"
        pixels = iter(self._decode(files))
        return [next(pixels) if isinstance(image, EncodedImage) else image for image in images]

    def _check(self, image: Image | EncodedImage | None, instances: Instances) -> None:
        if not instances.valid.any():
            return
        if self.needs_image and image is None:
            raise FrameError(
                "the model uses crops and the frame is without an image; "
                "send images, or set tracker.use_vis_feats to false"
            )
        if instances.frame_shape is None:
            raise FrameError(
                "the model needs the frame's size; send images with the frames, or frame_shape with open "
                "(a recording that is tracked needs its video)"
            )
        if self.needs_image and image is not None:
            shape = decoded_shape(image) if isinstance(image, EncodedImage) else image.shape
            self._requirements.check_image(shape)

    def pack(self, features: Tensor | Encoded | None) -> Callable[[], State | None]:
        """Start to convert features to plain arrays for the journal; return a function that waits for them."""
        if features is None:
            return lambda: None
        others: State = {}
        if isinstance(features, Encoded):
            tensors, others = {"features": features.features, "looks": features.looks}, {"ages": features.ages}
        else:
            tensors = {"features": features}
        if self._device.type != "cuda":
            return lambda: self._within_memory(lambda: _packed({n: t.cpu() for n, t in tensors.items()}, others))
        return self._within_memory(lambda: self._copy_back(tensors, others))

    def _copy_back(self, tensors: Mapping[str, Tensor], others: State) -> Callable[[], State]:
        """Start to copy features to the host, beside the pass of the transformer; return a function that ends it."""
        if self._copies is None:
            self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        hosts = {name: torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for name, each in tensors.items()}
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            for name, each in tensors.items():
                hosts[name].copy_(each, non_blocking=True)
            copied.record(self._copies)
        for each in tensors.values():
            each.record_stream(self._copies)  # their memory is not used again before the copy is complete

        def end() -> State:
            self._within_memory(copied.synchronize)
            return _packed({name: host.clone() for name, host in hosts.items()}, others)

        return end

    def unpack(self, packed: State | None) -> Tensor | Encoded | None:
        """Convert the result of `pack` back."""
        if packed is None:
            return None
        if "ages" in packed:
            return self._within_memory(lambda: Encoded.unpack(packed, self._device))
        return self._within_memory(lambda: torch.from_numpy(packed["features"]).to(self._device))

    def remember(self, instances: Instances, features: Tensor | Encoded | None) -> None:
        """Keep a tracked frame: the next one may use its features again."""
        if self._reuse is not None and isinstance(features, Encoded):
            self._reuse.remember(instances, features)

    def snapshot(self) -> State | None:
        """Return the last frame; None if there is none, or if no feature is used again."""
        return None if self._reuse is None else self._reuse.snapshot()

    def restore(self, state: State | None) -> None:
        """Restore the result of `snapshot`."""
        reuse = self._reuse
        if reuse is not None:
            self._within_memory(lambda: reuse.restore(state))

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        return within_memory(self._device, work, self._release)


def valid_rows(instances: Instances) -> NDArray[np.intp]:
    """The ascending rows of the valid instances."""
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)


def _packed(tensors: Mapping[str, Tensor], others: State) -> State:
    if ARMED:
        device_point("copy")
    return {**{name: each.numpy() for name, each in tensors.items()}, **others}
