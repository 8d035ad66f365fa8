"""The interface of all readers: frames in recording order, each with its true frame index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, Image, Skeleton

MAX_TIME_NS = 2**63 - 1  # of a frame on the wire
MAX_TEXT = 800  # characters of an error
NO_LINEAGE: Mapping[int, int] = MappingProxyType({})
NO_NAMES: Mapping[int, str] = MappingProxyType({})


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


@dataclass(frozen=True, slots=True, eq=False)
class Clips(Sequence[Clip]):
    """Clips of one length, of which the last may be shorter.

    Each is made when it is used: a recording of few labels and millions of frames may have millions of clips.
    """

    start: int
    stop: int
    length: int
    chosen: NDArray[np.int64] | None = None  # the numbers of the clips that are played, rising; None: all

    def __len__(self) -> int:
        return self._n_all if self.chosen is None else len(self.chosen)

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> Clip: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Clip]: ...
    def __getitem__(self, number: int | slice) -> Clip | Sequence[Clip]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        place = range(len(self))[number]  # counts negative numbers from the end
        first = self.start + self.length * (place if self.chosen is None else int(self.chosen[place]))
        return Clip(first, min(first + self.length, self.stop))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @property
    def n_frames(self) -> int:
        """The number of frames in all clips."""
        if self.chosen is None:
            return max(self.stop - self.start, 0)
        if not len(self.chosen):
            return 0
        return self.length * (len(self.chosen) - 1) + len(self[-1])

    @property
    def _n_all(self) -> int:
        return -(-max(self.stop - self.start, 0) // self.length)


class RecordingError(ValueError):
    """A recording that cannot be read; names the file, the row or element, and what was expected, in one line.

    Of a long text, such as one that quotes a damaged file's header, the middle is left out.
    """

    def __init__(self, text: str) -> None:
        line = " ".join(text.splitlines())
        super().__init__(line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT // 2]} … {line[-MAX_TEXT // 3 :]}")


class Recording(ABC):
    """A recording that can be replayed as a stream.

    A reader is one file with one subclass. Its constructor opens no file. It holds no more in memory than the labels
    and a few decoded images. It can be pickled, for worker processes.
    """

    name: str  # the stem of its file; names the stream and the outputs
    reads_images = True  # False: `frames` decodes none, for programs that only need the labels

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
    def names(self) -> Mapping[int, str]:
        """The names of identities that have one, by gt id."""
        return NO_NAMES

    @property
    def first_id(self) -> int:
        """The number from which this kind of file counts identities; trackd counts from 0."""
        return 0

    @property
    def pixel_range(self) -> str:
        """The pixel range that checkpoints for this kind of recording need: `unit` (0 to 1) or `raw` (0 to 255)."""
        return "unit"

    @abstractmethod
    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, those without detections included, in the clips' order.

        Args:
            clips: frames to read instead of the recording's own `clips`.
        """

    def __len__(self) -> int:
        clips = self.clips
        return clips.n_frames if isinstance(clips, Clips) else sum(len(clip) for clip in clips)

    def time_ns(self, frame_index: int) -> int:
        """Capture time of a frame of a recording that holds no time stamps.

        Raises:
            RecordingError: it does not fit into 64 bits, because the frame rate is wrong.
        """
        t_ns = round(frame_index * 1e9 / self.fps)
        if t_ns > MAX_TIME_NS:
            raise RecordingError(
                f"{self.name}: frame {frame_index} would be {frame_index / self.fps:.3g} s after the first, by "
                f"{self.fps:.3g} frames per second: set dataset.test_dataset.fps"
            )
        return t_ns


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
    def names(self) -> Mapping[int, str]:
        """Names by gt id."""
        return self._recording.names

    @property
    def first_id(self) -> int:
        """The number from which ids count."""
        return self._recording.first_id

    @property
    def pixel_range(self) -> str:
        """`unit` or `raw`."""
        return self._recording.pixel_range
