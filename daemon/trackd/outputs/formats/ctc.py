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

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.files.part import SUFFIX
from trackd.outputs.formats.label_image import paint_labels
from trackd.outputs.formats.tracklets import Tracklets
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, set_earlier_aside
from trackd_client.configuration import ConfigError
from trackd_client.detections import IntArray

logger = logging.getLogger(__name__)

MAX_LABEL = np.iinfo(np.uint16).max
JOURNAL = "tracks.part"  # a line per frame: its number, then `id` or `id<parent` of each instance
TABLE = "res_track.txt"
# A jump in a camera's frame numbers is not a million empty images.
MAX_EMPTY_FRAMES = 10_000


class CtcWriter(Writer):
    """Writes `<out_dir>/<name>_RES/maskTTT.tif` (16 bit, zlib) and `res_track.txt` (L B E P), labels from 1.

    Label = track id + 1; a track that comes back after a gap goes on under a label of its own with the first as its
    parent, as the challenge has it. Masks are the stream's own where it sends any, else the ellipse in each box, one
    pixel at least. Frames between the first and the last have an image each, also those without a cell, and those
    that were not tracked. Until `close` all stands in `<name>_RES.part/`; a part that an earlier process left behind
    becomes its folder first.

    Raises:
        ConfigError: another process writes the same folder.
    """

    def __init__(self, out_dir: Path, stream: StreamInfo) -> None:
        self.path = out_dir / f"{stream.name}_RES"
        self._folder = self.path.with_name(self.path.name + SUFFIX)
        recover_ctc(self._folder)
        self._journal: AppendFile | None = self._begun()
        self._shape = None if stream.frame_shape is None else stream.frame_shape[:2]
        self._last: int | None = None

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed, the frame's size is nowhere told, or an id is beyond 16 bits.
        """
        if self._journal is None:
            raise ValueError(f"{self.path}: the writer is closed")
        if record.masks is not None:
            self._shape = record.masks.shape
        if self._shape is None:
            raise ValueError(f"{self.path}: a label image needs the frame's size: send masks, or open with frame_shape")
        if record.track_ids.max(initial=-1) >= MAX_LABEL:
            raise ValueError(f"{self.path}: a label image holds labels up to {MAX_LABEL}; use another output")
        if not self._journal.is_there:
            self._begin_again(record.frame_index)
        tracked = np.flatnonzero(record.track_ids >= 0)
        image = paint_labels(self._shape, record.masks, record.boxes, tracked, record.track_ids[tracked] + 1)
        if self._last is not None and record.frame_index - self._last - 1 <= MAX_EMPTY_FRAMES:
            for number in range(self._last + 1, record.frame_index):
                _save(np.zeros(self._shape, np.uint16), self._image_path(number))
        _save(image, self._image_path(record.frame_index))
        words = [_word(i, record.parents.get(i)) for i in record.track_ids[tracked].tolist()]
        # After the image: a line in the journal means that its image is whole.
        self._journal.append((" ".join([str(record.frame_index), *words]) + "\n").encode("ascii"))
        self._last = record.frame_index

    def _begun(self) -> AppendFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        journal = _locked(self._folder)
        if journal is None:
            raise ConfigError(f"{self._folder} is being written by another process; give one of them another out_dir")
        return journal

    def _begin_again(self, frame_index: int) -> None:
        """The images are gone, and nobody has them: say so, and write what is still to come."""
        assert self._journal is not None
        gone, self._journal = self._journal, self._begun()
        gone.close()
        self._last = None
        logger.error("%s was taken away with the frames before frame_index=%d", self._folder, frame_index)

    def _image_path(self, number: int) -> Path:
        return self._folder / f"mask{number:03d}.tif"

    def close(self) -> None:
        """Write the table, give what came back after a gap its labels, and give the folder its name."""
        if self._journal is not None:
            journal, self._journal = self._journal, None
            try:
                _finish(self._folder, self.path)
            finally:
                journal.close()


def recover_ctc(folder: Path) -> Path | None:
    """Make the result folder of a part that no living process writes; None where there is nothing to make it of."""
    if not (folder / JOURNAL).is_file():
        return None
    journal = _locked(folder)
    if journal is None:
        return None
    path = folder.with_name(folder.name.removesuffix(SUFFIX))
    frames, _ = _read_journal(folder / JOURNAL)
    if not frames:
        journal.close()
        shutil.rmtree(folder)
        return None
    _finish(folder, path)
    journal.close()
    logger.warning("%s: written from what a process that was killed left behind", path)
    return path


def _locked(folder: Path) -> AppendFile | None:
    """The journal for appending; None where another process has it."""
    try:
        return AppendFile(folder / JOURNAL, lock=True)
    except BlockingIOError:
        return None


def _word(track_id: int, parent: int | None) -> str:
    return str(track_id) if parent is None else f"{track_id}<{parent}"


def _read_journal(path: Path) -> tuple[list[tuple[int, IntArray]], dict[int, int]]:
    """Each frame's number and ids, and the parents; a line that was cut short does not count."""
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
    """Make the part the result folder; each step may be done again after a kill."""
    frames, parents = _read_journal(folder / JOURNAL)
    tracklets = Tracklets.of(frames, parents)
    if tracklets.rows and tracklets.rows[-1].label > MAX_LABEL:
        raise ValueError(f"{folder}: {tracklets.rows[-1].label} tracks are more than 16 bits hold; its images remain")
    images = {int(image.stem.removeprefix("mask")): image for image in folder.glob("mask*.tif")}
    last = frames[-1][0] if frames else -1
    for number in [number for number in images if number > last]:
        images.pop(number).unlink()  # the journal does not have it: it may be cut short
    for (number, _), labels in zip(frames, tracklets.labels, strict=True):
        moved = {track_id + 1: label for track_id, label in labels.items() if label != track_id + 1}
        if moved:
            _relabel(images[number], moved)
    # The challenge has one number of digits in a folder: three, or as many as the last frame needs.
    digits = max(3, len(str(last)))
    for number, image in images.items():
        image.rename(folder / f"mask{number:0{digits}d}.tif")
    rows = (" ".join(str(value) for value in row) + "\n" for row in tracklets.rows)
    (folder / TABLE).write_text("".join(rows), encoding="ascii")
    set_earlier_aside(path)
    folder.rename(path)
    (path / JOURNAL).unlink()


def _save(image: NDArray[np.uint16], path: Path) -> None:
    temporary = path.with_name(f".{path.name}")  # a full disk must not cost an image that is there
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
