"""GEFF, the graph exchange format of lineage tools: a node for each instance, edges along tracks and to children."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackd.output_formats import check_outputs
from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.corrections import note_corrections
from trackd.outputs.formats.names import names_of, note_names
from trackd.outputs.formats.trackmate import places
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position


class GeffWriter(WholeFileWriter):
    """Writes the folder `<out_dir>/<name>.geff` at close, by the package geff.

    A node is an instance with a place: `t` is the frame index, `x` and `y` the mean of its visible nodes or its box's
    centre. It also has `t_ns`, the box, `score`, `track_score` and `track_id`, which an unassigned instance lacks. An
    edge goes from each instance of a track to its next one, and from the last instance of a parent to the first one of
    each child. The names of tracks, and the corrections, are in the metadata, under `extra`, `trackd`.

    Raises:
        ConfigError: geff is not installed.
    """

    suffix = ".geff"
    is_folder = True

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        check_outputs(["geff"])
        super().__init__(out_dir, stream, position)

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole folder."""
        graph = _Graph()
        for record in records:
            graph.add(record)
        graph.write(path, stream)


@dataclass(slots=True)
class _Graph:
    columns: dict[str, list[np.ndarray[Any, Any]]] = field(default_factory=dict)  # a piece per frame
    edges: list[tuple[int, int]] = field(default_factory=list)
    latest: dict[int, int] = field(default_factory=dict)  # track -> its latest node
    parents: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    corrections: list[Any] = field(default_factory=list)
    n_nodes: int = 0

    def add(self, record: OutputRecord) -> None:
        self.parents.update(record.parents)
        note_names(self.names, record)
        note_corrections(self.corrections, record)
        points = places(record)
        rows = np.flatnonzero(np.isfinite(points).all(axis=1))
        ids = record.track_ids[rows]
        scores = np.ones(len(record.track_ids)) if record.scores is None else record.scores
        values = {
            "t": np.full(len(rows), record.frame_index, np.int64),
            "t_ns": np.full(len(rows), record.t_ns, np.int64),
            "y": points[rows, 1],
            "x": points[rows, 0],
            "track_id": ids.astype(np.int64),
            "score": scores[rows].astype(np.float64),
            "track_score": record.track_scores[rows].astype(np.float64),
            "box": record.boxes[rows].astype(np.float64),
        }
        for name, piece in values.items():
            self.columns.setdefault(name, []).append(piece)
        for node, track_id in enumerate(ids.tolist(), start=self.n_nodes):
            if track_id < 0:
                continue
            before = self.latest.get(track_id, self.latest.get(self.parents.get(track_id, -1)))
            if before is not None:
                self.edges.append((before, node))
            self.latest[track_id] = node
        self.n_nodes += len(rows)

    def write(self, path: Path, stream: StreamInfo) -> None:
        from geff.core_io._base_write import write_arrays
        from geff_spec import Axis, GeffMetadata

        values = {name: np.concatenate(pieces) for name, pieces in self.columns.items()}
        untracked = values["track_id"] < 0 if values else np.empty(0, bool)
        lacking = {"track_id": untracked, "track_score": ~np.isfinite(values["track_score"])} if values else {}
        ids = sorted(self.latest)
        metadata = GeffMetadata(
            directed=True,
            axes=[
                Axis(name="t", type="time", unit="frame"),
                Axis(name="y", type="space", unit="pixel"),
                Axis(name="x", type="space", unit="pixel"),
            ],
            node_props_metadata={},
            edge_props_metadata={},
            track_node_props={"tracklet": "track_id"} if len(values) else None,
            extra={
                "trackd": {
                    "stream": stream.name,
                    "source": stream.source,
                    "fps": stream.fps,
                    "frame_shape": None if stream.frame_shape is None else list(stream.frame_shape),
                    "names": dict(zip(map(str, ids), names_of(ids, self.names), strict=True)),
                    "parents": {str(child): parent for child, parent in self.parents.items()},
                    **({"corrections": self.corrections} if self.corrections else {}),
                }
            },
        )
        write_arrays(
            path,
            np.arange(self.n_nodes, dtype=np.uint64),
            {name: {"values": found, "missing": lacking.get(name)} for name, found in values.items()},
            np.array(self.edges, np.uint64).reshape(-1, 2),
            {},
            metadata,
        )
