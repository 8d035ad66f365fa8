"""movement's datasets (netCDF): poses, or bounding boxes.

Letters: f frames, m individuals, k key points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Skeleton
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.corrections_text import corrections_of
from trackd_client.recordings.written.hdf5_tables import (
    SPARSE_RATIO,
    attribute_text,
    numbers,
    opened,
    table,
    texts,
    whole_numbers,
)
from trackd_client.recordings.written.track_arrays import PresentInstances, block_step, in_frames
from trackd_client.recordings.written.track_names import given_names, ids_of
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

TITLE = "a dataset of movement"
SPACE = ("x", "y")
# The variables, and their axes in the order that is read; movement's files may have another.
POINTS = ("time", "individuals", "keypoints", "space")
BOXES = ("time", "individuals", "space")
NODE_SCORES = ("time", "individuals", "keypoints")
SCORES = ("time", "individuals")


def read_movement(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames. A file that trackd wrote also has frame numbers, ids, exact times, parents and corrections.

    Without frame numbers they are counted by the frame rate, else from 0. Where `time` is in seconds, these are the
    capture times.

    Raises:
        RecordingError: names the file and the variable.
    """
    with opened(path, TITLE) as file:
        space, names = texts(file, "space", path), texts(file, "individuals", path)
        kind = attribute_text(file, "ds_type", path) or ("poses" if "keypoints" in file else "bboxes")
        if tuple(space[:2]) != SPACE or kind not in ("poses", "bboxes"):
            raise RecordingError(
                f"{path}: not {TITLE}: needs space x y, and ds_type poses or bboxes; has {space}, {kind}"
            )
        nodes = texts(file, "keypoints", path) if kind == "poses" else []
        wanted: dict[str, tuple[str, ...]] = {"track_score": SCORES}
        if kind == "poses":
            wanted |= {"position": POINTS, "confidence": NODE_SCORES, "box_position": BOXES, "box_shape": BOXES,
                       "score": SCORES}  # fmt: skip
        else:
            wanted |= {"position": BOXES, "shape": BOXES, "confidence": SCORES}
        sizes = {
            "time": _length(file, "time", path),
            "individuals": len(names),
            "keypoints": len(nodes),
            "space": len(space),
        }
        tables = {name: _Table(file, name, axes, sizes, path) for name, axes in wanted.items() if name in file}
        if "position" not in tables:
            raise RecordingError(f"{path}: not {TITLE}: it has no variable position")
        n_frames = limits.check_frames(sizes["time"], path)
        frames, times = _times(file, n_frames, path)
        found = PresentInstances(path)
        step = block_step(path, len(names) * max(len(nodes), 2), tables["position"].chunk)
        for start in range(0, n_frames, step):
            blocks = {name: each.block(start, min(start + step, n_frames)) for name, each in tables.items()}
            found.add(start, **_instances(blocks, kind))
        arrays = found.arrays()
        ids, given = ids_of(names)
        parents: dict[int, int] = {}
        if "track_id" in file:
            ids = whole_numbers(file, "track_id", path, len(names)).tolist()
            given = given_names(ids, names)
            if "parent_id" in file:
                above = whole_numbers(file, "parent_id", path, len(names)).tolist()
                parents = {child: parent for child, parent in zip(ids, above, strict=True) if parent >= 0}
        return in_frames(
            path, limits, frames, arrays.pop("place"), np.array(ids, np.int64)[arrays.pop("track")], t_ns=times,
            **arrays, skeleton=Skeleton(tuple(nodes)) if nodes else None, names=given, lineage=parents,
            source=attribute_text(file, "video", path), fps=_rate(file),
            corrections=corrections_of(attribute_text(file, "corrections", path), path),
        )  # fmt: skip


class _Table:
    """A variable, with its axes in a given order."""

    def __init__(self, file: Any, name: str, axes: tuple[str, ...], sizes: dict[str, int], path: Path) -> None:
        self._table = table(file, name, path, len(axes), most_ratio=SPARSE_RATIO)
        own = [scales[0].name.lstrip("/") if len(scales) else "" for scales in self._table.dims]
        if sorted(own) != sorted(axes):
            raise RecordingError(f"{path}, {name}: its axes must be {', '.join(axes)}; are {', '.join(own)}")
        if self._table.shape != tuple(sizes[axis] for axis in own) or self._table.dtype.kind not in "iuf":
            raise RecordingError(f"{path}, {name}: must hold numbers for {sizes}; has the shape {self._table.shape}")
        self._time = own.index("time")
        self._order = [own.index(axis) for axis in axes]
        self._spatial = axes[-1] == "space"
        self.chunk = int(self._table.chunks[self._time]) if self._table.chunks else 1

    def block(self, start: int, stop: int) -> NDArray[Any]:
        """Its values of some frames; x and y alone of three-dimensional places."""
        rows = self._table[(*[slice(None)] * self._time, slice(start, stop))]
        values: NDArray[Any] = np.transpose(rows, self._order).astype(np.float64)
        return values[..., :2] if self._spatial else values


def _instances(blocks: dict[str, NDArray[Any]], kind: str) -> dict[str, NDArray[Any] | None]:
    posed = kind == "poses"
    places, sides = (blocks.get(name) for name in (("box_position", "box_shape") if posed else ("position", "shape")))
    boxes = None
    if places is not None:
        half = np.full(places.shape, np.nan) if sides is None else sides / 2
        boxes = np.concatenate([places - half, places + half], axis=2)
    return {
        "boxes": boxes,
        "keypoints": blocks["position"] if posed else None,
        "keypoint_scores": blocks.get("confidence") if posed else None,
        "scores": blocks.get("score" if posed else "confidence"),
        "track_scores": blocks.get("track_score"),
    }


def _length(file: Any, name: str, path: Path) -> int:
    return len(table(file, name, path, 1, most_ratio=SPARSE_RATIO))


def _rate(file: Any) -> float | None:
    value = file.attrs.get("fps")
    fps = (
        float(value.item())
        if isinstance(value, np.ndarray | np.generic) and value.size == 1 and value.dtype.kind in "iuf"
        else None
    )
    return fps if fps is not None and 0 < fps < 1e9 else None


def _times(file: Any, n_frames: int, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The frame numbers (f,), and the capture times (f,) where there are any."""
    if "frame_index" in file and "t_ns" in file:
        frames, times = (
            whole_numbers(file, name, path, n_frames, most_ratio=SPARSE_RATIO) for name in ("frame_index", "t_ns")
        )
        return frames, times
    time = numbers(file, "time", path, n_frames, most_ratio=SPARSE_RATIO).astype(np.float64)
    if not np.isfinite(time).all() or (n_frames and not 0 <= time.min() <= time.max() < 2**33):
        raise RecordingError(f"{path}, time: must be from 0 to 2³³")
    if attribute_text(file, "time_unit", path) == "frames":
        return np.rint(time).astype(np.int64), None
    fps = _rate(file)
    frames = np.arange(n_frames) if fps is None else np.rint(time * fps).astype(np.int64)
    return frames, np.rint(time * 1e9).astype(np.int64)


MOVEMENT = WrittenFormat(kind="movement", title=TITLE, suffixes=(".nc",), read=read_movement)
