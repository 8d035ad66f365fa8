"""GEFF, the graph exchange format of lineage tools: nodes are instances, edges lead along tracks and to children.

Letters: i nodes, e edges.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Skeleton
from trackd_client.recordings.labels.tracklets import Links, linear_tracklets
from trackd_client.recordings.limits import MAX_WHOLE, RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.corrections_text import corrections_of
from trackd_client.recordings.written.track_arrays import in_frames
from trackd_client.recordings.written.track_names import given_names
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames
from trackd_client.recordings.written.zarr_arrays import attributes_of, has_array, read_arrays

logger = logging.getLogger(__name__)

TITLE = "a graph of GEFF"
NODES, EDGES, PROPS = "nodes/ids", "edges/ids", "nodes/props"
_OWN = ("t_ns", "score", "track_score", "box")  # that trackd writes beside the axes and the track


def read_geff(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames that have a node.

    The tracks are those of the property that the file names as its tracklets. Without one they follow the edges: a
    division begins tracks, and a node without an edge has no track.

    Raises:
        RecordingError: names the folder and the array.
    """
    about = attributes_of(path).get("geff")
    if not isinstance(about, dict):
        raise RecordingError(f"{path}: not {TITLE}: its attributes have no geff")
    extra = about.get("extra")
    own = extra.get("trackd", {}) if isinstance(extra, dict) else {}
    own = own if isinstance(own, dict) else {}
    time, x, y = _axes(about, path)
    tracklet = about.get("track_node_props")
    track = tracklet.get("tracklet") if isinstance(tracklet, dict) else None
    optional = [
        name
        for name in (*_OWN, track)
        if isinstance(name, str) and _is_plain(name) and has_array(path, f"{PROPS}/{name}/values")
    ]
    names = [time, x, y, *(name for name in optional if name not in (time, x, y))]
    wanted = {name: f"{PROPS}/{name}/values" for name in names}
    missing = {name: f"{PROPS}/{name}/missing" for name in names if has_array(path, f"{PROPS}/{name}/missing")}
    arrays = read_arrays(path, [NODES, EDGES, *wanted.values(), *missing.values()])
    node_ids = arrays[NODES].astype(np.int64)
    values = {
        name: arrays[key].astype(np.float64 if name in (x, y) else arrays[key].dtype) for name, key in wanted.items()
    }
    n = len(node_ids)
    for name, found in values.items():
        if found.shape != ((n, 4) if name == "box" else (n,)):
            raise RecordingError(f"{path}, {wanted[name]}: must have a value for each of {n} nodes; has {found.shape}")
    for key in missing.values():
        if arrays[key].shape != (n,):
            raise RecordingError(f"{path}, {key}: must have a value for each of {n} nodes")
    absent = {name: arrays[key].astype(bool) for name, key in missing.items()}
    at = _whole(values[time], f"{path}, {wanted[time]}")
    order = np.argsort(at, kind="stable")
    at, node_ids = at[order], node_ids[order]
    values = {name: found[order] for name, found in values.items()}
    absent = {name: found[order] for name, found in absent.items()}
    points = np.stack([values[x], values[y]], axis=1)
    sources, targets = _edges(arrays[EDGES], node_ids, at, path)
    if track in values:
        ids = np.where(absent.get(track, np.zeros(n, bool)), -1, _whole(values[track], f"{path}, {wanted[track]}", -1))
        lineage = _parents(ids, sources, targets)
    else:
        links = Links(sources, targets, _trees(n, sources, targets))
        ids, lineage = linear_tracklets(at, points, links)
    frames, first, place = np.unique(at, return_index=True, return_inverse=True)
    boxes = values["box"].astype(np.float64) if "box" in values else None
    centred = boxes is not None and np.allclose((boxes[:, :2] + boxes[:, 2:]) / 2, points, atol=1e-3, equal_nan=True)
    scores = values["score"].astype(np.float64) if "score" in values else None
    tracking = values["track_score"].astype(np.float64) if "track_score" in values else None
    if tracking is not None and "track_score" in absent:
        tracking[absent["track_score"]] = np.nan
    return in_frames(
        path, limits, frames, place, ids, boxes=boxes, scores=scores, track_scores=tracking,
        keypoints=None if centred else points[:, None], skeleton=None if centred else Skeleton(("centroid",)),
        t_ns=_whole(values["t_ns"], f"{path}, t_ns")[first] if "t_ns" in values else None,
        names=_names(own), lineage=_by_id(own.get("parents"), int) or lineage,
        source=own.get("source") if isinstance(own.get("source"), str) else None, **_video(own, path, limits),
        corrections=corrections_of(own.get("corrections"), path),
    )  # fmt: skip


