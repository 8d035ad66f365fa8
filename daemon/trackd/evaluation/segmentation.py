"""The Cell Tracking Challenge's SEG: the overlap of result masks with reference masks.

A reference cell is found where a result mask covers more than half of it; its value is then the IoU of the two, else 0.
SEG is the mean over all reference cells (Maška et al. 2014).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from trackd_client.detections import IntArray

# Folders of reference masks beside the images of a sequence, in order of preference: masks made by hand are first.
FOLDERS = ("{name}_GT/SEG", "{name}_ST/SEG")


class SegmentationScoring:
    """Counts frame by frame; frames without a reference do not count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._total = 0.0
        self._n_cells = 0

    def add(self, frame_index: int, result: IntArray) -> None:
        """Add a frame's label image (h, w), 0 for the background."""
        path = next((path for digits in (3, 4) if (path := self._path(frame_index, digits)).is_file()), None)
        if path is not None:
            values = best_overlaps(tifffile.imread(path), result)
            self._total += float(values.sum())
            self._n_cells += len(values)

    def _path(self, frame_index: int, digits: int) -> Path:
        return self.folder / f"man_seg{frame_index:0{digits}d}.tif"

    @property
    def score(self) -> float | None:
        """SEG, 0 to 1; None where there was no reference cell."""
        return self._total / self._n_cells if self._n_cells else None


def reference_folder(images: Path | None) -> Path | None:
    """The folder of a sequence's reference masks, by the folder of its images; None where there is none."""
    if images is None:
        return None
    folder = images if images.is_dir() else images.parent
    candidates = (folder.parent / pattern.format(name=folder.name) for pattern in FOLDERS)
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def best_overlaps(reference: IntArray, result: IntArray) -> NDArray[np.float64]:
    """The IoU of each reference cell with the result that covers more than half of it, 0 where none covers that."""
    width = int(result.max(initial=0)) + 1
    pairs = np.bincount(reference.ravel().astype(np.int64) * width + result.ravel())
    pairs = np.pad(pairs, (0, -len(pairs) % width)).reshape(-1, width)  # [reference, result]
    in_reference, in_result = pairs.sum(axis=1), pairs.sum(axis=0)
    cells = np.flatnonzero(in_reference[1:]) + 1
    shared = pairs[cells, 1:]
    covered = 2 * shared > in_reference[cells, None]
    union = in_reference[cells, None] + in_result[None, 1:] - shared
    values = np.where(covered, shared / np.maximum(union, 1), 0.0)
    return np.asarray(values.max(axis=1, initial=0.0))
