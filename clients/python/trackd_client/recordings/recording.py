"""The interface of all readers: frames in recording order, each with its true frame index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from trackd_client.detections import Detections, Image, Skeleton

NO_LINEAGE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a recording."""

    frame_index: int  # the source's own frame number, from 0; rises
    t_ns: int  # capture time; frame_index / fps if the recording holds none
    image: Image | None  # (h, w) or (h, w, c), uint8 or uint16
    detections: Detections  # gt_ids are the recording's identities, -1 for none


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames from index `start` to `stop`, which is not included."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class RecordingError(ValueError):
    """A recording that cannot be read; names the file, the row or element, and what was expected."""


class Recording(ABC):
    """A recording that can be replayed as a stream.

    A reader is one file with one subclass. Its constructor opens no file. It holds no more in memory than the labels
    and a few decoded images. It can be pickled, for worker processes.
    """

    name: str  # the stem of its file; names the stream and the outputs

    @property
    @abstractmethod
    def source(self) -> Path | None:
        """The video or image folder, for outputs that name it."""

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames per second."""

    @property
    @abstractmethod
    def skeleton(self) -> Skeleton | None:
        """The nodes and edges of its poses, or None if it has none."""

    @property
    @abstractmethod
    def clips(self) -> Sequence[Clip]:
        """The clips that are played, in recording order."""

    @property
    @abstractmethod
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c) of the images, or None if there are none."""

    @property
    def lineage(self) -> Mapping[int, int]:
        """The parent of each identity that began by a division, by gt id: child → parent."""
        return NO_LINEAGE

    @property
    def pixel_range(self) -> str:
        """The pixel range that checkpoints for this kind of recording need: `unit` (0 to 1) or `raw` (0 to 255)."""
        return "unit"

    @abstractmethod
    def frames(self, clips: Sequence[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, those without detections included, in the clips' order.

        Args:
            clips: frames to read instead of the recording's own `clips`.
        """

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)

    def time_ns(self, frame_index: int) -> int:
        """Capture time of a frame of a recording that holds no time stamps."""
        return round(frame_index * 1e9 / self.fps)


class DerivedRecording(Recording):
    """A recording that changes the frames of another one. The defaults of all properties are the other one's."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.name = recording.name

    @property
    def source(self) -> Path | None:
        """The video or image folder on disk."""
        return self._recording.source

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._recording.fps

    @property
    def skeleton(self) -> Skeleton | None:
        """The nodes and edges."""
        return self._recording.skeleton

    @property
    def clips(self) -> Sequence[Clip]:
        """The clips that are played."""
        return self._recording.clips

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c)."""
        return self._recording.frame_shape

    @property
    def lineage(self) -> Mapping[int, int]:
        """Child → parent."""
        return self._recording.lineage

    @property
    def pixel_range(self) -> str:
        """`unit` or `raw`."""
        return self._recording.pixel_range
