"""Recordings of finished tracks: those that trackd wrote as outputs, and those of other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.configuration import ConfigError, find_path
from trackd_client.detections import Skeleton
from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.images.source import ImageLayout, fitting, known_fps, layout_of
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.named_files import WHERE, named_files, one_each, unique_names
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.recording_format import RecordingFormat
from trackd_client.recordings.written.written_files import WRITTEN_FORMATS, written_format, written_suffixes
from trackd_client.recordings.written.written_frames import WrittenFrames


class WrittenRecording(Recording):
    """The frames of a file of finished tracks; gt ids are the track ids.

    Only the frames that are in the file are played, at their own capture times where the file has them.

    Args:
        path: the file.
        dataset: `fps`, and the division into clips.
        video: the images; without it the video that the file names, if it exists.
        name: the recording's name; the stem of `path` by default.
        limits: what the files may claim.
    """

    def __init__(
        self,
        path: Path,
        dataset: TestDataset,
        *,
        video: Path | None = None,
        name: str | None = None,
        limits: RecordingLimits = DEFAULT_LIMITS,
    ) -> None:
        self.path = path
        self.name = name or path.stem
        self._dataset = dataset
        self._video = video
        self._limits = limits

    @cached_property
    def _written(self) -> WrittenFrames:
        known = written_format(self.path)
        if known is None:
            titles = ", ".join(dict.fromkeys(each.title for each in WRITTEN_FORMATS))
            raise RecordingError(f"{self.path}: must be {titles}; looks like none of them")
        return known.read(self.path, self._limits)

    @cached_property
    def source(self) -> Path | None:
        """The video, or None if there is none."""
        if self._video is not None:
            return self._video
        noted = self._written.source
        return Path(noted) if noted is not None and "\0" not in noted and Path(noted).is_file() else None

    @cached_property
    def _layout(self) -> ImageLayout | None:
        if self.source is None:
            return None
        return fitting(
            layout_of(VideoFile(self.source, self._limits)), self._written.frame_shape, self.source, self.path
        )

    @cached_property
    def fps(self) -> float:
        """Frames per second: configured, else noted, else by the capture times, else the video's, else 30."""
        written = self._written
        measured = None
        if len(written) > 1 and written.t_ns is not None:
            frames = int(written.frame_index[-1] - written.frame_index[0])
            nanoseconds = int(written.t_ns[-1] - written.t_ns[0])
            measured = round(frames * 1e9 / nanoseconds, 3) if frames > 0 and nanoseconds > 0 else None
        return known_fps(self._dataset.fps or written.fps or measured or None, self._layout, self.name)

    @property
    def skeleton(self) -> Skeleton | None:
        """The nodes and edges of its poses."""
        return self._written.skeleton

    @property
    def names(self) -> Mapping[int, str]:
        """The names that tracks were given."""
        return self._written.names

    @property
    def lineage(self) -> Mapping[int, int]:
        """Child → parent."""
        return self._written.lineage

    @property
    def has_times(self) -> bool:
        """Whether the file holds capture times."""
        return self._written.t_ns is not None

    @property
    def corrections(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """What people corrected before the frame of an index."""
        return self._written.corrections

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips that are played."""
        frames = self._written.frame_index
        start, stop = (int(frames.min()), int(frames.max()) + 1) if len(frames) else (0, 0)
        return plan_clips(start, stop, self._dataset)

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c)."""
        return self._written.frame_shape if self._layout is None else self._layout.frame_shape

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """The frames of the file that are in the clips.

        Raises:
            RecordingError: the file or the video cannot be read.
        """
        for frame, _ in self.scored_frames(clips):
            yield frame

    def scored_frames(self, clips: Iterable[Clip] | None = None) -> Iterator[tuple[RecordedFrame, NDArray[np.float32]]]:
        """The same frames, each with the scores (n,) of its assignments."""
        written = self._written
        chosen = (
            None if clips is None and self._dataset.plays_all_clips else list(self.clips if clips is None else clips)
        )
        images = None if self.source is None or not self.reads_images else VideoFile(self.source, self._limits)
        if images is not None:
            images.__enter__()
        try:
            for place, index in enumerate(written.frame_index.tolist()):
                if chosen is not None and not any(clip.start <= index < clip.stop for clip in chosen):
                    continue
                image = None if images is None else images.read(index)
                t_ns = self.time_ns(index) if written.t_ns is None else int(written.t_ns[place])
                frame = RecordedFrame(index, t_ns, image, written.at(place))
                yield frame, written.track_scores_at(place)
        finally:
            if images is not None:
                images.__exit__()


def open_files(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of `track_files` and `video_files`.

    Raises:
        ConfigError: a file has no known ending.
    """
    paths = [find_path(path, f"{WHERE}.track_files", base, "file or folder") for path in dataset.track_files]
    videos = one_each(named_files(dataset.video_files, base, "video_files"), len(paths))
    for path in paths:
        if path.suffix.lower() not in written_suffixes():
            raise ConfigError(f"{WHERE}.track_files: {path} must end in {', '.join(written_suffixes())}")
    names = unique_names((path.stem for path in paths), paths)
    return [
        WrittenRecording(path, dataset, video=video, name=name, limits=limits)
        for path, video, name in zip(paths, videos, names, strict=True)
    ]


WRITTEN = RecordingFormat(title="finished tracks", key="track_files", open_files=open_files)
