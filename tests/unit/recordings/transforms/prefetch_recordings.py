"""Recordings in a module that a worker process can import."""

from __future__ import annotations

import os
import signal

import numpy as np

from trackd_client.detections import Detections
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError


class Counted(Recording):
    """Forty frames in two clips. Each frame that is read creates a file in `log`."""

    name, source, fps, skeleton, frame_shape = "counted", None, 10.0, None, (16, 24)
    clips = (Clip(0, 25), Clip(30, 45))

    def __init__(self, log=None, fails_at=None, dies_at=None, shape=(16, 24)):
        self.log = log
        self.fails_at = fails_at
        self.dies_at = dies_at
        self.shape = shape

    def frames(self, clips=None):
        for clip in self.clips if clips is None else clips:
            for index in range(clip.start, clip.stop):
                if index == self.fails_at:
                    raise RecordingError(f"{self.name}, frame {index}: made to fail")
                if index == self.dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.log is not None:
                    (self.log / f"{index} {os.getpid()}").touch()
                image = np.full(self.shape, index, np.uint8)
                box = np.array([[index, 1, index + 4, 9], [2, 2, 8, 8]], np.float32)
                yield RecordedFrame(index, self.time_ns(index), image, Detections(boxes=box, gt_ids=np.arange(2)))
