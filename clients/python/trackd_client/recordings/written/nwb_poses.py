"""Neurodata Without Borders: the pose estimations of ndx-pose, one for each animal.

Letters: s samples of a series, k nodes, i instances, f frames.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Skeleton
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.corrections_text import corrections_of
from trackd_client.recordings.written.hdf5_tables import (
    attribute_text,
    numbers,
    opened,
    table,
    text_at,
    texts,
    whole_numbers,
)
from trackd_client.recordings.written.track_arrays import check_room, in_frames
from trackd_client.recordings.written.track_names import given_names, ids_of
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

TITLE = "an NWB file with poses of ndx-pose"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_TIME_NS = 2**62
_TRACK = re.compile(r"track (\d{1,10})", re.ASCII)
_FORBIDDEN = str.maketrans({"/": "_", ":": "_"})  # in the name of an object of an NWB file


@dataclass(frozen=True, slots=True, eq=False)
class _Pose:
    """The samples of one animal."""

    times: NDArray[np.int64]  # (s,) ns from the session's start, rising
    points: NDArray[np.float64]  # (s, k, 2)
    weights: NDArray[np.float64]  # (s, k)
    boxes: NDArray[np.float64]  # (s, 4)
    scores: NDArray[np.float64]  # (s, 2) the detector's, the track's


def read_nwb(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames. A file that trackd wrote also has frame numbers, ids, names, parents, boxes and corrections.

    Another file's frames are counted by the smallest distance of its timestamps, where all are multiples of it, else
    in their order.

    Raises:
        RecordingError: names the file and the object.
    """
    with opened(path, TITLE) as file:
        module = _module(file, path)
        poses = {name: item for name, item in module.items() if _is_a(item, "PoseEstimation", path)}
        skeleton = _skeleton(next(iter(poses.values())), path) if poses else Skeleton(())
        frames: NDArray[np.int64] | None = None
        parents: dict[int, int] = {}
        numbered, given = ids_of([name.removeprefix("track=") for name in poses])  # which sleap-io puts before a name
        ids = dict(zip(poses, numbered, strict=True))
        if "tracks" in module and "frames" in module:
            listed, given, parents = _tracks(module["tracks"], path)
            ids = {name: _id(item, name, listed, path) for name, item in poses.items()}
            frames = whole_numbers(module["frames"], "data", path)
        read: dict[str, _Pose] = {}
        for name in poses:
            read[name] = _pose(module, name, skeleton, path)
            check_room(path, sum(pose.points.nbytes + pose.weights.nbytes for pose in read.values()))
        times = np.unique(np.concatenate([np.empty(0, np.int64), *(pose.times for pose in read.values())]))
        if frames is not None:
            listed_times = _times(module["frames"], len(frames), path)
            if len(np.unique(listed_times)) != len(listed_times):
                raise RecordingError(f"{path}, frames: two frames have one capture time")
            order = np.argsort(listed_times)
            if not np.isin(times, listed_times).all():
                raise RecordingError(f"{path}, frames: must list the time of every pose")
            times, frames = listed_times[order], frames[order]
        else:
            frames = _numbered(times, limits)
        start_ns = _start_ns(file, path)
        posed = skeleton.nodes != ("centroid",) or "tracks" not in module
        arrays: dict[str, list[NDArray[Any]]] = {}
        for name, pose in read.items():
            seen = np.asarray(np.isfinite(pose.points).all(axis=2))
            there = seen.any(axis=1) | np.isfinite(pose.boxes).all(axis=1)
            for key, values in (
                ("place", np.searchsorted(times, pose.times)), ("ids", np.full(len(pose.times), ids[name])),
                ("keypoints", pose.points), ("keypoint_scores", pose.weights), ("boxes", pose.boxes),
                ("scores", pose.scores[:, 0]), ("track_scores", pose.scores[:, 1]),
            ):  # fmt: skip
                arrays.setdefault(key, []).append(values[there])
        joined: dict[str, Any] = {key: np.concatenate(pieces) for key, pieces in arrays.items()}
        for key in [key for key in ("boxes", "scores", "track_scores") if key in joined]:
            if not np.isfinite(joined[key]).any():
                del joined[key]
        if not posed and "boxes" in joined:  # the node is the centre of the box
            joined = {key: values for key, values in joined.items() if not key.startswith("keypoint")}
        noted = _video(next(iter(poses.values())), path, limits) if poses else {}
        return in_frames(
            path, limits, frames, joined.pop("place", []), joined.pop("ids", []), t_ns=times + start_ns, **joined,
            skeleton=skeleton if "keypoints" in joined else None, names=given, lineage=parents,
            corrections=_corrections(module, path), **noted,
        )  # fmt: skip


