"""Neurodata Without Borders: a pose estimation (ndx-pose) for each track.

Letters: t frames, m tracks, k nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.output_formats import check_outputs
from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.corrections import corrections_text
from trackd.outputs.formats.track_table import TrackTable
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position
from trackd_client.recordings.hdf5 import disable_file_locks
from trackd_client.version import VERSION

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CENTRE_OF_PIXEL = "x to the right and y down, in pixels; (0, 0) is the top left corner of the image"
_FORBIDDEN = str.maketrans({"/": "_", ":": "_"})  # in the name of an object of an NWB file


class NwbWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.nwb` at close.

    The processing module `behavior` holds the skeleton, a `PoseEstimation` for each track under the track's name, and
    the `TimeSeries` `<name>_box` (x1 y1 x2 y2) and `<name>_scores` (the detector's, the track's). Its table `tracks`
    has the id, the name, the parent's id (−1: none), and the first and last frame of each track; `frames` is the frame
    index of every recorded frame; `corrections`, if people made any, are those before a frame, as JSON. All series have
    capture times: timestamps are seconds from `session_start_time`, the first capture time in whole microseconds.
    Unassigned instances are left out.

    Raises:
        ConfigError: pynwb or ndx-pose is not installed.
    """

    suffix = ".nwb"

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        check_outputs(["nwb"])
        super().__init__(out_dir, stream, position)

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""
        disable_file_locks()
        import ndx_pose  # noqa: F401 -- pynwb writes the types of extensions that are imported
        import pynwb

        table = TrackTable.of(stream, records)
        first_us = int(table.t_ns[0]) // 1000 if len(table.t_ns) else 0
        file = pynwb.NWBFile(
            session_description=f"tracks of the stream {stream.name} by trackd {VERSION}",
            identifier=f"{stream.name}-{first_us}",
            session_start_time=EPOCH + timedelta(microseconds=first_us),
        )
        _fill(file, table, (table.t_ns - 1000 * first_us) / 1e9)
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(file)


def _fill(file: Any, table: TrackTable, seconds: NDArray[np.float64]) -> None:
    import ndx_pose
    import pynwb

    module = file.create_processing_module("behavior", "tracks and their poses")
    skeleton = ndx_pose.Skeleton(
        name="skeleton",
        nodes=list(table.skeleton.nodes),
        edges=np.array(table.skeleton.edges, np.uint8).reshape(-1, 2),
    )
    module.add(ndx_pose.Skeletons(skeletons=[skeleton]))
    module.add(_tracks(table))
    if table.corrections:
        module.add(_corrections(table))
    module.add(
        pynwb.TimeSeries(
            name="frames",
            data=table.frame_index,
            unit="frame index",
            timestamps=seconds,
            description="every recorded frame, also those without a track",
        )
    )
    camera = file.create_device(name="camera", description=f"the camera of the stream {table.stream.name}")
    for column, name in enumerate(_object_names(table.names)):
        here = table.present[:, column]
        series = [
            ndx_pose.PoseEstimationSeries(
                name=node.translate(_FORBIDDEN),
                description=f"positions of {node}",
                data=table.points[here, column, place],
                unit="pixels",
                reference_frame=_CENTRE_OF_PIXEL,
                timestamps=seconds[here],
                confidence=table.point_scores[here, column, place],
                confidence_definition="the detector's score of the node, else of the instance; NaN: not visible",
            )
            for place, node in enumerate(table.skeleton.nodes)
        ]
        videos = {} if table.stream.source is None else {"original_videos": [table.stream.source]}
        module.add(
            ndx_pose.PoseEstimation(
                name=name,
                pose_estimation_series=series,
                description=f"track {table.track_ids[column]}",
                skeleton=skeleton,
                source_software="trackd",
                source_software_version=VERSION,
                devices=[camera],
                **_dimensions(table),
                **videos,
            )
        )
        scores = np.stack([table.scores[here, column], table.track_scores[here, column]], axis=1)
        for part, data, unit in (("box", table.boxes[here, column], "pixels"), ("scores", scores, "0 to 1")):
            module.add(pynwb.TimeSeries(name=f"{name}_{part}", data=data, unit=unit, timestamps=seconds[here]))


def _tracks(table: TrackTable) -> Any:
    from hdmf.common import DynamicTable, VectorData

    frames = [table.frame_index[table.present[:, column]] for column in range(len(table.names))]
    columns = {
        "track_id": ("the id that trackd gave", table.track_ids),
        "track_name": ("its name", table.names or np.empty(0, "S1")),
        "parent_id": ("the id of the track that divided into it; -1: none", table.parent_ids),
        "first_frame": ("its first frame", np.array([found[0] for found in frames], np.int64)),
        "last_frame": ("its last frame", np.array([found[-1] for found in frames], np.int64)),
    }
    return DynamicTable(
        name="tracks",
        description="a row for each track",
        columns=[VectorData(name=name, description=about, data=data) for name, (about, data) in columns.items()],
    )


def _corrections(table: TrackTable) -> Any:
    from hdmf.common import DynamicTable, VectorData

    frames = [frame for frame, _ in table.corrections]
    made = [corrections_text(corrections) for _, corrections in table.corrections]
    return DynamicTable(
        name="corrections",
        description="what people corrected before a frame, as JSON",
        columns=[
            VectorData(name="frame_index", description="the frame after the corrections", data=frames),
            VectorData(name="corrections", description="a JSON list", data=made),
        ],
    )


def _object_names(names: list[str]) -> list[str]:
    """The tracks' names as names of objects, without the characters that are not allowed in one."""
    found: list[str] = []
    for name in names:
        plain = name.translate(_FORBIDDEN)
        found.append(plain if plain not in found and plain not in _TAKEN else f"{plain}_{len(found)}")
    return found


_TAKEN = frozenset({"Skeletons", "tracks", "frames", "corrections"})


def _dimensions(table: TrackTable) -> dict[str, Any]:
    if table.stream.frame_shape is None:
        return {}
    # ndx-pose has the width first.
    return {"dimensions": np.array([table.stream.frame_shape[1::-1]], np.uint16)}
