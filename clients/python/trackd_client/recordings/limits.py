"""The limits of a recording, checked against what its files claim before anything of that size is allocated."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trackd_client.configuration import Section
from trackd_client.recordings.recording import RecordingError

# Whole numbers in files are exact as floats up to here, and fit into 64 bits.
MAX_WHOLE = 2**53


class RecordingLimits(Section):
    """The keys of `limits` that apply to recordings, with their defaults.

    `where` is the file, and if known the row or element, for error texts.
    """

    recording_frames: Annotated[int, Field(ge=1)] = 10_000_000
    image_pixels: Annotated[int, Field(ge=1)] = 67_108_864
    instances: Annotated[int, Field(ge=1)] = 4096

    def check_frames(self, n_frames: int, where: object) -> int:
        """Return a number of frames, or one past a frame number, that a file claims.

        Raises:
            RecordingError: it exceeds `recording_frames`.
        """
        if n_frames > self.recording_frames:
            raise RecordingError(
                f"{where}: claims {_shown(n_frames)} frames; limits.recording_frames is {self.recording_frames}"
            )
        return n_frames

    def check_shape(self, shape: tuple[int, ...], where: object) -> tuple[int, ...]:
        """Return the shape (h, w) or (h, w, …) of an image that a file claims.

        Raises:
            RecordingError: a side is below 1, or h · w exceeds `image_pixels`.
        """
        if min(shape, default=0) < 1 or math.prod(shape[:2]) > self.image_pixels:
            sides = " × ".join(_shown(side) for side in shape)
            raise RecordingError(
                f"{where}: claims an image of {sides}; sides are ≥ 1, and limits.image_pixels is {self.image_pixels}"
            )
        return shape

    def check_crowds(self, frame_index: NDArray[np.integer[Any]], where: object) -> None:
        """Check the number of instances in each frame.

        Args:
            frame_index: (n,) of each instance, rising.
            where: for the error text.

        Raises:
            RecordingError: a frame has more than `instances`.
        """
        # In rising order, rows that are `instances` apart belong to one frame only if there are too many in between.
        crowded = np.flatnonzero(frame_index[self.instances :] == frame_index[: -self.instances])
        if len(crowded):
            raise RecordingError(
                f"{where}: frame {frame_index[crowded[0]]} has more than {self.instances} instances (limits.instances)"
            )


DEFAULT_LIMITS = RecordingLimits()


def _shown(value: int) -> str:
    """A number for an error text, which may have hundreds of digits in the file."""
    return str(value) if abs(value) < 10**20 else f"{float(value):.3g}" if abs(value) < 10**308 else "over 1e308"
