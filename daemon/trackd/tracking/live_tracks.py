"""The live tracks of a stream, as they are published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class LiveTracks:
    """The live tracks by ascending id."""

    ids: NDArray[np.int32]  # (M,)
    active: NDArray[np.bool_]  # (M,) seen in the latest frame; else lost
    merged: NDArray[np.bool_]  # (M,) in the box of another track in it; active too
    tentative: NDArray[np.bool_]  # (M,) seen in fewer than `min_hits` frames so far
    boxes: NDArray[np.float32]  # (M, 4) x1 y1 x2 y2, the last published
    frame_index: NDArray[np.int64]  # (M,) of the last observation
    first_frame_index: NDArray[np.int64]  # (M,) of the first observation
    names: tuple[str | None, ...]  # (M,) None for none

    @property
    def states(self) -> list[str]:
        """Each track's state: "tentative", else "merged", else "active" or "lost"."""
        columns = (self.tentative.tolist(), self.merged.tolist(), self.active.tolist())
        return [
            "tentative" if tentative else "merged" if merged else "active" if active else "lost"
            for tentative, merged, active in zip(*columns, strict=True)
        ]
