"""MOTChallenge text: boxes of one recording, with or without identities.

Files count frames from 1 and pixels from 1: the image's first pixel is (1, 1). Here both count from 0. So the reader
subtracts 1 from `left` and `top`, and the MOT writer adds it again; `width` and `height` stay the same.
Letters: n boxes of a frame, r rows of a file.
"""

from __future__ import annotations

import configparser
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections
from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.images.source import ImageLayout, fitting, images_of, known_fps, layout_of
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.limits import DEFAULT_LIMITS, MAX_WHOLE, RecordingLimits
from trackd_client.recordings.named_files import named_files, one_each, unique_names
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.recording_format import RecordingFormat

logger = logging.getLogger(__name__)

MIN_MATCH_IOU = 0.5
N_COLUMNS = 6  # frame, id, left, top, width, height
N_GROUND_TRUTH_COLUMNS = 9  # MOT16 and later: …, considered, class, visibility; detections and MOT15 have others
PEDESTRIAN = 1


@dataclass(frozen=True, slots=True, eq=False)
class MotRows:
    """The rows of a file, sorted by frame; within a frame in the file's order."""

    frame_index: NDArray[np.int64]  # (r,) from 0
    ids: NDArray[np.int64]  # (r,) as in the file, -1 for none
    boxes: NDArray[np.float32]  # (r, 4) x1 y1 x2 y2, pixels from 0
    scores: NDArray[np.float32] | None  # (r,) None if the file has no such column

    def at(self, frame_index: int) -> slice:
        """The frame's rows."""
        first, last = np.searchsorted(self.frame_index, [frame_index, frame_index + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """The values of `seqinfo.ini`; None for those that it does not hold."""

    n_frames: int | None = None
    fps: float | None = None
    frame_shape: tuple[int, int] | None = None  # (h, w)


class MotRecording(Recording):
    """Boxes from a detections file, identities from a ground-truth file, images from a video if there is one.

    The ids of a detections file (a tracker's output or a ground truth) are identities too.

    Args:
        path: the detections.
        dataset: `fps`, and the division into clips.
        ground_truth: a file whose ids are assigned to the detections by maximum IoU matching, for an IoU ≥ 0.5.
        video: the images.
        name: the recording's name.
        limits: what the files may claim.
    """

    skeleton = None

    def __init__(
        self,
        path: Path,
        dataset: TestDataset,
        *,
        ground_truth: Path | None = None,
        video: Path | None = None,
        name: str | None = None,
        limits: RecordingLimits = DEFAULT_LIMITS,
    ) -> None:
        self.path = path
        self.name = name or mot_name(path)
        self._limits = limits
        self._video = video
        self._dataset = dataset
        self._ground_truth = ground_truth

    @property
    def source(self) -> Path | None:
        """The video, or None if none is given."""
        return self._video

    @cached_property
    def _info(self) -> SequenceInfo:
        return read_sequence_info(self.path, self._limits)

    @cached_property
    def _rows(self) -> MotRows:
        rows = read_rows(self.path, self._limits)
        if self._ground_truth is None:
            return rows
        truth = read_rows(self._ground_truth, self._limits)
        ids = np.full(len(rows.ids), -1, np.int64)
        for index in np.unique(rows.frame_index):
            here, there = rows.at(int(index)), truth.at(int(index))
            ids[here] = matched_ids(rows.boxes[here], truth.boxes[there], truth.ids[there])
        return MotRows(rows.frame_index, ids, rows.boxes, rows.scores)

    @cached_property
    def _layout(self) -> ImageLayout | None:
        if self.source is None:
            return None
        layout = layout_of(VideoFile(self.source, self._limits))
        return fitting(layout, self._info.frame_shape, self.source, self.path)

    @cached_property
    def fps(self) -> float:
        """Frames per second: configured, else `seqinfo.ini`'s, else the video's, else 30."""
        return known_fps(self._dataset.fps or self._info.fps, self._layout, self.name)

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips of the sequence. If its length is not known, it ends at the last box."""
        n_labelled = int(self._rows.frame_index[-1]) + 1 if len(self._rows.frame_index) else 0
        n_images = 0 if self._layout is None else self._layout.stop
        n_frames = max(n_labelled, n_images, self._info.n_frames or 0)
        return plan_clips(0, n_frames, self._dataset)

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(h, w) or (h, w, c): the video's, else `seqinfo.ini`'s."""
        return self._info.frame_shape if self._layout is None else self._layout.frame_shape

    @property
    def first_id(self) -> int:
        """Such files count identities from 1."""
        return 1

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, including those without boxes.

        Raises:
            RecordingError: a row is not MOTChallenge, or the video cannot be read.
        """
        rows = self._rows
        images = None if self.source is None or not self.reads_images else VideoFile(self.source, self._limits)
        for index, image in images_of(images, self.clips if clips is None else clips):
            here = rows.at(index)
            detections = Detections(
                boxes=rows.boxes[here],
                scores=None if rows.scores is None else rows.scores[here],
                gt_ids=rows.ids[here],
            )
            yield RecordedFrame(index, self.time_ns(index), image, detections)


def mot_name(path: Path) -> str:
    """The file's stem, or the name of the sequence's folder if the stem is `det` or `gt`."""
    names = [path.stem, *(folder.name for folder in path.absolute().parents)]
    return next((name for name in names if name not in ("det", "gt", "")), path.stem)


def read_rows(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> MotRows:
    """All rows of a detections, tracks or ground-truth file.

    Of a ground truth of MOT16 and later only the considered pedestrians are read, not distractors and ignored boxes.

    Raises:
        RecordingError: names the file and the row.
    """
    table = read_table(path, limits)
    width = table.shape[1]
    if width == N_GROUND_TRUTH_COLUMNS and bool((table[:, 1] >= 0).all()):
        table = table[(table[:, 6] == 1) & (table[:, 7] == PEDESTRIAN)]
    corner = table[:, 2:4] - 1  # in float64, so that the writer reproduces the file's decimals
    frame_index = table[:, 0].astype(np.int64) - 1
    limits.check_crowds(frame_index, path)
    with np.errstate(over="ignore"):  # beyond float32, a coordinate is infinite
        return MotRows(
            frame_index=frame_index,
            ids=np.maximum(table[:, 1].astype(np.int64), -1),
            boxes=np.concatenate([corner, corner + table[:, 4:6]], axis=1).astype(np.float32),
            scores=table[:, 6].astype(np.float32) if width > 6 else None,
        )


def read_table(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> NDArray[np.float64]:
    """The numbers of a file (r, c), c ≥ 6, sorted by frame; within a frame in the file's order.

    If rows have different lengths, the cells beyond the shortest row are left out.

    Raises:
        RecordingError: names the file and the row.
    """
    numbers = array("d")  # eight bytes for each number, and not a list of floats
    lengths = array("q")
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = _row(line, f"{path}, row {number}", limits)
                    numbers.extend(row)
                    lengths.append(len(row))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    if not lengths:
        return np.empty((0, N_COLUMNS))
    width, ends = min(lengths), np.cumsum(lengths)
    if width == max(lengths):
        table = np.array(numbers).reshape(-1, width)
    else:
        table = np.array(numbers)[(ends - lengths)[:, None] + np.arange(width)]
    return np.asarray(table[np.argsort(table[:, 0], kind="stable")], np.float64)


def _row(line: str, where: str, limits: RecordingLimits) -> list[float]:
    fields = line.split(",") if "," in line else line.split()
    try:
        values = [float(field) for field in fields if field.strip()]
    except ValueError:
        raise RecordingError(f"{where}: must hold numbers; got {line.strip()[:80]!r}") from None
    if len(values) < N_COLUMNS:
        raise RecordingError(f"{where}: must hold frame,id,left,top,width,height[,score,…]; got {line.strip()[:80]!r}")
    if not (values[0] >= 1 and values[0].is_integer()):
        raise RecordingError(f"{where}: frames count from 1 in whole numbers; got {values[0]:g}")
    limits.check_frames(int(values[0]), where)
    if not values[1].is_integer() or abs(values[1]) > MAX_WHOLE:
        raise RecordingError(f"{where}: an id is a whole number up to 2⁵³, -1 for none; got {values[1]:g}")
    return values


def matched_ids(boxes: NDArray[np.float32], truth: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids (n,) that `boxes` (n, 4) get from `truth` (m, 4) with `ids` (m,); -1 without an IoU ≥ 0.5."""
    from scipy.optimize import linear_sum_assignment  # installed by the recordings extra only

    found = np.full(len(boxes), -1, np.int64)
    overlap = iou(boxes, truth)
    overlap = np.where(overlap >= MIN_MATCH_IOU, overlap, 0.0)
    for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[row, column] > 0:
            found[row] = ids[column]
    return found


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of boxes (n, 4) and (m, 4), x1 y1 x2 y2: (n, m); 0 for boxes without area."""
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    union = (first[..., 2:] - first[..., :2]).prod(axis=-1) + (second[..., 2:] - second[..., :2]).prod(axis=-1)
    union = union - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def read_sequence_info(path: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> SequenceInfo:
    """`seqinfo.ini` beside a file, or in the folder above it (`det/det.txt`); empty if there is none.

    Raises:
        RecordingError: the file exists, and holds values that are not numbers or exceed the limits.
    """
    for folder in (path.parent, path.parent.parent):
        file = folder / "seqinfo.ini"
        if not file.is_file():
            continue
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
            section = parser["Sequence"]
            height, width = section.getint("imHeight"), section.getint("imWidth")
            n_frames, fps = section.getint("seqLength"), section.getfloat("frameRate")
        except (configparser.Error, KeyError, ValueError, OSError) as error:
            raise RecordingError(f"{file}: not a MOTChallenge sequence description: {_line(error)}") from None
        shape = (height, width) if height and width else None
        if shape is not None:
            limits.check_shape(shape, file)
        return SequenceInfo(None if n_frames is None else limits.check_frames(n_frames, file), fps, shape)
    return SequenceInfo()


def _line(error: Exception) -> str:
    """The text of an error in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def open_files(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings of `det_files`, `gt_files` and `video_files`."""
    files = named_files(dataset.det_files, base, "det_files")
    truths = one_each(named_files(dataset.gt_files, base, "gt_files"), len(files))
    videos = one_each(named_files(dataset.video_files, base, "video_files"), len(files))
    names = unique_names((mot_name(path) for path in files), files)
    return [
        MotRecording(path, dataset, ground_truth=truth, video=video, name=name, limits=limits)
        for path, truth, video, name in zip(files, truths, videos, names, strict=True)
    ]


MOTCHALLENGE = RecordingFormat(title="MOTChallenge", key="det_files", open_files=open_files)
