"""Videos that play in a browser: H.264 in an .mp4, encoded by the program that imageio-ffmpeg contains."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]  # (h, w, 3) BGR

_CLOSE_S = 600.0
_QUALITY = "20"  # x264's constant rate factor: 0 is lossless, 51 the worst


class H264Video:
    """A video that is encoded while frames are written. The pixels are 4:2:0, so that every browser plays them.

    An odd side gets a black row or column, since 4:2:0 needs even ones.

    Args:
        path: of the file, which is replaced.
        fps: frames per second.
        size: (w, h) of every frame, pixels.

    Raises:
        OSError: the encoder cannot be started.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        import imageio_ffmpeg

        self.path = path
        self.n_frames = 0
        self._size = size
        self._padding = tuple(side % 2 for side in size)
        width, height = (side + odd for side, odd in zip(size, self._padding, strict=True))
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error",
            "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}",
            "-r", str(Fraction(fps).limit_denominator(1_000_000)), "-i", "-",
            # The colours of high definition, which players assume for large pictures, named so that none has to guess.
            "-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_primaries", "bt709",
            "-color_trc", "bt709", "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", _QUALITY,
            "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path.absolute()),
        ]  # fmt: skip
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- `_end` closes it
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # an interrupt ends this process, which then finishes the file
            )
        except BaseException:
            self._errors.close()
            raise
        self._closed = False

    def write(self, canvas: Canvas) -> None:
        """Add a frame.

        Raises:
            OSError: the file cannot be written, or the frame has another size.
        """
        if canvas.shape[1::-1] != self._size:
            raise OSError(f"{self.path}: a frame of {canvas.shape[1]} × {canvas.shape[0]} in a video of {self._size}")
        if any(self._padding):
            canvas = np.pad(canvas, ((0, self._padding[1]), (0, self._padding[0]), (0, 0)))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(canvas).data)
        except BrokenPipeError:
            raise OSError(f"{self.path}: {self._end() or 'the encoder has ended'}") from None
        self.n_frames += 1

    def close(self) -> None:
        """Finish the file; a second call does nothing.

        Raises:
            OSError: it could not be finished.
        """
        if self._closed:
            return
        reason = self._end()
        if reason is not None:
            raise OSError(f"{self.path}: {reason}")

    def _end(self) -> str | None:
        """Wait for the encoder; return why it has failed."""
        self._closed = True
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            lines = self._errors.read(4000).decode(errors="replace").split("\n")
        if code == 0:
            return None
        return " ".join(line.strip() for line in lines if line.strip())[:300] or f"the encoder ended with code {code}"
