"""What a camera can be: a number, a video file, an address or a GStreamer pipeline, opened by OpenCV."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

# FFmpeg writes its messages to stderr by itself; the errors of this program are one line. Read when cv2 opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from trackd_client.detections import Image

TIMEOUT_MS = 5000  # of an address: to open it, and for its next frame
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
MAX_FPS = 10_000.0


class SourceError(ValueError):
    """A source that cannot be opened; its text is one line that names it."""


class SourceKind(Enum):
    """The kinds of sources."""

    DEVICE = "camera"
    FILE = "video file"
    ADDRESS = "address"
    PIPELINE = "GStreamer pipeline"


@dataclass(frozen=True, slots=True)
class Source:
    """A source by its name."""

    text: str
    kind: SourceKind

    @property
    def is_live(self) -> bool:
        """Whether it gives frames at its own rate, without an end; a file is played."""
        return self.kind is not SourceKind.FILE

    @property
    def shown(self) -> str:
        """The name without a password, for messages and files; a file's is its absolute path."""
        if self.kind is SourceKind.FILE:
            return str(Path(self.text).resolve())
        return _CREDENTIALS.sub("", self.text)

    @property
    def stream(self) -> str:
        """A stream's name for it."""
        if self.kind is SourceKind.FILE:
            return _UNSAFE.sub("-", Path(self.text).stem)[:128] or "camera"
        if self.text.isdigit():
            return f"camera{self.text}"[:128]
        return "camera"


def parse_source(text: str) -> Source:
    """Return the source that a word of the command line names.

    Raises:
        SourceError: it names none.
    """
    if text.isdigit():
        return Source(text, SourceKind.DEVICE)
    if " ! " in text:
        return Source(text, SourceKind.PIPELINE)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    elif "://" in text:
        return Source(text, SourceKind.ADDRESS)
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise SourceError(
            f"{text}: no such file, and not a camera's number (0), an address (rtsp://…, http://…) or a GStreamer "
            f"pipeline (… ! appsink)"
        ) from None
    if stat.S_ISCHR(mode):
        return Source(text, SourceKind.DEVICE)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{text}: not a video file")
    return Source(text, SourceKind.FILE)


def open_capture(source: Source) -> Any:
    """Return an open `cv2.VideoCapture`.

    Raises:
        SourceError: OpenCV cannot open it; the text says what to check.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its lines about each backend that it tries
    try:
        capture = _open(source)
    except cv2.error as error:
        raise SourceError(f"{source.shown}: OpenCV cannot open it: {error.err}") from None
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{source.shown}: {_ADVICE[source.kind]}")
    return capture


_ADVICE = {
    SourceKind.DEVICE: "no such camera, or another program uses it, or this user may not (group video)",
    SourceKind.FILE: "not a video that OpenCV can open",
    SourceKind.ADDRESS: f"nothing that OpenCV can read answers there within {TIMEOUT_MS / 1000:g} s",
    SourceKind.PIPELINE: "GStreamer cannot start this pipeline; it must end in appsink",
}


def _open(source: Source) -> Any:
    if source.kind is SourceKind.PIPELINE:
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                f"{source.shown}: this OpenCV is built without GStreamer, as the packages of PyPI are; use a "
                f"distribution's (Debian: python3-opencv) or an address"
            )
        return cv2.VideoCapture(source.text, cv2.CAP_GSTREAMER)
    if source.kind is SourceKind.ADDRESS:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        return cv2.VideoCapture(source.text, cv2.CAP_FFMPEG, limits)
    if source.kind is SourceKind.DEVICE and source.text.isdigit():
        return cv2.VideoCapture(int(source.text))
    return cv2.VideoCapture(source.text)


def rate_of(capture: Any) -> float | None:
    """Return the frames per second that an open source claims; None if it claims none that is possible."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.01 <= fps <= MAX_FPS else None


def channels(image: Any, *, gray: bool) -> Image:
    """Return an image of OpenCV as RGB (h, w, 3), or gray (h, w)."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.ascontiguousarray(image.reshape(image.shape[:2]))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if gray else cv2.COLOR_BGR2RGB), np.uint8)


def spread_images(source: Source, n: int, *, gray: bool) -> list[Any]:
    """Return up to `n` images of a file, spread over its length, RGB or gray; [] if it has no known length."""
    capture = open_capture(source)
    try:
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        images = []
        for i in range(min(n, max(0, total))):
            capture.set(cv2.CAP_PROP_POS_FRAMES, i * total // n if total > n else i)
            ok, image = capture.read()
            if ok:
                images.append(channels(image, gray=gray))
        return images
    finally:
        capture.release()