def _axes(about: Mapping[str, Any], path: Path) -> tuple[str, str, str]:
    """The names of the properties of time, x and y."""
    axes = [axis for axis in about.get("axes") or [] if isinstance(axis, dict) and isinstance(axis.get("name"), str)]
    time = [axis["name"] for axis in axes if axis.get("type") == "time"]
    space = [axis["name"] for axis in axes if axis.get("type") == "space"]
    if len(time) != 1 or len(space) < 2 or not all(_is_plain(name) for name in (*time, *space)):
        raise RecordingError(f"{path}: its axes must be one of time and two of space; got {str(axes)[:120]}")
    if "x" in space and "y" in space:
        return time[0], "x", "y"
    return time[0], space[-1], space[-2]  # the order of images: z, y, x


def _is_plain(name: str) -> bool:
    """Whether it names a property, and no other place of the disk."""
    return bool(name) and "/" not in name and "\\" not in name and "\0" not in name and name not in (".", "..")


def _whole(values: NDArray[Any], where: str, least: int = 0) -> NDArray[np.int64]:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all() or (values.dtype.kind == "f" and (numbers != np.rint(numbers)).any()):
        raise RecordingError(f"{where}: must hold whole numbers")
    if len(values) and (numbers.min() < least or numbers.max() > 2**63 - 1024):
        raise RecordingError(f"{where}: must hold numbers from {least} on; got {numbers.min():g} to {numbers.max():g}")
    return values.astype(np.int64)


def _edges(
    edges: NDArray[Any], node_ids: NDArray[np.int64], at: NDArray[np.int64], path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows (e,) of the earlier and of the later node of each edge."""
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise RecordingError(f"{path}, {EDGES}: must be pairs of nodes; has the shape {edges.shape}")
    order = np.argsort(node_ids, kind="stable")
    ordered = node_ids[order]
    if (np.diff(ordered) == 0).any():
        raise RecordingError(f"{path}, {NODES}: must be different numbers")
    named = edges.astype(np.int64)
    rows = np.searchsorted(ordered, named)
    if rows.size and (rows.max() >= len(ordered) or (ordered[rows] != named).any()):
        raise RecordingError(f"{path}, {EDGES}: must name nodes that are there")
    pairs = np.sort(order[rows], axis=1)  # rows rise with time
    within = at[pairs[:, 0]] == at[pairs[:, 1]]
    if within.any():
        logger.warning("%d edges within a frame are left out file=%s", int(within.sum()), path)
        pairs = pairs[~within]
    return pairs[:, 0], pairs[:, 1]


def _parents(ids: NDArray[np.int64], sources: NDArray[np.int64], targets: NDArray[np.int64]) -> dict[int, int]:
    """The parent of each track whose first node has an edge from another track."""
    begun: set[int] = set()
    parents: dict[int, int] = {}
    first = {}
    for row, track in enumerate(ids.tolist()):
        if track >= 0 and track not in begun:
            begun.add(track)
            first[row] = track
    for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
        child, parent = first.get(target), int(ids[source])
        if child is not None and parent >= 0 and parent != child:
            parents.setdefault(child, parent)
    return parents


def _trees(n: int, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number (e,) of the connected tree of each edge."""
    above = list(range(n))

    def root(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
        ends = sorted((root(source), root(target)))
        above[ends[1]] = ends[0]
    _, trees = np.unique(np.array([root(row) for row in sources.tolist()], np.int64), return_inverse=True)
    return trees.astype(np.int64)


def _names(own: Mapping[str, Any]) -> dict[int, str]:
    names = _by_id(own.get("names"), str)
    return given_names(list(names), list(names.values()))


def _by_id(given: Any, kind: type) -> dict[int, Any]:
    if not isinstance(given, dict) or not all(type(value) is kind for value in given.values()):
        return {}
    return {int(key): value for key, value in given.items() if key.isascii() and key.isdecimal() and len(key) < 11}


def _video(own: Mapping[str, Any], path: Path, limits: RecordingLimits) -> dict[str, Any]:
    shape, fps = own.get("frame_shape"), own.get("fps")
    notes: dict[str, Any] = {}
    if isinstance(shape, list) and len(shape) in (2, 3) and all(type(side) is int for side in shape):
        notes["frame_shape"] = limits.check_shape(tuple(shape), f"{path}, frame_shape")
    if isinstance(fps, int | float) and 0 < fps < MAX_WHOLE:
        notes["fps"] = float(fps)
    return notes


def is_geff(path: Path) -> bool:
    """Whether a folder is such a graph."""
    return path.is_dir() and isinstance(attributes_of(path).get("geff"), dict)


GEFF = WrittenFormat(
    kind="geff", title=TITLE, suffixes=(".geff", ".zarr"), read=read_geff, recognises=is_geff, is_folder=True
)