def _module(file: Any, path: Path) -> Any:
    """The processing module that holds poses."""
    modules = file.get("processing")
    found = (
        [each for each in modules.values() if any(_is_a(item, "PoseEstimation", path) for item in each.values())]
        if modules is not None
        else []
    )
    own = None if modules is None else modules.get("behavior")
    if not found and own is not None and "tracks" in own:
        return own  # of a recording without any track
    if len(found) != 1:
        raise RecordingError(f"{path}: must hold poses of one video; holds those of {len(found)}")
    return found[0]


def _is_a(item: Any, kind: str, path: Path) -> bool:
    return attribute_text(item, "neurodata_type", path) == kind


def _skeleton(pose: Any, path: Path) -> Skeleton:
    """The nodes and edges: of the skeleton, else of the pose itself, else the names of its series."""
    holder = pose.get("skeleton", pose)
    if "nodes" not in holder:
        return Skeleton(tuple(name for name, item in pose.items() if _is_a(item, "PoseEstimationSeries", path)))
    nodes = texts(holder, "nodes", path)
    edges: tuple[tuple[int, int], ...] = ()
    if "edges" in holder and holder["edges"].size:
        pairs = numbers(holder, "edges", path, n_axes=2)
        if pairs.shape[1] != 2 or pairs.min() < 0 or pairs.max() >= len(nodes):
            raise RecordingError(f"{path}, edges: must be pairs of the numbers of nodes")
        edges = tuple((int(first), int(second)) for first, second in pairs)
    return Skeleton(tuple(nodes), edges)


def _tracks(tracks: Any, path: Path) -> tuple[list[int], dict[int, str], dict[int, int]]:
    """The ids, the given names and the parents of a table that trackd wrote."""
    ids = whole_numbers(tracks, "track_id", path).tolist()
    names, above = texts(tracks, "track_name", path), whole_numbers(tracks, "parent_id", path, len(ids)).tolist()
    if len(names) != len(ids):
        raise RecordingError(f"{path}, tracks: must have a name for each of {len(ids)} tracks")
    parents = {child: parent for child, parent in zip(ids, above, strict=True) if parent >= 0}
    return ids, given_names(ids, names), parents


def _id(pose: Any, name: str, listed: list[int], path: Path) -> int:
    match = _TRACK.fullmatch(text_at(pose, "description", path) or attribute_text(pose, "description", path) or "")
    if match is None or int(match[1]) not in listed:
        raise RecordingError(f"{path}, {name}: its description must be the id of a track of the table, as in `track 7`")
    return int(match[1])


