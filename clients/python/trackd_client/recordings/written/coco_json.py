"""COCO annotations (JSON): boxes and key points of images, with tracks where annotations name them.

Letters: i annotations, k key points.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackd_client.detections import Skeleton
from trackd_client.excerpt import excerpt
from trackd_client.recordings.limits import MAX_WHOLE, RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.corrections_text import corrections_of
from trackd_client.recordings.written.track_arrays import check_room, in_frames
from trackd_client.recordings.written.track_names import given_names
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

TITLE = "COCO annotations"
_NUMBER = re.compile(r"(\d{1,15})\.\w+$", re.ASCII)  # at the end of an image's name
_ID = re.compile(r"\d{1,10}", re.ASCII)


def read_coco(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All images. The frame of an image is its `frame_index`, else the number at the end of its name, else its place.

    An annotation's track is its `track_id`, or that of its `attributes`; without one it has no track. Key points are
    read of the first category that has any. An annotation without a box has that of its segmentation or key points.

    Raises:
        RecordingError: names the file and the entry.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: cannot be read as JSON: {error}") from None
    images, annotations = (_objects(value, name, path) for name in ("images", "annotations"))
    if not isinstance(value, dict) or "images" not in value:
        raise RecordingError(f"{path}: not {TITLE}: needs the lists images, annotations and categories")
    frames, times = _frames(images, path)
    place = {_key(image.get("id"), f"{path}, images[{number}].id"): number for number, image in enumerate(images)}
    category, skeleton = _skeleton(_objects(value, "categories", path), path)
    k = 0 if skeleton is None else len(skeleton.nodes)
    n = len(annotations)
    check_room(path, n * (3 * k + 8) * 8)
    at, ids = np.empty(n, np.int64), np.full(n, -1, np.int64)
    boxes, scores, tracking = np.full((n, 4), np.nan), np.full(n, np.nan), np.full(n, np.nan)
    points, weights = np.full((n, k, 2), np.nan), np.full((n, k), np.nan)
    names: dict[int, str] = {}
    for row, annotation in enumerate(annotations):
        where = f"{path}, annotations[{row}]"
        image = annotation.get("image_id")
        if not isinstance(image, int | str) or image not in place:
            raise RecordingError(f"{where}: its image_id must be that of an image; got {excerpt(image)}")
        at[row], ids[row] = place[image], _track_id(annotation, where)
        scores[row] = _number(annotation.get("score"), f"{where}.score")
        tracking[row] = _number(annotation.get("track_score"), f"{where}.track_score")
        if k and annotation.get("category_id") == category and annotation.get("keypoints"):
            flat = _numbers(annotation["keypoints"], 3 * k, f"{where}.keypoints").reshape(k, 3)
            points[row] = np.where(flat[:, 2:] > 0, flat[:, :2], np.nan)
            if annotation.get("keypoint_scores") is not None:
                weights[row] = _numbers(annotation["keypoint_scores"], k, f"{where}.keypoint_scores")
        boxes[row] = _box(annotation, points[row], where)
        name = annotation.get("track_name")
        if isinstance(name, str) and ids[row] >= 0:
            names[int(ids[row])] = name
    listed, given, parents = _tracks(value, path)
    posed = bool(np.isfinite(points).any())
    return in_frames(
        path, limits, frames, at, ids, t_ns=times, boxes=boxes, skeleton=skeleton if posed else None,
        scores=scores if np.isfinite(scores).any() else None, track_scores=tracking,
        keypoints=points if posed else None, keypoint_scores=weights if np.isfinite(weights).any() else None,
        names=given if listed else names, lineage=parents, frame_shape=_shape(images, path, limits),
        source=_video(value), corrections=corrections_of(value.get("corrections"), path),
    )  # fmt: skip


def _objects(value: Any, name: str, path: Path) -> list[dict[str, Any]]:
    found = value.get(name, []) if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RecordingError(f"{path}: not {TITLE}: {name} must be a list of objects")
    return found


def _key(value: Any, where: str) -> int | str:
    if not isinstance(value, int | str):
        raise RecordingError(f"{where} must be a number or a text; got {excerpt(value)}")
    return value


def _frames(images: Sequence[Mapping[str, Any]], path: Path) -> tuple[list[int], list[int] | None]:
    """The frame numbers of the images, and their capture times where all have one."""
    indices = [image.get("frame_index") for image in images]
    if all(_is_whole(index) for index in indices):
        frames = [int(index) for index in indices if index is not None]
    else:
        matches = [_NUMBER.search(str(image.get("file_name", ""))) for image in images]
        numbers = [int(match[1]) for match in matches if match is not None]
        frames = numbers if len(set(numbers)) == len(images) else list(range(len(images)))
    times = [image.get("t_ns") for image in images]
    known = images and all(type(t_ns) is int and 0 <= t_ns < 2**63 for t_ns in times)
    return frames, [int(t_ns) for t_ns in times if t_ns is not None] if known else None


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_WHOLE


def _skeleton(categories: Sequence[Mapping[str, Any]], path: Path) -> tuple[Any, Skeleton | None]:
    """The category whose key points are read, and its nodes."""
    for number, category in enumerate(categories):
        nodes, edges = category.get("keypoints"), category.get("skeleton") or []
        if not nodes:
            continue
        where = f"{path}, categories[{number}]"
        if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes) or len(nodes) > 4096:
            raise RecordingError(f"{where}: keypoints must be up to 4096 names")
        if not isinstance(edges, list) or not all(_is_edge(edge, len(nodes)) for edge in edges):
            raise RecordingError(f"{where}: skeleton must be pairs of the numbers of key points, from 1 on")
        return category.get("id"), Skeleton(tuple(nodes), tuple((first - 1, second - 1) for first, second in edges))
    return None, None


def _is_edge(edge: Any, n_nodes: int) -> bool:
    return isinstance(edge, list) and len(edge) == 2 and all(type(i) is int and 1 <= i <= n_nodes for i in edge)


def _track_id(annotation: Mapping[str, Any], where: str) -> int:
    attributes = annotation.get("attributes")
    places = [annotation, *([attributes] if isinstance(attributes, dict) else [])]
    for holder in places:
        for key in ("track_id", "object_id"):
            value = holder.get(key)
            if value is None or (holder is annotation and key == "object_id"):
                continue
            if type(value) is int or (isinstance(value, str) and _ID.fullmatch(value)):
                return min(int(value), 2**31)  # beyond the range of ids, which is said later
            raise RecordingError(f"{where}: {key} must be a whole number; got {excerpt(value)}")
    return -1


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, float) or (type(value) is int and abs(value) <= 2**63):
        return float(value)
    raise RecordingError(f"{where} must be a number; got {excerpt(value)}")


def _numbers(values: Any, n: int, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not isinstance(values, list) or len(values) != n:
        raise RecordingError(f"{where} must hold {n} numbers; got {excerpt(values)}")
    return np.array([_number(value, where) for value in values], np.float64)


def _box(annotation: Mapping[str, Any], points: np.ndarray[Any, Any], where: str) -> Sequence[float]:
    """x1 y1 x2 y2: of `bbox`, else around the polygons, else around the key points; NaN without any."""
    if annotation.get("bbox"):
        x, y, width, height = _numbers(annotation["bbox"], 4, f"{where}.bbox").tolist()
        return x, y, x + width, y + height
    polygons = annotation.get("segmentation")
    corners = points[np.isfinite(points).all(axis=1)]
    if (
        isinstance(polygons, list)
        and polygons
        and all(isinstance(flat, list) and len(flat) % 2 == 0 for flat in polygons)
    ):
        corners = np.concatenate([_numbers(flat, len(flat), f"{where}.segmentation") for flat in polygons]).reshape(
            -1, 2
        )
    if not len(corners):
        return (math.nan,) * 4
    return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def _tracks(value: Mapping[str, Any], path: Path) -> tuple[bool, dict[int, str], dict[int, int]]:
    """Whether the file lists its tracks, as trackd does; the given names, and the parents."""
    rows = _objects(value, "tracks", path)
    ids, names = [row.get("id") for row in rows], [row.get("name") for row in rows]
    if not rows or not all(_is_whole(each) for each in ids) or not all(isinstance(name, str) for name in names):
        return False, {}, {}
    parents = {row["id"]: row["parent_id"] for row in rows if _is_whole(row.get("parent_id"))}
    return True, given_names([int(each) for each in ids if each is not None], [str(name) for name in names]), parents


def _shape(images: Sequence[Mapping[str, Any]], path: Path, limits: RecordingLimits) -> tuple[int, int] | None:
    """The size of the images, if all have one."""
    shapes = {(image.get("height"), image.get("width")) for image in images if _is_size(image)}
    if len(shapes) != 1 or not all(_is_size(image) for image in images):
        return None
    ((height, width),) = shapes
    limits.check_shape((height, width), f"{path}, images")  # type: ignore[arg-type]
    return height, width  # type: ignore[return-value]


def _is_size(image: Mapping[str, Any]) -> bool:
    return all(type(image.get(side)) is int and image[side] > 0 for side in ("height", "width"))


def _video(value: Mapping[str, Any]) -> str | None:
    info = value.get("info")
    video = info.get("video") if isinstance(info, dict) else None
    return video if isinstance(video, str) else None


COCO = WrittenFormat(kind="coco", title=TITLE, suffixes=(".json",), read=read_coco)
