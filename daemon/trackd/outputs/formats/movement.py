"""movement's datasets, as netCDF: poses, or bounding boxes where the stream has no poses.

Letters: t frames, m tracks, k nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trackd.output_formats import check_outputs
from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.corrections import corrections_text
from trackd.outputs.formats.track_table import TrackTable
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position
from trackd_client.recordings.hdf5 import disable_file_locks


class MovementWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.nc` at close: a dataset of movement, with `ds_type` `poses` or `bboxes`.

    `time` is in seconds from the first frame, by the capture times; `individuals` are the tracks' names. Beside
    movement's variables there are `frame_index` and `t_ns` of each time, `track_id` and `parent_id` (−1: none) of each
    individual, `score` and `track_score`, and for poses the boxes as `box_position` (centres) and `box_shape`.
    If people corrected anything, the attribute `corrections` has it as JSON. Unassigned instances are left out.

    Raises:
        ConfigError: xarray or h5netcdf is not installed.
    """

    suffix = ".nc"

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        check_outputs(["movement"])
        super().__init__(out_dir, stream, position)

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""
        disable_file_locks()
        dataset = _dataset(TrackTable.of(stream, records))
        packed = {name: {"zlib": True} for name, values in dataset.data_vars.items() if values.size}
        dataset.to_netcdf(path, engine="h5netcdf", encoding=packed)


def _dataset(table: TrackTable) -> Any:
    import xarray

    centres = _by_space((table.boxes[..., :2] + table.boxes[..., 2:]) / 2)
    shapes = _by_space(table.boxes[..., 2:] - table.boxes[..., :2])
    variables: dict[str, tuple[tuple[str, ...], Any]] = {
        "score": (("time", "individuals"), table.scores),
        "track_score": (("time", "individuals"), table.track_scores),
    }
    coordinates: dict[str, Any] = {
        "time": ("time", (table.t_ns - (table.t_ns[0] if len(table.t_ns) else 0)) / 1e9),
        "space": ("space", ["x", "y"]),
        "individuals": ("individuals", np.array(table.names, dtype=object)),
        "frame_index": ("time", table.frame_index),
        "t_ns": ("time", table.t_ns),
        "track_id": ("individuals", table.track_ids),
        "parent_id": ("individuals", table.parent_ids),
    }
    across = ("time", "space", "individuals")
    if table.posed:
        coordinates["keypoints"] = ("keypoints", np.array(table.skeleton.nodes, dtype=object))
        variables |= {
            "position": (("time", "space", "keypoints", "individuals"), table.points.transpose(0, 3, 2, 1)),
            "confidence": (("time", "keypoints", "individuals"), table.point_scores.transpose(0, 2, 1)),
            "box_position": (across, centres),
            "box_shape": (across, shapes),
        }
    else:
        variables |= {
            "position": (across, centres),
            "shape": (across, shapes),
            "confidence": (("time", "individuals"), table.scores),
        }
    attributes: dict[str, Any] = {
        "source_software": "trackd",
        "ds_type": "poses" if table.posed else "bboxes",
        "time_unit": "seconds",
    }
    if table.fps is not None:
        attributes["fps"] = table.fps
    if table.stream.source is not None:
        attributes["video"] = table.stream.source
    if table.corrections:
        attributes["corrections"] = corrections_text(table.corrections)
    return xarray.Dataset(variables, coordinates, attributes)


def _by_space(values: Any) -> Any:
    """(t, m, 2) as (t, 2, m)."""
    return values.transpose(0, 2, 1)
