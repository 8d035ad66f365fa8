"""Records and streams for the writers' tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer

SHARED = Path(os.environ.get("TRACKD_SHARED", Path(__file__).resolve().parents[4] / "shared"))


def info(**changes: Any) -> StreamInfo:
    values: dict[str, Any] = {"name": "cells", "skeleton": None, "source": None, "frame_shape": (40, 60), "fps": 10.0}
    return StreamInfo(**{**values, **changes})


def record(frame_index: int, ids: list[int], boxes: list[list[float]] | None = None, **arrays: Any) -> OutputRecord:
    n = len(ids)
    boxes = [[10.0 * i, 5, 10.0 * i + 8, 15] for i in range(n)] if boxes is None else boxes
    return OutputRecord(
        frame_index=frame_index,
        t_ns=arrays.pop("t_ns", 100_000_000 * frame_index),
        track_ids=np.array(ids, np.int32),
        track_scores=arrays.pop("track_scores", np.full(n, 0.75, np.float32)),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        **arrays,
    )


def written(kind: str, out_dir: Path, stream: StreamInfo, *records: OutputRecord) -> Path:
    with open_writer(kind, out_dir, stream) as writer:
        for each in records:
            writer.write(each)
    return writer.path
