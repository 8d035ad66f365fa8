"""From the words of the command line to a camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trackd_client.apps.camera.grabber import Playing
from trackd_client.apps.camera.options import JPEG_QUALITY, CameraOptions, Images
from trackd_client.apps.camera.run import CameraCommand
from trackd_client.configuration import ConfigError


def camera_command(
    source: str,
    *,
    detector: str,
    detector_options: Sequence[str],
    animals: int | None,
    stream: str | None,
    overrides: Sequence[str],
    record: Path | None,
    outputs: str,
    speed: str,
    loop: bool,
    lossless: bool,
    gray: bool,
    images: str,
    no_images: bool,
    jpeg_quality: int | None,
    takeover: bool,
) -> CameraCommand:
    """Return the camera of a command line.

    Raises:
        ConfigError: an option has no such value.
    """
    return CameraCommand(
        source,
        detector,
        detector_options,
        animals,
        overrides,
        Playing(_speed(speed), loop, lossless, gray),
        CameraOptions(
            stream=stream,
            takeover=takeover,
            images=_images(images, no_images, jpeg_quality),
            jpeg_quality=JPEG_QUALITY if jpeg_quality is None else jpeg_quality,
            record=record,
            outputs=tuple(word.strip() for word in outputs.split(",") if word.strip()),
        ),
    )


def _speed(text: str) -> float:
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise ConfigError(f"--speed must be a number above 0, or max; got {text!r}")
    return speed


def _images(text: str, no_images: bool, jpeg_quality: int | None) -> Images:
    try:
        images = Images(text)
    except ValueError:
        raise ConfigError(f"--images is one of {', '.join(Images)}; got {text!r}") from None
    if no_images:
        return Images.NONE
    return Images.JPEG if jpeg_quality is not None and images is Images.AUTO else images
