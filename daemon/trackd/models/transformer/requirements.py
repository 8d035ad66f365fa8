"""The requirements of a checkpoint on a stream and its frames. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trackd.models.architecture import Architecture, EncoderKind
from trackd.models.errors import CheckpointError, FrameError
from trackd_client.configuration import ConfigError

if TYPE_CHECKING:
    from trackd.config import StreamSettings

MAX_CROP_SIDE_PX = 4096  # a client sets crop_size: it must not be able to exhaust the memory


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a checkpoint needs of instances."""

    anchors: int  # boxes per instance
    crops: int  # number of anchors that are cropped: a descriptor uses the first one only
    channels: int  # of one anchor's crop; if 1, the image's first channel is used

    @classmethod
    def of(cls, architecture: Architecture) -> Requirements:
        """The requirements of an architecture.

        Raises:
            CheckpointError: its channels are not a multiple of its anchors.
        """
        anchors = architecture.anchors
        if architecture.encoder.kind is EncoderKind.DESCRIPTOR:
            return cls(anchors, crops=1, channels=1)
        channels, left = divmod(architecture.crop_channels, anchors)
        if left:
            raise CheckpointError(
                f"encoder_cfg.in_chans must be a multiple of its {anchors} anchors; got {architecture.crop_channels}"
            )
        return cls(anchors, crops=anchors, channels=channels)

    def check_stream(self, settings: StreamSettings, frame_shape: Sequence[int] | None) -> None:
        """Check a stream's settings before its first frame.

        Args:
            settings: of the stream.
            frame_shape: (h, w) or (h, w, channels) if `open` stated it.

        Raises:
            ConfigError: a setting does not fit.
        """
        dataset = settings.dataset
        anchors = dataset.anchors
        n_anchors = len(anchors) if isinstance(anchors, list) else anchors if isinstance(anchors, int) else 1
        if n_anchors != self.anchors:
            raise ConfigError(
                f"anchors must be {self.anchors} for this model, in the order of its training; got {anchors!r}"
            )
        side = max(dataset.crop_width_height) + 2 * dataset.padding
        if side > MAX_CROP_SIDE_PX:
            raise ConfigError(f"crop_size + 2 padding must be at most {MAX_CROP_SIDE_PX} pixels; got {side}")
        if settings.tracker.use_vis_feats and frame_shape is not None and len(frame_shape) == 3:
            try:
                self.check_image(frame_shape)
            except FrameError as error:
                raise ConfigError(f"frame_shape: {error}") from None

    def check_image(self, shape: Sequence[int]) -> None:
        """Check the channels of an image of shape (h, w) or (h, w, channels).

        Raises:
            FrameError: another number of channels is needed.
        """
        channels = shape[2] if len(shape) == 3 else 1
        if self.channels != 1 and channels not in (1, self.channels):
            raise FrameError(f"the image must have 1 or {self.channels} channels for this model; got {channels}")
