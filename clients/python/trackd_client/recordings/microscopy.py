"""Recordings of points, such as microscopy's: spots from a label file, images from a stack, a folder or a list."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd_client.configuration import find_path
from trackd_client.detections import Detections, Skeleton
from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import Folder, TestDataset
from trackd_client.recordings.folders import has_videos, labels_in, places_of, stem_pairs
from trackd_client.recordings.images.image_files import image_source
from trackd_client.recordings.images.named_images import named_images
from trackd_client.recordings.images.source import ImageLayout, ImageSource, fitting, images_of, known_fps, layout_of
from trackd_client.recordings.labels.label_files import read_spots
from trackd_client.recordings.labels.spots import Spots
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.named_files import WHERE, one_each, unique_names
from trackd_client.recordings.pixel_sizes import known_pixel_size
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording
from trackd_client.recordings.recording_format import RecordingFormat

logger = logging.getLogger(__name__)

# A spot is a pose of one node, because a box alone does not hold its exact position.
CENTROID = Skeleton(("centroid",))


class MicroscopyRecording(Recording):
    """Every spot of a label file as a detection. A spot without a track has gt id −1.

    A spot's key point is its position. Its box is the file's; else it encloses the outline; else the circle of the
    radius; else it is `crop_size` wide and high around the position. Outlines become masks if the size of the images
    is known. Frames are those from 0 to the last one with an image or a spot. Frames without an image are played too.

    Args:
        path: the label file, or a folder of them.
        dataset: `source`, `pixel_size`, `crop_size`, `fps`, and the division into clips.
        images: the images, if there are any.
        name: the recording's name; the stem of `path` by default.
        limits: what the label file may claim; `images` have their own.
    """

    skeleton = CENTROID

    def __init__(
        self,
        path: Path,
        dataset: TestDataset,
        *,
        images: ImageSource | None = None,
        name: str | None = None,
        limits: RecordingLimits = DEFAULT_LIMITS,
    ) -> None:
        self.path = path
        self.name = name or path.stem
        self._dataset = dataset
        self._images = images
        self._limits = limits

    @property
    def source(self) -> Path | None:
        """The stack, or the folder of the images."""
        return None if self._images is None else self._images.path

    @cached_property
    def _layout(self) -> ImageLayout | None:
        return None if self._images is None else layout_of(self._images)

    @cached_property
    def _spots(self) -> Spots:
        spots = read_spots(self.path, self._dataset.source, self._limits)
        return spots.in_pixels(known_pixel_size(spots, self.path, self._layout, self._dataset.pixel_size, self._limits))

    @cached_property
    def fps(self) -> float:
        """Frames per second: configured, else the label file's, else the images', else 30."""
        return known_fps(self._dataset.fps or self._spots.fps, self._layout, self.name)

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips that are played."""
        n_images = 0 if self._layout is None else self._layout.stop
        return plan_clips(0, max(n_images, self._spots.stop), self._dataset)

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c): the images', else the label file's note of it."""
        return self._spots.frame_shape if self._layout is None else self._layout.frame_shape

    @property
    def lineage(self) -> Mapping[int, int]:
        """Child → parent at splits."""
        return self._spots.lineage

    @property
    def names(self) -> Mapping[int, str]:
        """The names that people gave to tracks."""
        return self._spots.names

    @property
    def pixel_range(self) -> str:
        """`raw`: DREEM does not scale the images of this kind."""
        return "raw"

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, including those without spots or without an image.

        Raises:
            RecordingError: the label file or an image cannot be read.
        """
        clips = self.clips if clips is None else clips
        if self._layout is not None and self._images is not None:
            fitting(self._layout, self._spots.frame_shape, self._images.path, self.path)
        for index, image in images_of(self._images if self.reads_images else None, clips):
            yield RecordedFrame(index, self.time_ns(index), image, self._detections(index))

    def _detections(self, frame_index: int) -> Detections:
        spots = self._spots
        here = spots.at(frame_index)
        points = spots.points[here]
        half = np.array(self._dataset.crop_width_height) / 2
        half = np.where(np.isfinite(spots.radii[here]), spots.radii[here], half)
        boxes = np.concatenate([points - half, points + half], axis=1)
        if spots.boxes is not None:
            boxes = np.tile(points, 2) + spots.boxes[here]
        masks = None
        if spots.outlines is not None:
            polygons = [spots.outlines.of(row) + spots.points[row] for row in range(here.start, here.stop)]
            for box, polygon in zip(boxes, polygons, strict=True):
                if len(polygon):
                    box[:] = *polygon.min(axis=0), *polygon.max(axis=0)
            masks = None if self.frame_shape is None else _drawn(polygons, self.frame_shape[:2])
        return Detections(
            boxes=boxes.astype(np.float32), keypoints=points[:, None], gt_ids=spots.gt_ids[here], masks=masks
        )


def _drawn(polygons: Sequence[NDArray[np.float64]], frame_shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """A label image in which the pixels of polygon i hold i + 1. A later polygon covers an earlier one."""
    masks = np.zeros(frame_shape, np.uint16)
    far = 2 * max(frame_shape)  # OpenCV takes a step for each row of a polygon, also outside the image
    for label, polygon in enumerate(polygons, start=1):
        if len(polygon) and np.isfinite(polygon).all():
            cv2.fillPoly(masks, [np.rint(polygon.clip(-far, 2 * far)).astype(np.int32)], label)
    return masks


def open_files(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of `tracks` and `videos`."""
    labels = [find_path(path, f"{WHERE}.tracks", base, "file or folder") for path in dataset.tracks]
    images = one_each([named_images(paths, base, "videos", limits) for paths in dataset.videos], len(labels))
    return _recordings(labels, images, dataset, limits)


def open_folder(folder: Folder, dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of a folder: each label file with the stack or video of the same stem.

    If the folders hold no images with `vid_suffix`, the spots are played without images.
    """
    found = [place for place in places_of(folder, base) if not has_videos(place, folder)]
    if len(found) == len(folder.path):
        logger.warning("replaying spots without images: no *%s in %s", folder.vid_suffix, ", ".join(map(str, found)))
        labels = labels_in(folder, base)
        return _recordings(labels, one_each([], len(labels)), dataset, limits)
    pairs = stem_pairs(folder, base)
    images = [image_source(video, limits) for _, video in pairs]
    return _recordings([path for path, _ in pairs], images, dataset, limits)


def _recordings(
    labels: Sequence[Path], images: Sequence[ImageSource | None], dataset: TestDataset, limits: RecordingLimits
) -> list[Recording]:
    names = unique_names((path.name if path.is_dir() else path.stem for path in labels), labels)
    return [
        MicroscopyRecording(path, dataset, images=source, name=name, limits=limits)
        for path, source, name in zip(labels, images, names, strict=True)
    ]


MICROSCOPY = RecordingFormat(
    title="microscopy",
    key="tracks",
    open_files=open_files,
    labels_suffixes=(".csv", ".xml"),
    open_folder=open_folder,
)
