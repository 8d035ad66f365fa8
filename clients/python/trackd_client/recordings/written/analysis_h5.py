"""SLEAP's analysis files (HDF5), as SLEAP, sleap-io and trackd export them.

Letters: f frames, m tracks, k nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    holds,
    numbers,
    opened,
    table,
    text_at,
    texts,
    whole_numbers,
)
from trackd_client.recordings.written.track_arrays import PresentInstances, block_step, in_frames
from trackd_client.recordings.written.track_names import given_names, ids_of
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

AXES = ("frame", "track", "node", "xy")
# The tables, and SLEAP's own order of their axes; sleap-io notes another order in the attribute `dims`.
TABLES = {
    "tracks": ("track", "xy", "node", "frame"),
    "point_scores": ("track", "node", "frame"),
    "instance_scores": ("track", "frame"),
    "tracking_scores": ("track", "frame"),
}
TITLE = "an analysis file of SLEAP"


def read_analysis_h5(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames. A file that trackd wrote also has ids, capture times, parents and corrections.

    Without ids, tracks whose names are all numbers have these; else they are numbered in their order.

    Raises:
        RecordingError: names the file and the table.
    """
    with opened(path, TITLE) as file:
        tables = {
            name: table(file, name, path, len(axes), most_ratio=SPARSE_RATIO)
            for name, axes in TABLES.items()
            if name in file
        }
        if "tracks" not in tables:
            raise RecordingError(f"{path}: not {TITLE}: it has no table tracks")
        orders = {name: _order(found, path) for name, found in tables.items()}
        sizes = dict(zip(orders["tracks"], tables["tracks"].shape, strict=True))
        for name, found in tables.items():
            if found.shape != tuple(sizes[axis] for axis in orders[name]) or found.dtype.kind not in "iuf":
                raise RecordingError(f"{path}, {name}: must have numbers for {sizes}; has the shape {found.shape}")
        n_frames, n_tracks, n_nodes = limits.check_frames(sizes["frame"], path), sizes["track"], sizes["node"]
        nodes, names = texts(file, "node_names", path), texts(file, "track_names", path)
        if len(nodes) != n_nodes or sizes["xy"] != 2 or (names and len(names) != n_tracks):
            raise RecordingError(
                f"{path}, tracks: its shape does not fit {len(names)} tracks, {len(nodes)} nodes and x y"
            )
        found = PresentInstances(path)
        step = block_step(path, n_tracks * n_nodes, _chunk(tables["tracks"], orders["tracks"].index("frame")))
        for start in range(0, n_frames, step):
            stop = min(start + step, n_frames)
            blocks = {name: _block(tables[name], orders[name], start, stop) for name in tables}
            found.add(
                start,
                keypoints=blocks["tracks"],
                keypoint_scores=blocks.get("point_scores"),
                scores=blocks.get("instance_scores"),
                track_scores=_known(blocks.get("tracking_scores")),
            )
        arrays = found.arrays()
        frames, times, place = np.arange(n_frames), None, arrays.pop("place")
        if "frame_index" in file:
            frames = whole_numbers(file, "frame_index", path)
            times = whole_numbers(file, "t_ns", path, len(frames)) if "t_ns" in file else None
            place = _places(frames, place, path)
        ids, given = ids_of(names)
        if not names:
            ids = list(range(n_tracks))
        parents: dict[int, int] = {}
        if "track_ids" in file:
            ids = whole_numbers(file, "track_ids", path, n_tracks).tolist()
            given = given_names(ids, names, plain="{}")
            if "parent_ids" in file:
                above = whole_numbers(file, "parent_ids", path, n_tracks).tolist()
                parents = {child: parent for child, parent in zip(ids, above, strict=True) if parent >= 0}
        return in_frames(
            path, limits, frames, place, np.array(ids, np.int64)[arrays.pop("track")], t_ns=times, **arrays,
            skeleton=Skeleton(tuple(nodes), _edges(file, n_nodes, path)), names=given, lineage=parents,
            source=text_at(file, "video_path", path), **_video(file, path, limits),
            corrections=corrections_of(text_at(file, "corrections", path), path),
        )  # fmt: skip


def _order(found: Any, path: Path) -> tuple[str, ...]:
    """The axes of a table, in its order."""
    own = TABLES[found.name.lstrip("/")]
    noted = attribute_text(found, "dims", path)
    if noted is None:
        return own
    try:
        order = tuple(json.loads(noted))
    except (ValueError, TypeError, RecursionError):
        order = ()
    if len(order) != len(own) or set(order) != set(own):
        raise RecordingError(
            f"{path}, {found.name.lstrip('/')}: its dims must be {list(own)} in some order; got {noted[:80]}"
        )
    return order


def _chunk(found: Any, axis: int) -> int:
    return int(found.chunks[axis]) if found.chunks else 1


def _block(found: Any, order: tuple[str, ...], start: int, stop: int) -> NDArray[Any]:
    """Some frames of a table, with its axes in the order of `AXES`."""
    rows = found[tuple(slice(start, stop) if axis == "frame" else slice(None) for axis in order)]
    values: NDArray[Any] = np.transpose(rows, [order.index(axis) for axis in AXES if axis in order])
    return values.astype(np.float64)


def _known(scores: NDArray[Any] | None) -> NDArray[Any] | None:
    """SLEAP writes 0 where a track has no score."""
    return None if scores is None else np.where(scores == 0, np.nan, scores)


def _places(frames: NDArray[np.int64], place: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """The places of frame numbers in the list of the recorded frames."""
    order = np.argsort(frames, kind="stable")
    at = np.searchsorted(frames[order], place)
    if len(place) and (at.max() >= len(frames) or (frames[order][at] != place).any()):
        raise RecordingError(f"{path}, frame_index: must list every frame that has a track")
    return order[at]


def _edges(file: Any, n_nodes: int, path: Path) -> tuple[tuple[int, int], ...]:
    found = file.get("edge_inds")
    if found is None or not getattr(found, "size", 0):
        return ()
    rows = numbers(file, "edge_inds", path, n_axes=2)
    if rows.shape[1] != 2 or rows.min() < 0 or rows.max() >= n_nodes:
        raise RecordingError(f"{path}, edge_inds: must be pairs of the numbers of nodes")
    return tuple((int(first), int(second)) for first, second in rows)


def _video(file: Any, path: Path, limits: RecordingLimits) -> Mapping[str, Any]:
    """The frames' shape and rate, where sleap-io notes them."""
    try:
        noted = json.loads(attribute_text(file, "video_backend_metadata", path) or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(noted, dict):
        return {}
    shape, fps = noted.get("shape"), noted.get("fps")
    notes: dict[str, Any] = {}
    if isinstance(shape, list) and len(shape) == 4 and all(type(side) is int for side in shape):
        height, width, channels = shape[1:]
        notes["frame_shape"] = (height, width) if channels == 1 else (height, width, channels)
        limits.check_shape(notes["frame_shape"], f"{path}, its video")
    if isinstance(fps, int | float) and 0 < fps < 1e9:
        notes["fps"] = float(fps)
    return notes


ANALYSIS_H5 = WrittenFormat(
    kind="h5",
    title=TITLE,
    suffixes=(".h5", ".hdf5"),
    read=read_analysis_h5,
    recognises=lambda path: holds(path, "tracks", "node_names"),
)
