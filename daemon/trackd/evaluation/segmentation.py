"""The Cell Tracking Challenge's SEG: the overlap of result masks with reference masks.

A reference cell is found where a result mask covers more than half of it; its value is then the IoU of the two, else 0.
SEG is the mean over all reference cells (Maška et al. 2014).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import IntArray
from trackd_client.recordings.images.image_files import read_pixels
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

# Folders of reference masks beside the images of a sequence, in order of preference: masks made by hand are first.
FOLDERS = ("{name}_GT/SEG", "{name}_ST/SEG")


class SegmentationScoring:
    """Counts frame by frame; frames without a reference do not count."""

    def __init__(self, folder: Path, limits: RecordingLimits = DEFAULT_LIMITS) -> None:
        self.folder = folder
        self._limits = limits
        self._total = 0.0
        self._n_cells = 0

    def add(self, frame_index: int, result: IntArray) -> None:
        """Add a frame's label image (h, w), 0 for the background.

        Raises:
            RecordingError: the reference is damaged, larger than the limits, or not as large as the label image.
        """
        path = next((path for digits in (3, 4) if (path := self._path(frame_index, digits)).is_file()), None)
        if path is not None:
            reference = read_pixels(path, self._limits)
            if reference.dtype.kind not in "iu" or reference.shape != result.shape or reference.min(initial=0) < 0:
                raise RecordingError(
                    f"{path}: reference masks must be whole numbers ≥ 0 of shape {list(result.shape)}; got "
                    f"{reference.dtype} of {list(reference.shape)}"
                )
            values = best_overlaps(reference, result)
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
    """The IoU of each reference cell with the result that covers more than half of it, 0 where none covers that.

    A table of all labels × all labels could be far larger than the images. Only the pairs that occur are counted.
    """
    inside = reference > 0
    cells, cell = np.unique(reference[inside], return_inverse=True)
    width = int(result.max(initial=0)) + 1
    in_cell, in_result = np.bincount(cell, minlength=len(cells)), np.bincount(result.ravel(), minlength=width)
    pairs, shared = np.unique(cell.astype(np.int64) * width + result[inside], return_counts=True)
    pair_cell, pair_result = np.divmod(pairs, width)
    union = in_cell[pair_cell] + in_result[pair_result] - shared
    covers = (pair_result > 0) & (2 * shared > in_cell[pair_cell])  # one result at most for each cell
    values = np.zeros(len(cells))
    values[pair_cell[covers]] = (shared / union)[covers]
    return values
