"""The detections of one frame as plain arrays, used by the client and the daemon.

Letters: n detections, k keypoints per detection, h × w the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
Image = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(slots=True, eq=False)
class Detections:
    """n detections of one frame, in the detector's order.

    At least one of `boxes` and `keypoints` is given; all arrays share the first axis n ≥ 0.
    A row with NaN or infinite coordinates is legal: it gets no track id and does not affect other rows.
    """

    boxes: FloatArray | None = None  # (n, 4) x1 y1 x2 y2, pixels
    keypoints: FloatArray | None = None  # (n, k, 2) x y, pixels, NaN where not visible
    scores: FloatArray | None = None  # (n,)
    keypoint_scores: FloatArray | None = None  # (n, k)
    classes: NDArray[np.int32] | None = None  # (n,)
    masks: IntArray | None = None  # (h, w) label image <u2 or <i4: label i + 1 is instance i
    gt_ids: NDArray[np.int64] | None = None  # (n,) ground truth, -1 for none; never used to assign ids

    def __len__(self) -> int:
        if self.boxes is not None:
            return len(self.boxes)
        return 0 if self.keypoints is None else len(self.keypoints)

    @classmethod
    def empty(cls) -> Detections:
        """Return detections with n = 0."""
        return cls(boxes=np.empty((0, 4), np.float32))


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The nodes of a pose and the edges between them, by node number."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = field(default=())
