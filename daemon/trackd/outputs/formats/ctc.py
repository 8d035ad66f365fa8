"""The Cell Tracking Challenge's result folder: a label image per frame, and a table of tracks with their parents.

Letters: h × w the frame, n instances.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from trackd.crash_points import crash_point
from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.files.part import SUFFIX
from trackd.outputs.formats.label_image import paint_labels
from trackd.outputs.formats.tracklets import Tracklets
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position, Writer, set_earlier_aside
from trackd_client.configuration import ConfigError
from trackd_client.detections import IntArray

logger = logging.getLogger(__name__)

MAX_LABEL = np.iinfo(np.uint16).max
JOURNAL = "tracks.part"  # a line per frame: its number, then `id` or `id<parent` for each instance
TABLE = "res_track.txt"
# A larger gap in the frame numbers is a jump of the camera's counter, and gets no empty images.
MAX_EMPTY_FRAMES = 10_000


class CtcWriter(Writer):
    """Writes `<out_dir>/<name>_RES/maskTTT.tif` (16 bit, zlib) and `res_track.txt` (L B E P), labels from 1.

    Label = track id + 1. The challenge allows no gap in a track: after a gap the track gets a new label, whose parent
    is the label before the gap. The masks are the stream's own where it sends any, else the ellipse in each box, at
    least one pixel. Every frame from the first to the last has an image, also a frame without a cell or one that was
    not tracked. Until `close` all files are in `<name>_RES.part/`. The part of a process that was killed is finished
    first.

    Raises:
        ConfigError: another process writes the same folder.
    """

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        self.path = out_dir / f"{stream.name}_RES"
        self._folder = self.part_of(out_dir, stream.name)
        if position is None:
            self.set_aside(out_dir, stream.name)
        left = position or {}
        self._journal: AppendFile | None = self._new_journal(position)
        shape = left.get("shape", stream.frame_shape)
        self._shape = None if shape is None else tuple(shape[:2])
        self._last: int | None = left.get("last")

    @classmethod
    def part_of(cls, out_dir: Path, name: str) -> Path:
        """The folder until the stream closes."""
        return out_dir / f"{name}_RES{SUFFIX}"

    @classmethod
    def set_aside(cls, out_dir: Path, name: str) -> None:
        """Finish the folder of a process that was killed."""
        cls.recover(cls.part_of(out_dir, name))

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed, the frame's size is unknown, or a label is beyond 16 bits.
        """
        if self._journal is None:
            raise ValueError(f"{self.path}: the writer is closed")
        if record.masks is not None:
            self._shape = record.masks.shape
        if self._shape is None:
            raise ValueError(f"{self.path}: a label image needs the frame's size: send masks, or open with frame_shape")
        if record.track_ids.max(initial=-1) >= MAX_LABEL:
            raise ValueError(f"{self.path}: a label image holds labels up to {MAX_LABEL}; use another output")
        if not self._journal.exists:
            self._restart(record.frame_index)
        tracked = np.flatnonzero(record.track_ids >= 0)
        image = paint_labels(self._shape, record.masks, record.boxes, tracked, record.track_ids[tracked] + 1)
        if self._last is not None and record.frame_index - self._last - 1 <= MAX_EMPTY_FRAMES:
            for number in range(self._last + 1, record.frame_index):
                _save(np.zeros(self._shape, np.uint16), self._image_path(number))
        _save(image, self._image_path(record.frame_index))
        words = [_word(i, record.parents.get(i)) for i in record.track_ids[tracked].tolist()]
        # After the image, so that a line in the journal means that its image is complete.
        self._journal.append((" ".join([str(record.frame_index), *words]) + "\n").encode("ascii"))
        self._last = record.frame_index

    def _new_journal(self, position: Position | None = None) -> AppendFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            return AppendFile(self._folder / JOURNAL, start=position)
        except BlockingIOError:
            raise ConfigError(
                f"{self._folder} is being written by another process; give one of them another out_dir"
            ) from None

    def _restart(self, frame_index: int) -> None:
        """Make the folder again after it was removed; the images in it are lost, and the log states it."""
        assert self._journal is not None
        removed, self._journal = self._journal, self._new_journal()
        removed.close()
        self._last = None
        logger.error("%s was removed with the frames before frame_index=%d", self._folder, frame_index)

    def _image_path(self, number: int) -> Path:
        return self._folder / f"mask{number:03d}.tif"

    def position(self) -> Position:
        """Where the list of frames ends, the last frame's number, and the size of the images."""
        if self._journal is None:
            raise ValueError(f"{self.path}: the writer is closed")
        shape = None if self._shape is None else list(self._shape)
        return {**self._journal.end, "last": self._last, "shape": shape}

    def park(self) -> None:
        """Close the list of frames."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def close(self) -> None:
        """Write the table, relabel the tracks after their gaps, and rename the folder."""
        if self._journal is not None:
            journal, self._journal = self._journal, None
            try:
                _finish(self._folder, self.path)
            finally:
                journal.close()

    @classmethod
    def is_part(cls, path: Path) -> bool:
        """Whether a path is the part folder of this format."""
        return (path / JOURNAL).is_file()

    @classmethod
    def recover(cls, part: Path) -> Path | None:
        """Make the result folder of a part; None where there is none, it is empty, or another process writes it."""
        path = part.with_name(part.name.removesuffix(SUFFIX))
        if not cls.is_part(part):
            if not part.exists():
                (path / JOURNAL).unlink(missing_ok=True)  # a kill was between the last two steps of `_finish`
            return None
        try:
            journal = AppendFile(part / JOURNAL, start={"bytes": (part / JOURNAL).stat().st_size})
        except BlockingIOError:
            return None
        frames, _ = _read_journal(part / JOURNAL)
        if not frames:
            journal.close()
            shutil.rmtree(part)
            return None
        _finish(part, path)
        journal.close()
        logger.warning("%s: recovered from the part of a process that was killed", path)
        return path


def _word(track_id: int, parent: int | None) -> str:
    return str(track_id) if parent is None else f"{track_id}<{parent}"


def _read_journal(path: Path) -> tuple[list[tuple[int, IntArray]], dict[int, int]]:
    """Each frame's number and ids, and the parents; an incomplete last line is left out."""
    frames: list[tuple[int, IntArray]] = []
    parents: dict[int, int] = {}
    for line in path.read_text(encoding="ascii").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        number, *words = line.split()
        ids = []
        for word in words:
            child, _, parent = word.partition("<")
            ids.append(int(child))
            if parent:
                parents[int(child)] = int(parent)
        frames.append((int(number), np.array(ids, np.int64)))
    return frames, parents


