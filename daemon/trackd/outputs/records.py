"""What a writer gets: a stream's description once, and a record for each tracked frame.

Letters: n instances of a frame, k keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Skeleton

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The stream that a file belongs to."""

    name: str  # becomes the file's stem
    skeleton: Skeleton | None
    source: str | None  # path of the video, where there is one
    frame_shape: tuple[int, ...] | None  # (h, w) or (h, w, c)
    fps: float | None


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
