"""The video of a recording: one image for each frame number, written by a thread, playable also after a crash.

H.264 by the ffmpeg of imageio-ffmpeg, in fragments of a second: a file that is cut has all seconds before the last one.
ffmpeg is a process of its own and finishes the file when this program is killed. Without imageio-ffmpeg: MPEG-4 by
OpenCV, in Matroska, which can be read without its end.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from trackd_client.detections import Image
from trackd_client.errors import TrackdError

logger = logging.getLogger(__name__)

QUEUE_BYTES = 64 * 1024 * 1024  # of images that wait for the encoder
FINISH_S = 60.0
QUALITY = "20"  # x264's constant rate factor: below 18 is hard to tell from the original


class Encoder(Protocol):
    """Writes images of one shape."""

    def write(self, image: Image) -> None:
        """Append an image."""

    def close(self) -> None:
        """Finish the file."""


class Ffmpeg:
    """H.264 in fragmented MP4, by ffmpeg.

    Args:
        executable: of ffmpeg.
        path: of the file.
        shape: (h, w) or (h, w, 3) of the images.
        fps: frames per second.
    """

    def __init__(self, executable: str, path: Path, shape: tuple[int, ...], fps: float) -> None:
        self._path = path
        words = [
            executable, "-hide_banner", "-loglevel", "error", "-nostdin", "-n",
            "-f", "rawvideo", "-pix_fmt", "gray" if len(shape) == 2 else "rgb24",
            "-video_size", f"{shape[1]}x{shape[0]}", "-framerate", f"{fps:.6f}", "-i", "pipe:0",
            "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", QUALITY, "-g", str(max(1, round(fps))), "-bf", "0",
            "-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", str(path),
        ]  # fmt: skip
        # In a process group of its own: a Ctrl-C at the terminal ends this program, and ffmpeg finishes the file.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
        )

    def write(self, image: Image) -> None:
        """Append an image."""
        assert self._process.stdin is not None
        self._process.stdin.write(np.ascontiguousarray(image).data)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: ffmpeg has failed; the text is its own.
        """
        try:
            said = self._process.communicate(timeout=FINISH_S)[1]  # closes its input, at which it ends
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            said = b"it did not finish"
        if self._process.returncode:
            raise OSError(" ".join(said.decode(errors="replace").split())[-300:] or "ffmpeg failed")


class OpenCv:
    """MPEG-4 in Matroska, by OpenCV."""

    def __init__(self, path: Path, shape: tuple[int, ...], fps: float) -> None:
        size = (shape[1], shape[0])
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not self._writer.isOpened():
            raise OSError("OpenCV cannot write a video there")

    def write(self, image: Image) -> None:
        """Append an image."""
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


def ffmpeg_executable() -> str | None:
    """Return the ffmpeg of imageio-ffmpeg, or None if it is not installed."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def free_path(folder: Path, name: str, suffix: str) -> Path:
    """Return a path in a folder that does not exist yet: `name`, else `name-2`, `name-3` …, with the suffix."""
    path, number = folder / f"{name}{suffix}", 2
    while path.exists():
        path, number = folder / f"{name}-{number}{suffix}", number + 1
    return path


class RecordedVideo:
    """A video whose image k is the frame with the number k. Numbers that were lost have the image before them.

    Args:
        folder: made if absent; no file in it is replaced.
        name: of the file, without its suffix.
        shape: (h, w) or (h, w, 3) of the images.
        fps: frames per second.

    Raises:
        TrackdError: the folder or the file cannot be written.
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], fps: float) -> None:
        executable = ffmpeg_executable()
        self.n_frames = 0
        self._shape = shape
        self._failed: str | None = None
        image_bytes = int(np.prod(shape))
        self._queue: queue.Queue[tuple[int, Image] | None] = queue.Queue(max(2, QUEUE_BYTES // image_bytes))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError("it may not be written")
            self.path = free_path(folder, name, ".mp4" if executable else ".mkv")
            self._encoder: Any = (
                Ffmpeg(executable, self.path, shape, fps) if executable else OpenCv(self.path, shape, fps)
            )
        except OSError as error:
            raise TrackdError(f"--record {folder}: {error.strerror or error}") from None
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def write(self, index: int, image: Image) -> None:
        """Append the frame `index`; wait for the encoder if more than 64 MiB of images wait.

        Raises:
            TrackdError: the video cannot be written any more.
        """
        self._check()
        while True:
            try:
                self._queue.put((index, image), timeout=1.0)
                return
            except queue.Full:
                self._check()

    def close(self) -> None:
        """Write what waits, and finish the file.

        Raises:
            TrackdError: it could not be written.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if not self.n_frames:  # such a file is no video
            self.path.unlink(missing_ok=True)
            return
        self._check()

    def _check(self) -> None:
        if self._failed is not None:
            raise TrackdError(f"{self.path}: the video cannot be written: {self._failed}")

    def _run(self) -> None:
        before: Image | None = None
        try:
            while (item := self._queue.get()) is not None:
                index, image = item
                while self.n_frames < index:
                    self._encode(image if before is None else before)
                self._encode(image)
                before = image
        except OSError as error:
            self._failed = error.strerror or str(error)
        try:
            self._encoder.close()
        except OSError as error:
            self._failed = str(error)
        if self._failed is not None:
            self._empty()

    def _encode(self, image: Image) -> None:
        self._encoder.write(image)
        self.n_frames += 1

    def _empty(self) -> None:
        """Let a writer that waits go on: it then finds the failure."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
