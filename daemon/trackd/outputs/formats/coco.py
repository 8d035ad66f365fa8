"""COCO: an image for each frame, an annotation for each instance, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.corrections import note_corrections
from trackd.outputs.formats.names import names_of, note_names
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd_client.detections import Skeleton

CATEGORY = 1
VISIBLE = 2  # COCO: 0 not labelled, 1 hidden, 2 visible


class CocoWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.coco.json` at close.

    The image of a frame has its `frame_index` and `t_ns`, and is named as sleap-io names the frames of a video. An
    annotation has the box, the keypoints, the `score`, and beside COCO's keys the `track_id`, `track_name` and
    `track_score` of a tracked instance. The file's `tracks` list all tracks with their `parent_id` (null: none), and
    its `corrections` what people corrected before a frame: `[frame_index, [correction, …]]`. An instance without a box
    is left out, since COCO requires one.
    """

    suffix = ".coco.json"

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file, an annotation at a time."""
        images: list[dict[str, Any]] = []
        parents: dict[int, int] = {}
        names: dict[int, str] = {}
        corrections: list[Any] = []
        ids: set[int] = set()
        n_nodes = 0
        with path.open("w", encoding="utf-8") as file:
            file.write('{"annotations": [')
            number = 0
            for record in records:
                images.append(_image(len(images) + 1, stream, record))
                parents.update(record.parents)
                note_names(names, record)
                note_corrections(corrections, record)
                ids.update(record.track_ids[record.track_ids >= 0].tolist())
                if record.keypoints is not None and len(record.track_ids):
                    n_nodes = n_nodes or record.keypoints.shape[1]
                for annotation in _annotations(record, n_nodes, names):
                    number += 1
                    file.write(",\n" if number > 1 else "\n")
                    json.dump({"id": number, "image_id": len(images), **annotation}, file, allow_nan=False)
            tracks = sorted(ids)
            rest = {
                "info": {"description": f"tracks of the stream {stream.name} by trackd", "video": stream.source},
                "images": images,
                "categories": [_category(stream, n_nodes)],
                "tracks": [
                    {"id": track_id, "name": name, "parent_id": parents.get(track_id)}
                    for track_id, name in zip(tracks, names_of(tracks, names), strict=True)
                ],
                **({"corrections": corrections} if corrections else {}),
            }
            file.write("\n],\n" + json.dumps(rest, allow_nan=False)[1:] + "\n")


def _image(number: int, stream: StreamInfo, record: OutputRecord) -> dict[str, Any]:
    height, width = (0, 0) if stream.frame_shape is None else stream.frame_shape[:2]
    stem = stream.name if stream.source is None else Path(stream.source).stem
    return {
        "id": number,
        "file_name": f"{stem}_frame_{record.frame_index:06d}.png",
        "width": width,
        "height": height,
        "frame_index": record.frame_index,
        "t_ns": record.t_ns,
    }


def _category(stream: StreamInfo, n_nodes: int) -> dict[str, Any]:
    category: dict[str, Any] = {"id": CATEGORY, "name": "instance"}
    if not n_nodes:
        return category
    skeleton = stream.skeleton
    if skeleton is None or len(skeleton.nodes) != n_nodes:
        skeleton = Skeleton(tuple(f"node{i}" for i in range(n_nodes)))
    edges = [[first + 1, second + 1] for first, second in skeleton.edges]  # COCO counts from 1
    return {**category, "keypoints": list(skeleton.nodes), "skeleton": edges}


def _annotations(record: OutputRecord, n_nodes: int, names: dict[int, str]) -> Iterator[dict[str, Any]]:
    boxes = record.boxes.astype(np.float64)
    scores = np.ones(len(boxes)) if record.scores is None else record.scores
    points = record.keypoints
    for row, track_id in enumerate(record.track_ids.tolist()):
        if not np.isfinite(boxes[row]).all():
            continue
        x1, y1, x2, y2 = boxes[row].tolist()
        annotation: dict[str, Any] = {
            "category_id": CATEGORY,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        if np.isfinite(scores[row]):
            annotation["score"] = float(scores[row])
        if points is not None and n_nodes and points.shape[1] == n_nodes:
            weights = None if record.keypoint_scores is None else record.keypoint_scores[row]
            annotation |= _keypoints(points[row].astype(np.float64), weights)
        if track_id >= 0:
            annotation["track_id"] = track_id
            # sleap-io reads a track from here. It takes the number 0 for none, so this is a text.
            annotation["attributes"] = {"object_id": str(track_id)}
            if track_id in names:
                annotation["track_name"] = names[track_id]
            if np.isfinite(record.track_scores[row]):
                annotation["track_score"] = float(record.track_scores[row])
        yield annotation


def _keypoints(points: np.ndarray[Any, Any], weights: np.ndarray[Any, Any] | None) -> dict[str, Any]:
    visible = np.isfinite(points).all(axis=1)
    flat: list[float] = []
    for (x, y), seen in zip(points.tolist(), visible.tolist(), strict=True):
        flat += [x, y, VISIBLE] if seen else [0, 0, 0]
    found: dict[str, Any] = {"keypoints": flat, "num_keypoints": int(visible.sum())}
    if weights is not None:
        found["keypoint_scores"] = [float(w) if np.isfinite(w) else None for w in weights]
    return found
