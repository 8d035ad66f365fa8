"""`trackd render`: a video of a finished recording, with the boxes, poses, ids or names and trails of its tracks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track as progress

from trackd.outputs.recorded import records_of
from trackd.outputs.records import Floats
from trackd.outputs.render import RenderedVideo
from trackd.outputs.writer import set_earlier_aside
from trackd_client.configuration import ConfigError
from trackd_client.detections import Image
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of

MARGIN_PX = 20  # around the tracks, where the size of the frames is not known
LARGEST_SIDE_PX = 8192


def render(
    source: Path,
    target: Path,
    *,
    from_kind: str | None = None,
    video: Path | None = None,
    crop_size: int = 128,
    console: Console | None = None,
) -> int:
    """Draw the tracks of a recording on its images; on black where there is none. Return the number of frames.

    Args:
        source: a file or folder with one recording.
        target: the .mp4; an earlier file is renamed.
        from_kind: the format of `source`; None: by its name, or by what it holds.
        video: the images, in place of those that the file names.
        crop_size: the side of the box of an instance that has one node and no box, in pixels.
        console: for the progress bar; None: the terminal.

    Raises:
        ConfigError: a path is wrong, or there is nothing to draw.
        RecordingError: the recording cannot be read.
        OSError: the video cannot be written.
    """
    if target.suffix.lower() != ".mp4":
        raise ConfigError(f"{target}: its name must end in .mp4")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{target.absolute().parent} is not a folder")
    dataset = TestDataset(**dataset_of(source, kind=from_kind, video=video), crop_size=crop_size, chunk=False)
    recordings = open_recordings(dataset, DataloaderConfig(), Path())
    if len(recordings) != 1:
        raise ConfigError(f"{source} holds {len(recordings)} recordings; name one of them")
    (recording,) = recordings
    shape = recording.frame_shape
    if shape is None:
        recording.reads_images = False
        shape = _enclosing((record.boxes for _, record in records_of(recording, dataset)), source)
    written = 0
    black = np.zeros(shape[:2], np.uint8)
    with RenderedVideo(target, recording.fps, recording.skeleton) as rendered:
        frames = records_of(recording, dataset)
        for frame, record in progress(frames, "drawing", len(recording), console=console or Console(), transient=True):
            image: Image = black if frame.image is None else frame.image
            rendered.write(image, record)
            written += 1
        if written:
            set_earlier_aside(target)
    if not written:
        raise ConfigError(f"{source} has no frame")
    return written


def _enclosing(boxes: Iterable[Floats], source: Path) -> tuple[int, int]:
    """The size (h, w) of a picture that shows all boxes."""
    far = np.zeros(2)
    for each in boxes:
        finite = each[np.isfinite(each).all(axis=1)]
        far = np.maximum(far, finite[:, 2:].max(axis=0, initial=0))
    width, height = (int(np.ceil(side)) + MARGIN_PX for side in far)
    if max(width, height) > LARGEST_SIDE_PX:
        raise ConfigError(
            f"{source}: a picture of all tracks would be {width} × {height} pixels, more than {LARGEST_SIDE_PX}: give "
            "its --video"
        )
    return height, width
