"""SLEAP recordings: poses from a .slp file, images from its video."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from trackd_client.detections import Skeleton
from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import Folder, TestDataset
from trackd_client.recordings.folders import stem_pairs
from trackd_client.recordings.images.source import ImageLayout, fitting, images_of, known_fps, layout_of
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.named_files import named_files, one_each, unique_names
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.recording_format import RecordingFormat
from trackd_client.recordings.sleap_labels import SleapLabels, StoredVideo, read_labels

logger = logging.getLogger(__name__)


class SleapRecording(Recording):
    """The frames of a video with the instances of a .slp file.

    Every frame of the video is played, labelled or not, and so are labelled frames after its end. Without a video,
    the frames are those from 0 to the last labelled one, and have no images.

    Args:
        path: the .slp file.
        dataset: the division into clips; its `fps` takes precedence over the video's.
        video: the video to use in place of the one that the file names; it must exist.
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
        if video is not None and not video.is_file():
            raise RecordingError(f"{video}: no such video (given for {path})")
        self.path = path
        self.name = name or path.stem
        self._dataset = dataset
        self._limits = limits
        self._given_video = video

    @cached_property
    def _labels(self) -> SleapLabels:
        return read_labels(self.path, self._limits)

    @cached_property
    def source(self) -> Path | None:
        """The video, or None if it cannot be found."""
        stored = self._labels.video
        if self._given_video is not None:
            return self._given_video
        found = None if stored is None else find_video(stored, self.path)
        if found is None:
            named = "it names none" if stored is None or stored.path is None else f"its {stored.path} is missing"
            logger.warning("replaying poses without images: %s recording=%s", named, self.path)
        return found

    @cached_property
    def _layout(self) -> ImageLayout | None:
        if self.source is None:
            return None
        stored = self._labels.video
        noted = None if stored is None else stored.frame_shape
        return fitting(layout_of(VideoFile(self.source, self._limits)), noted, self.source, self.path)

    @cached_property
    def fps(self) -> float:
        """Frames per second: configured, else the video's, else 30."""
        stored = self._labels.video
        noted = stored.fps if stored is not None and self._layout is None else None
        return known_fps(self._dataset.fps or noted, self._layout, self.name)

    @cached_property
    def skeleton(self) -> Skeleton | None:
        """The nodes and edges of the file's poses."""
        return self._labels.skeleton

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips that are played."""
        n_frames = 0 if self._layout is None else self._layout.stop
        return plan_clips(0, max(n_frames, self._labels.stop), self._dataset)

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c): the video's, or the labels file's note of it if the video is missing."""
        if self._layout is not None:
            return self._layout.frame_shape
        return None if self._labels.video is None else self._labels.video.frame_shape

    @property
    def names(self) -> Mapping[int, str]:
        """The tracks' names."""
        return dict(enumerate(self._labels.tracks))

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips.

        Raises:
            RecordingError: the labels or the video cannot be read.
        """
        labels = self._labels
        images = None if self.source is None or not self.reads_images else VideoFile(self.source, self._limits)
        for index, image in images_of(images, self.clips if clips is None else clips):
            yield RecordedFrame(index, self.time_ns(index), image, labels.at(index))


def find_video(stored: StoredVideo, labels_path: Path) -> Path | None:
    """The video that a labels file names: at the stored path, else under its base name beside the labels.

    Labels are often copied from another machine, so the stored path may not exist here, and may be a Windows path.
    """
    if stored.path is None:
        return None
    base_name = PureWindowsPath(stored.path).name if "\\" in stored.path else PurePosixPath(stored.path).name
    beside = labels_path.parent
    for candidate in (Path(stored.path), beside / stored.path, beside / base_name):
        if candidate.is_file():
            return candidate
    return None


def open_files(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of `slp_files` and `video_files`."""
    labels = named_files(dataset.slp_files, base, "slp_files")
    videos = one_each(named_files(dataset.video_files, base, "video_files"), len(labels))
    return _recordings(list(zip(labels, videos, strict=True)), dataset, limits)


def open_folder(folder: Folder, dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of a folder: each .slp file with the video of the same stem."""
    return _recordings(stem_pairs(folder, base), dataset, limits)


def _recordings(
    pairs: Sequence[tuple[Path, Path | None]], dataset: TestDataset, limits: RecordingLimits
) -> list[Recording]:
    labels = [path for path, _ in pairs]
    names = unique_names((path.stem for path in labels), labels)
    return [
        SleapRecording(path, dataset, video=video, name=name, limits=limits)
        for (path, video), name in zip(pairs, names, strict=True)
    ]


SLEAP = RecordingFormat(
    title="SLEAP",
    key="slp_files",
    open_files=open_files,
    labels_suffixes=(".slp",),
    open_folder=open_folder,
)
