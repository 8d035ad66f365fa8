"""The input of a writer: the stream's description once, and a record for each tracked frame.

Letters: n instances of a frame, k keypoints, h × w the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import IntArray, Skeleton

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The stream that a file belongs to."""

    name: str  # becomes the file's stem
    skeleton: Skeleton | None
    source: str | None  # path of the video, where there is one
    frame_shape: tuple[int, ...] | None  # (h, w) or (h, w, c)
    fps: float | None  # None: computed from the frames' time stamps


@dataclass(frozen=True, slots=True, eq=False)
class OutputRecord:
    """One tracked frame; all arrays share the first axis n, in the detector's order."""

    frame_index: int
    t_ns: int
    track_ids: NDArray[np.int32]  # (n,) -1 where unassigned
    track_scores: Floats  # (n,) 0 to 1, NaN where new or unassigned
    boxes: Floats  # (n, 4) x1 y1 x2 y2, pixels from 0
    keypoints: Floats | None = None  # (n, k, 2) x y, pixels, NaN where not visible
    keypoint_scores: Floats | None = None  # (n, k)
    scores: Floats | None = None  # (n,) the detector's
    masks: IntArray | None = None  # (h, w) label i + 1 is instance i
    parents: Mapping[int, int] = field(default_factory=dict)  # new track -> the track that divided into it
    names: Mapping[int, str] = field(default_factory=dict)  # track -> its name; the latest name of a track counts
    corrections: tuple[Mapping[str, Any], ...] = ()  # by people, between the last frame and this one
    merged_tracks: tuple[int, ...] = ()  # tracks that are in the box of another one
    merged_rows: tuple[int, ...] = ()  # parallel to merged_tracks: the row of that box

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""
        arrays: list[NDArray[Any] | None] = [self.masks, *(getattr(self, name) for name in ARRAYS)]
        return _OVERHEAD_BYTES + sum(array.nbytes for array in arrays if array is not None)


_OVERHEAD_BYTES = 1024  # of a record without its arrays
ARRAYS = ("track_ids", "track_scores", "boxes", "keypoints", "keypoint_scores", "scores")


def measured_fps(first: tuple[int, int], last: tuple[int, int]) -> float | None:
    """Frames per second from two (frame_index, t_ns), to a thousandth; None where they do not determine it."""
    frames, nanoseconds = last[0] - first[0], last[1] - first[1]
    return round(frames * 1e9 / nanoseconds, 3) if frames > 0 and nanoseconds > 0 else None
