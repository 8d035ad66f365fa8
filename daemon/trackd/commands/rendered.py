"""`track --render`: the recording with its ids and trails, as an .mp4."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from trackd.commands.observer import Observer
from trackd.engine.outcome import output_record
from trackd.outputs.render import RenderedVideo
from trackd.outputs.writer import set_earlier_aside
from trackd_client.protocol import Tracks
from trackd_client.recordings.recording import RecordedFrame, Recording

logger = logging.getLogger(__name__)


class RenderedTracks(Observer):
    """Writes `<out_dir>/<name>.mp4`. A frame without an image is drawn on black, if the frame's size is known."""

    def __init__(self, out_dir: Path, recording: Recording) -> None:
        self._video = RenderedVideo(out_dir / f"{recording.name}.mp4", recording.fps, recording.skeleton)
        self._shape = recording.frame_shape
        self._warned = False
        self._drawn = False
        self.failed = False  # it could not be written

    @property
    def path(self) -> Path:
        """The finished file."""
        return self._video.path

    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        """Draw one frame."""
        if self.failed:
            return
        record = output_record(tracks, frame.detections)
        image = frame.image
        if image is None and self._shape is not None:
            image = np.zeros(self._shape[:2], np.uint8)
        if record is None or image is None:
            if not self._warned:
                logger.warning("%s is not rendered: the recording has neither images nor a frame size", self.path)
                self._warned = True
            return
        try:
            self._video.write(image, record)
        except OSError as error:
            self._fail(error)
        self._drawn = not self.failed

    def close(self) -> None:
        """Finish the file."""
        try:
            if self._drawn:
                set_earlier_aside(self.path)
            self._video.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failed = True
        logger.error("%s could not be written: %s", self.path, error)
