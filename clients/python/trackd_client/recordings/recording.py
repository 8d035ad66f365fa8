"""The one interface of all readers: frames in recording order, each with its true frame index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trackd_client.detections import Detections, Image, Skeleton


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a recording."""

    frame_index: int  # the source's own frame number, from 0; rises
    t_ns: int  # capture time; frame_index / fps where the recording holds none
    image: Image | None  # (h, w) or (h, w, c), uint8 or uint16
    detections: Detections  # gt_ids are the recording's identities, -1 where it has none


@dataclass(frozen=True, slots=True)
class Clip:
    """A run of consecutive frames, `start` included, `stop` not; in frame indices."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class RecordingError(ValueError):
    """A recording that cannot be read; names the file, the row or element, and what was expected."""


class Recording(ABC):
    """A recording that can be replayed as a stream.

    A reader is one file with one subclass. It opens nothing until `frames` is called, and reads in bounded memory:
    no more than the labels and a few decoded images.
    """

    name: str  # the stem of its file: the stream's and the outputs' name
    source: Path | None  # the video or image folder, for outputs that name it
    fps: float  # frames per second
    skeleton: Skeleton | None
    clips: Sequence[Clip]  # what is played, in recording order

    @property
    @abstractmethod
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c) of the images, or None where there are none."""

    @abstractmethod
    def frames(self) -> Iterator[RecordedFrame]:
        """Every frame of `clips`, those without detections included, by rising frame index."""

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)

    def time_ns(self, frame_index: int) -> int:
        """Capture time of a frame of a recording that holds no time stamps."""
        return round(frame_index * 1e9 / self.fps)