def _pose(module: Any, name: str, skeleton: Skeleton, path: Path) -> _Pose:
    pose = module[name]
    series = {node: pose[plain] for node in skeleton.nodes if (plain := node.translate(_FORBIDDEN)) in pose}
    found = {node: (_times(each, len(each["data"]), path), each) for node, each in series.items()}
    times = np.unique(np.concatenate([np.empty(0, np.int64), *(at for at, _ in found.values())]))
    k = len(skeleton.nodes)
    check_room(path, len(times) * (3 * k + 6) * 8)
    points, weights = np.full((len(times), k, 2), np.nan), np.full((len(times), k), np.nan)
    for place, node in enumerate(skeleton.nodes):
        if node in found:
            at, each = found[node]
            rows = np.searchsorted(times, at)
            data = numbers(each, "data", path, len(at), n_axes=2)
            if data.shape[1] not in (2, 3):
                raise RecordingError(f"{path}, {name}/{node}: must have x y, or x y z; has {data.shape[1]} columns")
            points[rows, place] = data[:, :2]
            if "confidence" in each:
                weights[rows, place] = numbers(each, "confidence", path, len(at))
    boxes, scores = np.full((len(times), 4), np.nan), np.full((len(times), 2), np.nan)
    for part, values in (("box", boxes), ("scores", scores)):
        beside = module.get(f"{name}_{part}")
        if beside is not None and len(times):
            data = numbers(beside, "data", path, n_axes=2)
            at = _times(beside, len(data), path)
            rows = np.minimum(np.searchsorted(times, at), len(times) - 1)
            if data.shape[1] != values.shape[1] or (times[rows] != at).any():
                raise RecordingError(
                    f"{path}, {name}_{part}: must have {values.shape[1]} columns at the times of {name}"
                )
            values[rows] = data
    return _Pose(times, points, weights, boxes, scores)


def _times(series: Any, n: int, path: Path) -> NDArray[np.int64]:
    """The times (s,) of a series, in ns from the start of the session."""
    if "timestamps" in series:
        seconds = numbers(series, "timestamps", path, n).astype(np.float64)
    else:
        start = table(series, "starting_time", path, 0)
        rate = start.attrs.get("rate", np.nan)
        seconds = float(start[()]) + np.arange(n) / float(rate)
    if not np.isfinite(seconds).all() or (
        len(seconds) and not 0 <= seconds.min() <= seconds.max() < MOST_TIME_NS / 1e9
    ):
        raise RecordingError(f"{path}, {series.name.lstrip('/')}: its times must be seconds from 0 on")
    return np.rint(seconds * 1e9).astype(np.int64)


def _numbered(times: NDArray[np.int64], limits: RecordingLimits) -> NDArray[np.int64]:
    """Frame numbers (f,) of times (f,) that rise."""
    if len(times) > 1:
        counts = times / np.diff(times).min()
        frames: NDArray[np.int64] = np.rint(counts).astype(np.int64)
        if (np.abs(counts - frames) < 0.1).all():
            return frames if frames[-1] < limits.recording_frames else frames - frames[0]
    return np.arange(len(times))


def _start_ns(file: Any, path: Path) -> int:
    """The session's start, in ns since 1970; 0 if it is not known."""
    try:
        start = datetime.fromisoformat(text_at(file, "session_start_time", path) or "")
    except ValueError:
        return 0
    start = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
    start_ns = 1000 * ((start - EPOCH) // timedelta(microseconds=1))
    return start_ns if 0 <= start_ns < MOST_TIME_NS else 0


def _video(pose: Any, path: Path, limits: RecordingLimits) -> dict[str, Any]:
    """The video and the frames' shape, where they are noted."""
    notes: dict[str, Any] = {}
    if "original_videos" in pose and (videos := texts(pose, "original_videos", path)):
        notes["source"] = videos[0]
    if "dimensions" in pose and (sides := numbers(pose, "dimensions", path, n_axes=2)).shape[1:] == (2,) and len(sides):
        notes["frame_shape"] = limits.check_shape((int(sides[0, 1]), int(sides[0, 0])), f"{path}, dimensions")
    return notes


def _corrections(module: Any, path: Path) -> dict[int, list[dict[str, Any]]]:
    listed = module.get("corrections")
    if listed is None:
        return {}
    made = texts(listed, "corrections", path)
    frames = whole_numbers(listed, "frame_index", path, len(made)).tolist()
    return corrections_of([[frame, _json(text, path)] for frame, text in zip(frames, made, strict=True)], path)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}, corrections: not JSON: {error}") from None


NWB = WrittenFormat(kind="nwb", title=TITLE, suffixes=(".nwb",), read=read_nwb)
