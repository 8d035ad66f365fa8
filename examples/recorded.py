"""A stand-in for a camera: the recording of `make demo`, at its own rate, with the poses that were found in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sleap_io
from numpy.typing import NDArray

from trackd_client import Skeleton

FPS = 30.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame, as a camera gives it."""

    frame_index: int
    t_ns: int  # when it was taken, Unix nanoseconds
    image: NDArray[np.uint8]  # (h, w, 3) RGB
    instances: list[Any]  # of sleap-io: the poses in it


class Recorded:
    """A `.slp` file with its video beside it, which has the same name."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such recording; `make demo` draws demo/demo.slp")
        self.labels = sleap_io.load_slp(path, open_videos=False)
        self.skeleton = skeleton_of(self.labels.skeletons[0])
        self._video = cv2.VideoCapture(str(Path(path).with_suffix(".mp4")))

    def shots(self, most: int) -> Iterator[Shot]:
        """Yield the first frames of the recording, each at its time from now on."""
        poses = {frame.frame_idx: frame.instances for frame in self.labels}
        started = time.monotonic()
        for frame_index in range(most):
            there, image = self._video.read()
            if not there:
                return
            time.sleep(max(0.0, started + frame_index / FPS - time.monotonic()))
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            yield Shot(frame_index, time.time_ns(), np.asarray(rgb, np.uint8), poses.get(frame_index, []))


def skeleton_of(skeleton: Any) -> Skeleton:
    """Return a skeleton of sleap-io as one of trackd."""
    return Skeleton(tuple(skeleton.node_names), tuple((int(a), int(b)) for a, b in skeleton.edge_inds))
