"""DeepLabCut's tables, `.csv`: a row for each frame, and x, y and a likelihood for each body part of each animal.

Letters: b frames of a block, c columns, m animals, k body parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Skeleton
from trackd_client.recordings.labels.tables import header_of, rows_of
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.track_arrays import PresentInstances, block_step, in_frames
from trackd_client.recordings.written.track_names import ids_of
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

COORDINATES = ("x", "y", "likelihood")
_LEVELS = (("bodyparts", "coords"), ("individuals", "bodyparts", "coords"))  # below the scorer
_NUMBER = re.compile(r"(\d{1,18})(?:\.\w+)?$", re.ASCII)  # at the end of an image's name
TITLE = "a table of DeepLabCut"


@dataclass(frozen=True, slots=True)
class DlcColumns:
    """Which column holds what."""

    animals: tuple[str, ...]  # m
    parts: tuple[str, ...]  # k
    places: NDArray[np.intp]  # (m, k, 3) the column of x, y and likelihood; c where there is none

    @classmethod
    def of(cls, columns: Sequence[Sequence[str]], path: Path) -> DlcColumns:
        """Read the levels of the columns: scorer, the animal where there are several, body part, coordinate.

        Raises:
            RecordingError: they are something else.
        """
        names = [tuple(column) for column in columns]
        if not names or len({len(name) for name in names}) != 1 or len(names[0]) not in (3, 4):
            raise RecordingError(f"{path}: its columns must have the levels scorer, individuals, bodyparts, coords")
        if len(scorers := {name[0] for name in names}) > 1:
            raise RecordingError(f"{path}: holds the predictions of {len(scorers)} scorers; save one file for each")
        full = [(name[1] if len(name) == 4 else "", *name[-2:]) for name in names]
        animals = tuple(dict.fromkeys(animal for animal, _, _ in full))
        parts = tuple(dict.fromkeys(part for _, part, _ in full))
        # Of each column the number of its animal and of its part: a table of names alone may be large.
        block_step(path, len(animals) * len(parts))
        places = np.full((len(animals), len(parts), 3), len(full))
        at_animal = {name: number for number, name in enumerate(animals)}
        at_part = {name: number for number, name in enumerate(parts)}
        for column, (animal, part, value) in enumerate(full):
            if value not in COORDINATES:
                raise RecordingError(f"{path}: coords must be {', '.join(COORDINATES)}; got {value[:40]!r}")
            places[at_animal[animal], at_part[part], COORDINATES.index(value)] = column
        return cls(animals, parts, places)

    def add(self, found: PresentInstances, first: int, values: NDArray[np.float64]) -> None:
        """Take the instances of rows (b, c) of a table, of which the first is row `first`."""
        padded = np.concatenate([values, np.full((len(values), 1), np.nan)], axis=1)[:, self.places]
        weights = padded[..., 2]
        found.add(
            first,
            keypoints=padded[..., :2],
            keypoint_scores=None if (self.places[..., 2] == len(values.T)).all() else weights,
        )

    def step(self, path: Path) -> int:
        """The number of rows to read at once."""
        return block_step(path, self.places.size)

    def frames(
        self, path: Path, limits: RecordingLimits, numbers: Sequence[int], found: PresentInstances
    ) -> WrittenFrames:
        """All frames: the animals are tracks."""
        arrays = found.arrays()
        ids, names = ([0], {}) if self.animals == ("",) else ids_of(self.animals)
        return in_frames(
            path, limits, list(numbers), arrays.pop("place"), np.array(ids, np.int64)[arrays.pop("track")], **arrays,
            skeleton=Skeleton(self.parts), names=names,
        )  # fmt: skip


def read_dlc_csv(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All rows. A row's frame is its number, or the number at the end of its image's name.

    Raises:
        RecordingError: names the file and the row.
    """
    table = rows_of(path)
    head = [next(table, []) for _ in range(3)]
    if head[1][:1] == ["individuals"]:
        head.append(next(table, []))
    levels = tuple(row[0] if row else "" for row in head)
    if levels[:1] != ("scorer",) or levels[1:] not in _LEVELS or len({len(row) for row in head}) != 1:
        raise RecordingError(f"{path}: not {TITLE}: its rows must begin with scorer, individuals, bodyparts, coords")
    n_index = next((place for place in range(1, len(head[0])) if head[0][place]), len(head[0]))
    columns = DlcColumns.of(list(zip(*(row[n_index:] for row in head), strict=True)), path)
    found = PresentInstances(path)
    frames: list[int] = []
    block: list[list[float]] = []
    step = columns.step(path)
    for number, cells in enumerate(table, start=len(head) + 1):
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}, row {number}"
        if len(cells) != len(head[0]):
            raise RecordingError(f"{where}: must have {len(head[0])} cells, as the header; got {len(cells)}")
        frames.append(frame_number(cells[n_index - 1], where))
        limits.check_frames(len(frames), where)
        block.append([_real(cell, where) for cell in cells[n_index:]])
        if len(block) == step:
            columns.add(found, len(frames) - len(block), np.array(block))
            block = []
    columns.add(
        found, len(frames) - len(block), np.array(block, np.float64).reshape(len(block), len(head[0]) - n_index)
    )
    return columns.frames(path, limits, frames, found)


def frame_number(label: Any, where: str) -> int:
    """The frame of a row: its label if that is a number, else the number at the end of the image's name.

    Raises:
        RecordingError: it has none.
    """
    text = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
    match = _NUMBER.search(text.strip())
    if match is None:
        raise RecordingError(f"{where}: its frame must be a number, or the name of an image; got {text[:60]!r}")
    return int(match[1])


def _real(text: str, where: str) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise RecordingError(f"{where}: must hold numbers or empty cells; got {text[:40]!r}") from None


def _is_dlc(path: Path) -> bool:
    return header_of(path)[:1] == ["scorer"]


def block_rows(n_rows: int, step: int) -> Iterator[slice]:
    """The rows of a table in blocks."""
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


DLC_CSV = WrittenFormat(kind="dlc", title=TITLE, suffixes=(".csv",), read=read_dlc_csv, recognises=_is_dlc)
