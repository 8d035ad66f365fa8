"""JPEG files decoded on the device: by nvJPEG, through torchvision where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trackd.models.device_faults import is_full
from trackd.models.errors import DecodeError
from trackd_client.configuration import ConfigError
from trackd_client.protocol import EncodedImage
from trackd_client.protocol.image_header import image_size

Decoder = Callable[..., Any]  # of a list of files, (bytes,) uint8 on the CPU, to a list of (C, H, W) uint8


def jpeg_decoder(device: torch.device) -> JpegDecoder:
    """Return the decoder of a device.

    Raises:
        ConfigError: the device is no CUDA device, or torchvision is missing or cannot be used.
    """
    if device.type != "cuda":
        raise ConfigError(f"daemon.decode_on_device must be false where checkpoints run on {device}; it needs CUDA")
    try:
        decode_jpeg = importlib.import_module("torchvision.io").decode_jpeg
    except Exception as error:  # a build for another torch raises RuntimeError or OSError
        text = f"{type(error).__name__}: {error}".split("\n")[0]
        raise ConfigError(
            f"daemon.decode_on_device must be false without a torchvision that fits torch {torch.__version__}: {text}"
        ) from None
    return JpegDecoder(device, decode_jpeg)


class JpegDecoder:
    """Decodes the JPEG files of several frames in one call."""

    def __init__(self, device: torch.device, decode: Decoder) -> None:
        """Decode nothing yet.

        Args:
            device: where the pixels are wanted.
            decode: `torchvision.io.decode_jpeg`.
        """
        self._device = device
        self._decode = decode

    def __call__(self, images: Sequence[EncodedImage]) -> list[Tensor]:
        """The pixels of each file on the device, (h, w) or (h, w, 3) uint8. Colour is RGB.

        Raises:
            DecodeError: a file cannot be decoded there; a CPU may be able to, or knows what is wrong with it.
            RuntimeError: of the device itself.
        """
        files = [torch.from_numpy(np.frombuffer(image.data, np.uint8).copy()) for image in images]
        try:
            decoded = self._decode(files, mode="UNCHANGED", device=self._device)
        except RuntimeError as error:
            if is_full(error) or "CUDA error" in str(error):
                raise
            raise DecodeError(str(error).split("\n")[0]) from None
        for image, pixels in zip(images, decoded, strict=True):
            if pixels.dtype is not torch.uint8 or tuple(pixels.shape[1:]) != decoded_shape(image)[:2]:
                raise DecodeError(f"decoded to {tuple(pixels.shape)} of {pixels.dtype}")
        return [pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous() for pixels in decoded]


def decoded_shape(image: EncodedImage) -> tuple[int, ...]:
    """Return the (h, w) or (h, w, channels) that a JPEG file's header states; (0, 0) if it has none."""
    size = image_size(image.encoding, image.data)
    if size is None:
        return 0, 0
    return size if size[2] > 1 else size[:2]
