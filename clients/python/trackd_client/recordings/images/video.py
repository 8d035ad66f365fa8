"""A video file, read forwards with OpenCV, with one image in memory."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.recordings.images.source import ImageLayout, ImageSource
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

# Up to this many frames, decoding is faster than a seek, which starts at an earlier keyframe.
MAX_FRAMES_SKIPPED_BY_DECODING = 32


class VideoFile(ImageSource):
    """The images of a video: gray (h, w) if the first frame's channels are equal, else RGB (h, w, 3), uint8.

    OpenCV decodes a frame in about half the time of PyAV, and does not buffer earlier frames.
    """

    def __init__(self, path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        super().__init__(path, limits)
        self._next = 0  # the frame that the decoder returns next
        self._gray = False
        self._n_missing = 0  # frames since the last image
        self._end: int | None = None  # the images have ended before this frame, whatever the header claims

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def read(self, frame_index: int) -> Image | None:
        """The image of a frame, or None if the video ends before it.

        Raises:
            RecordingError: the video cannot be opened again to decode it from the start.
        """
        if self._end is not None and frame_index >= self._end:
            return None
        self._go_to(frame_index)
        ok, image = self._capture.read()
        if not ok:
            # A damaged frame may be followed by good ones. After so many, one of them by a seek, the video has ended;
            # else each further frame of its header's count would be looked for from the start.
            self._n_missing += 1
            if self._n_missing > MAX_FRAMES_SKIPPED_BY_DECODING + 1:
                self._end = frame_index
            return None
        self._n_missing = 0
        self._next += 1
        return self._channels(np.asarray(image, np.uint8))

    def open(self) -> ImageLayout:
        """The layout, from the header and the first frame.

        Raises:
            RecordingError: the file is missing, not a video, or claims more than the limits or than its own size.
        """
        if not self.path.is_file():
            raise RecordingError(f"{self.path}: no such video")
        self._capture = cv2.VideoCapture()
        self._n_missing, self._end = 0, None
        self._restart()
        shape = tuple(int(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if all(shape):
            self.limits.check_shape(shape, self.path)
        ok, first = self._capture.read()
        if not ok:
            raise RecordingError(f"{self.path}: not a video that OpenCV can decode")
        self._gray = bool(np.array_equal(first[..., 0], first[..., -1]))
        self._next = 1
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        return ImageLayout(
            stop=self._claimed() or self._counted(),
            fps=fps if np.isfinite(fps) and fps > 0 else None,
            frame_shape=first.shape[:2] if self._gray else first.shape,
        )

    def _restart(self) -> None:
        self._capture.release()
        if not self._capture.open(str(self.path)):
            raise RecordingError(f"{self.path}: not a video that OpenCV can open")
        self._next = 0

    def _claimed(self) -> int:
        """The header's number of frames; 0 for a container without an index, which reports 0 or below."""
        claimed = float(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        n_frames = int(claimed) if np.isfinite(claimed) and claimed > 0 else 0
        size = self.path.stat().st_size
        if n_frames > size:  # a frame needs a byte at least
            raise RecordingError(f"{self.path}: claims {n_frames} frames, and the file has {size} bytes")
        return self.limits.check_frames(n_frames, self.path)

    def _counted(self) -> int:
        while self._capture.grab():
            self._next += 1
            self.limits.check_frames(self._next, self.path)
        return self._next

    def _go_to(self, frame_index: int) -> None:
        if not 0 <= frame_index - self._next <= MAX_FRAMES_SKIPPED_BY_DECODING:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame_index)
            self._next = frame_index
            if round(self._capture.get(cv2.CAP_PROP_POS_FRAMES)) != frame_index:
                # Without a usable index, a seek ends at another frame. Decoding from the start is slow but exact.
                logger.info("seek is inexact; decoding from the start video=%s frame=%d", self.path, frame_index)
                self._restart()
        while self._next < frame_index and self._capture.grab():
            self._next += 1

    def _channels(self, image: NDArray[np.uint8]) -> Image:
        if self._gray:
            return np.ascontiguousarray(image[..., 0])
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