def _finish(folder: Path, path: Path) -> None:
    """Make the result folder of the part; each step may be repeated after a kill."""
    frames, parents = _read_journal(folder / JOURNAL)
    tracklets = Tracklets.of(frames, parents)
    if tracklets.rows and tracklets.rows[-1].label > MAX_LABEL:
        n_labels = tracklets.rows[-1].label
        raise ValueError(
            f"{folder}: its tracks need {n_labels} labels, and 16 bits hold {MAX_LABEL}; its images remain"
        )
    images = {int(image.stem.removeprefix("mask")): image for image in folder.glob("mask*.tif")}
    last = frames[-1][0] if frames else -1
    for number in [number for number in images if number > last]:
        images.pop(number).unlink()  # without a line in the journal it may be incomplete
    for (number, _), labels in zip(frames, tracklets.labels, strict=True):
        moved = {track_id + 1: label for track_id, label in labels.items() if label != track_id + 1}
        if moved:
            _relabel(images[number], moved)
    # All names in a folder have the same number of digits: three, or as many as the last frame needs.
    digits = max(3, len(str(last)))
    for number, image in images.items():
        image.rename(folder / f"mask{number:0{digits}d}.tif")
    rows = (" ".join(str(value) for value in row) + "\n" for row in tracklets.rows)
    (folder / TABLE).write_text("".join(rows), encoding="ascii")
    set_earlier_aside(path)
    crash_point("during_finish")
    folder.rename(path)
    crash_point("after_finish")
    (path / JOURNAL).unlink()


def _save(image: NDArray[np.uint16], path: Path) -> None:
    temporary = path.with_name(f".{path.name}")  # on a full disk the earlier image of this name must remain
    try:
        tifffile.imwrite(temporary, image, compression="zlib")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _relabel(path: Path, labels: dict[int, int]) -> None:
    table = np.arange(MAX_LABEL + 1, dtype=np.uint16)
    for old, new in labels.items():
        table[old] = new
    _save(table[tifffile.imread(path)], path)
