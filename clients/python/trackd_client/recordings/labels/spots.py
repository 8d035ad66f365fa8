"""Spots: the detected points in each frame of a recording, and their tracks.

Letters: s spots of the recording, n of a frame, p vertices of all outlines.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

PIXEL_UNITS = ("pixel", "pixels", "px")


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """A polygon for each of some spots, in one array."""

    vertices: NDArray[np.float64]  # (p, 2) x y relative to the spot
    first: NDArray[np.int64]  # (s + 1,) the first vertex of each spot; equal to the next one's if it has none

    def of(self, spot: int) -> NDArray[np.float64]:
        """The polygon (n, 2) of a spot; empty if it has none."""
        return self.vertices[self.first[spot] : self.first[spot + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """The spots of a recording by frame; within a frame in the file's order."""

    frame_index: NDArray[np.int64]  # (s,) rises
    spot_ids: NDArray[np.int64]  # (s,) as in the file, -1 for none
    points: NDArray[np.float64]  # (s, 2) x y, in `unit`
    radii: NDArray[np.float64]  # (s, 2) along x and y, NaN for none
    gt_ids: NDArray[np.int64]  # (s,) -1 for a spot without a track
    lineage: Mapping[int, int] = field(default_factory=dict)  # child → parent
    names: Mapping[int, str] = field(default_factory=dict)  # of the tracks that people gave one
    outlines: Outlines | None = None
    boxes: NDArray[np.float64] | None = None  # (s, 4) x y x y relative to the spot, in place of radii
    unit: str | None = None  # of the coordinates; None: unknown
    pixel_size: tuple[float, float] | None = None  # x, y sides in `unit`, if the file notes them
    n_frames: int | None = None  # of the images, if the file notes it
    frame_shape: tuple[int, int] | None = None  # (h, w) of the images, if the file notes it
    fps: float | None = None

    def __len__(self) -> int:
        return len(self.frame_index)

    @property
    def stop(self) -> int:
        """One past the last frame: of the images, or of the spots."""
        return max(self.n_frames or 0, int(self.frame_index[-1]) + 1 if len(self) else 0)

    def at(self, frame_index: int) -> slice:
        """The frame's spots."""
        first, last = np.searchsorted(self.frame_index, [frame_index, frame_index + 1])
        return slice(int(first), int(last))

    def in_pixels(self, pixel_size: tuple[float, float]) -> Spots:
        """The same spots with all lengths divided by a pixel's sides."""
        if pixel_size == (1.0, 1.0):
            return replace(self, unit="pixel")
        sides = np.array(pixel_size)
        outlines = self.outlines
        return replace(
            self,
            points=self.points / sides,
            radii=self.radii / sides,
            outlines=None if outlines is None else replace(outlines, vertices=outlines.vertices / sides),
            boxes=None if self.boxes is None else self.boxes / np.tile(sides, 2),
            unit="pixel",
        )


@dataclass(slots=True)
class SpotRows:
    """The spots of a file while it is read, in the file's order. Each number takes eight bytes."""

    frames: array[int] = field(default_factory=lambda: array("q"))
    spot_ids: array[int] = field(default_factory=lambda: array("q"))
    tracks: array[int] = field(default_factory=lambda: array("q"))
    places: array[float] = field(default_factory=lambda: array("d"))  # x, y, radius of each
    vertices: array[float] = field(default_factory=lambda: array("d"))
    n_vertices: array[int] = field(default_factory=lambda: array("q"))

    def add(
        self,
        frame: int,
        x: float,
        y: float,
        *,
        track: int = -1,
        spot_id: int = -1,
        radius: float = math.nan,
        outline: Sequence[float] = (),
    ) -> None:
        """Add one spot. The outline is x y x y …, relative to the spot."""
        self.frames.append(frame)
        self.spot_ids.append(spot_id)
        self.tracks.append(track)
        self.places.extend((x, y, radius if radius > 0 else math.nan))
        self.vertices.extend(outline)
        self.n_vertices.append(len(outline) // 2)

    def spots(self) -> Spots:
        """All spots, sorted by frame."""
        frames = np.array(self.frames, np.int64)
        order = np.argsort(frames, kind="stable")
        places = np.array(self.places, np.float64).reshape(-1, 3)[order]
        return Spots(
            frame_index=frames[order],
            spot_ids=np.array(self.spot_ids, np.int64)[order],
            points=places[:, :2],
            radii=places[:, [2, 2]],
            gt_ids=np.array(self.tracks, np.int64)[order],
            outlines=self._outlines(order) if len(self.vertices) else None,
        )

    def _outlines(self, order: NDArray[np.intp]) -> Outlines:
        counts = np.array(self.n_vertices, np.int64)
        pieces = np.split(np.array(self.vertices, np.float64).reshape(-1, 2), np.cumsum(counts)[:-1])
        first = np.concatenate([[0], np.cumsum(counts[order])])
        return Outlines(np.concatenate([pieces[i] for i in order]), first)


def one_a_frame(spots: Spots, path: Path) -> Spots:
    """The same spots, in which only a track's first spot of a frame has the identity.

    Further spots of the track in that frame become detections without identity, because an identity has one instance
    in a frame. Such rows occur in files made by hand, and at the split of a track in a table without links.
    """
    tracked = np.flatnonzero(spots.gt_ids >= 0)
    keys = np.stack([spots.frame_index[tracked], spots.gt_ids[tracked]], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.delete(tracked, first)
    if not len(again):
        return spots
    gt_ids = spots.gt_ids.copy()
    gt_ids[again] = -1
    logger.warning(
        "%d spots are not the first of their track in a frame and get no identity file=%s tracks=%s first_at_frame=%d",
        len(again), path, sorted({int(i) for i in spots.gt_ids[again]}), spots.frame_index[again[0]],
    )  # fmt: skip
    return replace(spots, gt_ids=gt_ids)
