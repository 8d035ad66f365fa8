"""JSON lines, which trackd writes as the output `jsonl`: a line for the stream, then a line for each frame."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackd_client.detections import Skeleton
from trackd_client.excerpt import excerpt
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames, WrittenRows

VERSION = 1
_DEPTH = {"boxes": 2, "keypoints": 3, "keypoint_scores": 2}


def read_json_lines(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames; an incomplete last line, of a process that was killed, is left out.

    Raises:
        RecordingError: names the file and the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            head = _object(file.readline(), f"{path}, line 1")
            if head is None or head.get("trackd") != VERSION:
                raise RecordingError(f'{path}, line 1: must describe the stream, as {{"trackd": {VERSION}, …}}')
            rows = WrittenRows(path, limits, _skeleton(head, path))
            for number, line in enumerate(file, start=2):
                where = f"{path}, line {number}"
                frame = _object(line, where)
                if frame is not None:
                    _add(rows, frame, where)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    shape, fps, source = head.get("frame_shape"), head.get("fps"), head.get("source")
    if shape is not None:
        if not (isinstance(shape, list) and len(shape) in (2, 3) and all(type(side) is int for side in shape)):
            raise RecordingError(
                f"{path}, line 1: frame_shape must be [h, w] or [h, w, channels]; got {excerpt(shape)}"
            )
        limits.check_shape(tuple(shape), f"{path}, line 1")
    if fps is not None and not (_is_number(fps) and 0 < fps < 1e9):
        raise RecordingError(f"{path}, line 1: fps must be a number > 0; got {excerpt(fps)}")
    return rows.written(
        source=source if isinstance(source, str) else None, frame_shape=None if shape is None else tuple(shape), fps=fps
    )


def _object(line: str, where: str) -> dict[str, Any] | None:
    """The object of a line; None for a last line without its end."""
    if not line.endswith("\n"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RecordingError(f"{where}: must be an object; got {excerpt(value)}")
    return value


def _skeleton(head: Mapping[str, Any], path: Path) -> Skeleton | None:
    nodes, edges = head.get("nodes"), head.get("edges") or []
    if nodes is None:
        return None
    named = isinstance(nodes, list) and all(isinstance(node, str) for node in nodes)
    if not named or not isinstance(edges, list) or not all(_is_edge(edge, len(nodes)) for edge in edges):
        raise RecordingError(f"{path}, line 1: nodes must be names, and edges pairs of their numbers")
    return Skeleton(tuple(nodes), tuple((first, second) for first, second in edges))


def _is_edge(edge: Any, n_nodes: int) -> bool:
    return isinstance(edge, list) and len(edge) == 2 and all(type(i) is int and 0 <= i < n_nodes for i in edge)


def _add(rows: WrittenRows, frame: Mapping[str, Any], where: str) -> None:
    numbers = [frame.get(name) for name in ("frame_index", "t_ns")]
    ids = frame.get("track_ids")
    if not all(type(number) is int for number in numbers) or not isinstance(ids, list):
        raise RecordingError(f"{where}: must hold the whole numbers frame_index and t_ns, and the list track_ids")
    if not all(type(track_id) is int for track_id in ids):
        raise RecordingError(f"{where}: track_ids must be whole numbers")
    if rows.skeleton is None and frame.get("keypoints"):
        first = frame["keypoints"][0] if isinstance(frame["keypoints"], list) else None
        if not isinstance(first, list) or len(first) > 4096:
            raise RecordingError(f"{where}: keypoints must be a list of [x, y] for each instance")
        rows.skeleton = Skeleton(tuple(f"node{i}" for i in range(len(first))))
    values = {
        name: _flat(frame.get(name), _DEPTH.get(name, 1), f"{where}: {name}")
        for name in ("boxes", "scores", "track_scores", "keypoints", "keypoint_scores")
    }
    rows.add(where, numbers[0] or 0, numbers[1] or 0, ids, **values)
    names = _by_id(frame, "names", str, where)
    rows.note_names(ids, names)
    rows.note_corrections(numbers[0] or 0, frame.get("corrections") or [], where)
    rows.lineage.update(_by_id(frame, "parents", int, where))


def _by_id(frame: Mapping[str, Any], key: str, kind: type, where: str) -> dict[int, Any]:
    given = frame.get(key) or {}
    if not isinstance(given, dict) or not all(k.isascii() and k.isdecimal() and len(k) < 11 for k in given):
        raise RecordingError(f"{where}: {key} must map track ids to values")
    if not all(type(value) is kind for value in given.values()):
        raise RecordingError(f"{where}: the values of {key} must be of type {kind.__name__}")
    return {int(track_id): value for track_id, value in given.items()}


def _flat(value: Any, depth: int, where: str) -> list[float] | None:
    """Nested lists of numbers as one list; null is NaN."""
    if value is None:
        return None
    level = [value]
    for _ in range(depth):
        if not all(isinstance(part, list) for part in level):
            raise RecordingError(f"{where} must be lists of numbers, nested {depth} deep")
        level = [item for part in level for item in part]
    if not all(item is None or _is_number(item) for item in level):
        raise RecordingError(f"{where} must hold numbers or null")
    return [math.nan if item is None else float(item) for item in level]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= 2**63)


JSON_LINES = WrittenFormat(kind="jsonl", title="JSON lines of trackd", suffixes=(".jsonl",), read=read_json_lines)
