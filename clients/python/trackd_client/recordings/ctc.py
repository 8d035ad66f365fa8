"""Cell Tracking Challenge recordings: images, label images and the table of tracks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections
from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import Folder, TestDataset
from trackd_client.recordings.ctc_sequences import challenge_sequences, unread_beside
from trackd_client.recordings.images.image_files import TIFF_SUFFIXES, by_number
from trackd_client.recordings.images.named_images import named_images
from trackd_client.recordings.images.source import ImageLayout, ImageSource, images_of, known_fps, layout_of
from trackd_client.recordings.label_images import detections_of, shaped
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.man_track import ManTrack, read_man_track
from trackd_client.recordings.microscopy import CENTROID
from trackd_client.recordings.named_files import WHERE, named_file, one_each, unique_names
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.recording_format import RecordingFormat

logger = logging.getLogger(__name__)

LabelImage = NDArray[np.integer[Any]]


class CtcRecording(Recording):
    """Every label of a frame as a detection with its mask, its box, and its centre of mass as key point.

    Frames are those from the first to the last one with an image or a label image. The identities are the labels. If
    there is a table of tracks, a label that it does not list in that frame is a detection without identity.

    Args:
        labels: the label images.
        dataset: `fps`, and the division into clips.
        name: the recording's name.
        images: the images, if there are any.
        man_track: the table of tracks, which gives the labels that are identities, and their parents.
        shapes: full masks, as in `SEQ_ST/SEG`. By overlap they replace the pixels of the labels, which may be small
            markers. Their own labels are not used.
    """

    skeleton = CENTROID

    def __init__(
        self,
        labels: ImageSource,
        dataset: TestDataset,
        *,
        name: str,
        images: ImageSource | None = None,
        man_track: Path | None = None,
        shapes: ImageSource | None = None,
    ) -> None:
        self.name = name
        self._labels = labels
        self._dataset = dataset
        self._images = images
        self._man_track = man_track
        self._shapes = shapes
        self._warned = False

    @property
    def source(self) -> Path | None:
        """The folder of the images."""
        return None if self._images is None else self._images.path

    @cached_property
    def _layout(self) -> ImageLayout | None:
        return None if self._images is None else layout_of(self._images)

    @cached_property
    def _label_layout(self) -> ImageLayout:
        return layout_of(self._labels)

    @cached_property
    def _tracks(self) -> ManTrack | None:
        return None if self._man_track is None else read_man_track(self._man_track)

    @cached_property
    def fps(self) -> float:
        """Frames per second: configured, else 30, because the challenge's files do not give it."""
        return known_fps(self._dataset.fps, self._layout, self.name)

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips that are played."""
        layouts = [self._label_layout, *([self._layout] if self._layout is not None else [])]
        start, stop = min(layout.start for layout in layouts), max(layout.stop for layout in layouts)
        return plan_clips(start, stop, self._dataset)

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c) of the images, or of the label images."""
        return (self._layout or self._label_layout).frame_shape

    @cached_property
    def lineage(self) -> Mapping[int, int]:
        """Child → parent, by the table of tracks."""
        return {} if self._tracks is None else self._tracks.lineage

    @property
    def pixel_range(self) -> str:
        """`raw`: DREEM does not scale the images of this kind."""
        return "raw"

    @property
    def first_id(self) -> int:
        """Such files count identities from 1."""
        return 1

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, including those without an image or without a label image.

        Raises:
            RecordingError: an image cannot be read, or its size is not the label image's.
        """
        clips = self.clips if clips is None else clips
        labels = self._labels.fresh()
        shapes = None if self._shapes is None else self._shapes.fresh()
        with labels, shapes or nullcontext():
            shown = self._images if self.reads_images else None
            for index, image in images_of(shown, clips, one_size=False):  # compared below
                detections = self._detections(index, self._label_image(index, labels, shapes))
                masks = detections.masks
                if image is not None and masks is not None and image.shape[:2] != masks.shape:
                    raise RecordingError(
                        f"{labels.path}, frame {index}: the label image must be as large as the image; "
                        f"(h, w) are {masks.shape} and {image.shape[:2]}"
                    )
                yield RecordedFrame(index, self.time_ns(index), image, detections)

    def _detections(self, frame_index: int, labels: LabelImage | None) -> Detections:
        if labels is None:
            return Detections(
                boxes=np.empty((0, 4), np.float32), keypoints=np.empty((0, 1, 2)), gt_ids=np.empty(0, np.int64)
            )
        found = detections_of(labels)
        if self._tracks is None:
            return found
        assert found.gt_ids is not None
        tracks = [self._tracks.tracks.get(label) for label in found.gt_ids.tolist()]
        listed = np.array([t is not None and t.begin <= frame_index <= t.end for t in tracks], bool)
        if not listed.all() and not self._warned:
            self._warned = True
            logger.warning(
                "labels that the table of tracks does not list in their frame get no identity "
                "file=%s first_at_frame=%d labels=%s", self._man_track, frame_index, found.gt_ids[~listed].tolist(),
            )  # fmt: skip
        return replace(found, gt_ids=np.where(listed, found.gt_ids, -1))

    def _label_image(
        self, frame_index: int, source: ImageSource, shape_source: ImageSource | None
    ) -> LabelImage | None:
        labels = source.read(frame_index)
        if labels is None:
            return None
        if labels.ndim != 2:
            raise RecordingError(
                f"{source.path}, frame {frame_index}: a label image has one channel; its shape is {labels.shape}"
            )
        shapes = None if shape_source is None else shape_source.read(frame_index)
        if shapes is None or shape_source is None:
            return labels
        if shapes.shape != labels.shape:
            raise RecordingError(
                f"{shape_source.path}, frame {frame_index}: must be as large as the label image; "
                f"(h, w) are {shapes.shape} and {labels.shape}"
            )
        return shaped(labels, shapes)


def open_files(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of `gt_images`, `raw_images` and `gt_list`."""
    labels = [named_images(paths, base, "gt_images", limits, numbered=True) for paths in dataset.gt_images]
    raw = [named_images(paths, base, "raw_images", limits, numbered=True) for paths in dataset.raw_images]
    images = one_each(raw, len(labels))
    tables = one_each([_table(paths, base) for paths in dataset.gt_list], len(labels))
    # The recording is named after its images if there are any: `01` is a sequence's name, `01_GT/TRA` is not.
    places = [source.path if source is not None else truth.path for truth, source in zip(labels, images, strict=True)]
    names = unique_names((place.stem for place in places), places)
    for truth, table in zip(labels, tables, strict=True):
        unread = unread_beside(truth.path, table)
        if unread:
            logger.warning(
                "gt_images reads %s alone, with other boxes and scores than dir, which also reads %s",
                truth.path, " and ".join(unread),
            )  # fmt: skip
    return [
        CtcRecording(truth, dataset, name=name, images=source, man_track=table)
        for truth, source, table, name in zip(labels, images, tables, names, strict=True)
    ]


def open_folder(folder: Folder, dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of a folder of sequences, in the challenge's layout."""
    sequences = challenge_sequences(folder, base)
    names = unique_names((found.name for found in sequences), (found.images[0].parent for found in sequences))
    return [
        CtcRecording(
            by_number(found.labels, limits),
            dataset,
            name=name,
            images=by_number(found.images, limits),
            man_track=found.man_track,
            shapes=by_number(found.shapes, limits) if found.shapes else None,
        )
        for found, name in zip(sequences, names, strict=True)
    ]


def _table(path: str | list[str], base: Path) -> Path:
    paths = [path] if isinstance(path, str) else path
    if len(paths) != 1 or not paths[0].lower().endswith(".txt"):
        raise ConfigError(f"{WHERE}.gt_list must name one man_track.txt for each recording; got {paths[:3]!r}")
    return named_file(paths[0], base, "gt_list")


CTC = RecordingFormat(
    title="Cell Tracking Challenge",
    key="gt_images",
    open_files=open_files,
    labels_suffixes=TIFF_SUFFIXES,
    open_folder=open_folder,
)
