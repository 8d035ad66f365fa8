"""How a camera is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trackd_client.errors import TrackdError

JPEG_QUALITY = 90
OUTPUTS = ("slp", "csv")


class Images(StrEnum):
    """How images reach the daemon."""

    AUTO = "auto"  # shared memory if the daemon is on this host, else JPEG
    SHARED = "shared"
    JPEG = "jpeg"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """The settings of a camera."""

    stream: str | None = None  # the stream's name; by the source if None
    config: Mapping[str, Any] = field(default_factory=dict)  # for `open`: sections tracker, stream, dataset
    model: str | None = None
    takeover: bool = False
    images: Images = Images.AUTO
    jpeg_quality: int = JPEG_QUALITY
    record: Path | None = None  # the folder of the video
    outputs: tuple[str, ...] = OUTPUTS  # that the daemon writes, with `record`


def images_for(wanted: Images, ingest: str | None) -> Images:
    """Return how images are sent to a daemon: `auto` becomes `shared` or `jpeg`, by the address of its ingest.

    None is a fleet: its streams move from host to host.
    """
    if wanted is not Images.AUTO:
        return wanted
    if ingest is None:
        return Images.JPEG
    is_here = ingest.startswith("ipc://") or urlsplit(ingest).hostname in ("127.0.0.1", "localhost", "::1")
    return Images.SHARED if is_here and Path("/dev/shm").is_dir() else Images.JPEG


def stream_config(options: CameraOptions, animals: int | None) -> dict[str, Any]:
    """Return the configuration of the stream: that of the options, the number of animals, and the outputs."""
    config = {section: dict(values) for section, values in options.config.items()}
    if animals is not None:
        config.setdefault("tracker", {}).setdefault("max_tracks", animals)
    if options.record is not None:
        config.setdefault("stream", {}).setdefault("outputs", list(options.outputs))
    return config


def checked_config(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of `--set`; `dataset.test_dataset` is `dataset` on the wire.

    Raises:
        TrackdError: a key is in no section that a stream has.
    """
    sections: dict[str, Any] = {}
    for name, values in tree.items():
        if name not in ("tracker", "stream", "dataset") or not isinstance(values, Mapping):
            raise TrackdError(
                f"--set {name}: a stream has the keys of tracker, stream and dataset.test_dataset, as in "
                f"--set tracker.max_gap_s=2"
            )
        sections[name] = dict(values.get("test_dataset", values)) if name == "dataset" else dict(values)
    return sections
