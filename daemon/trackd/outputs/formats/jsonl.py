"""JSON lines: a line that describes the stream, then a line for each frame. docs/formats.md defines them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trackd.outputs.files.line_file import LineWriter
from trackd.outputs.records import OutputRecord, StreamInfo

VERSION = 1


class JsonlWriter(LineWriter):
    """Writes `<out_dir>/<name>.jsonl`, a line per frame; after a kill the file is shorter.

    Numbers have the fewest digits that read back as the same float; a missing value is null.
    """

    suffix = ".jsonl"
    encoding = "utf-8"

    @classmethod
    def first_lines(cls, stream: StreamInfo) -> str:
        """The line that describes the stream."""
        skeleton = stream.skeleton
        described = {
            "trackd": VERSION,
            "stream": stream.name,
            "source": stream.source,
            "frame_shape": None if stream.frame_shape is None else list(stream.frame_shape),
            "fps": stream.fps,
            "nodes": None if skeleton is None else list(skeleton.nodes),
            "edges": None if skeleton is None else [list(edge) for edge in skeleton.edges],
        }
        return _line(described)

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        frame: dict[str, Any] = {
            "frame_index": record.frame_index,
            "t_ns": record.t_ns,
            "track_ids": record.track_ids.tolist(),
            "track_scores": _numbers(record.track_scores),
            "boxes": _numbers(record.boxes),
        }
        for name in ("scores", "keypoints", "keypoint_scores"):
            array = getattr(record, name)
            if array is not None:
                frame[name] = _numbers(array)
        if record.names:
            frame["names"] = {str(track_id): name for track_id, name in record.names.items()}
        if record.parents:
            frame["parents"] = {str(child): parent for child, parent in record.parents.items()}
        if record.corrections:
            frame["corrections"] = [dict(correction) for correction in record.corrections]
        if record.merged_tracks:
            frame["merged_tracks"], frame["merged_rows"] = list(record.merged_tracks), list(record.merged_rows)
        self.append(_line(frame))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def _numbers(array: np.ndarray[Any, Any]) -> Any:
    """Nested lists of the array's values, None for those that are not finite."""
    if array.dtype != np.float64:
        # Not through float64: 0.1 would become 0.10000000149011612.
        flat = [float(str(value)) if np.isfinite(value) else None for value in array.ravel()]
    else:
        flat = [value if np.isfinite(value) else None for value in array.ravel().tolist()]
    return _nested(flat, array.shape)


def _nested(flat: list[float | None], shape: tuple[int, ...]) -> Any:
    if len(shape) == 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
