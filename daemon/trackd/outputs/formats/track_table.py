"""All tracks of a stream as arrays over frames and tracks, for formats with a place for each track in each frame.

Letters: t frames, m tracks, k nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.outputs.formats.corrections import note_corrections
from trackd.outputs.formats.names import names_of, note_names
from trackd.outputs.formats.poses import CENTROID, points_of, unnamed
from trackd.outputs.records import OutputRecord, StreamInfo, measured_fps
from trackd_client.detections import Skeleton

logger = logging.getLogger(__name__)

MAX_PLACES = 1 << 26  # frames × tracks × nodes of one file; its arrays take some 2 GiB


@dataclass(frozen=True, slots=True, eq=False)
class TrackTable:
    """The tracked instances; NaN where a track has none in a frame. Unassigned instances are not in it."""

    stream: StreamInfo
    skeleton: Skeleton
    posed: bool  # the stream has keypoints; else the one node is the centre of the box
    frame_index: NDArray[np.int64]  # (t,) rises
    t_ns: NDArray[np.int64]  # (t,) capture times
    track_ids: NDArray[np.int64]  # (m,) rises
    names: list[str]  # m
    parents: Mapping[int, int]  # id -> id, of tracks that began by a division
    present: NDArray[np.bool_]  # (t, m)
    points: NDArray[np.float64]  # (t, m, k, 2)
    point_scores: NDArray[np.float64]  # (t, m, k) the node's, else the instance's; NaN where the node is not visible
    boxes: NDArray[np.float64]  # (t, m, 4)
    scores: NDArray[np.float64]  # (t, m) the detector's; 1 where it sends none
    track_scores: NDArray[np.float64]  # (t, m) NaN where the track is new
    corrections: list[Any]  # [frame_index, [correction, …]] of each frame that people corrected something before

    @property
    def parent_ids(self) -> NDArray[np.int64]:
        """(m,) the parent of each track, −1 for none."""
        return np.array([self.parents.get(track_id, -1) for track_id in self.track_ids.tolist()], np.int64)

    @property
    def fps(self) -> float | None:
        """The stream's frame rate, else that of the capture times."""
        if self.stream.fps is not None or len(self.t_ns) < 2:
            return self.stream.fps
        ends = [(int(self.frame_index[i]), int(self.t_ns[i])) for i in (0, -1)]
        return measured_fps(*ends)

    @classmethod
    def of(cls, stream: StreamInfo, records: Iterable[OutputRecord]) -> TrackTable:
        """Gather the records of a stream.

        Raises:
            ValueError: frames × tracks × nodes is above `MAX_PLACES`.
        """
        skeleton = stream.skeleton if stream.skeleton is not None and stream.skeleton.nodes else None
        frames: list[tuple[int, int]] = []
        found: list[tuple[int, OutputRecord, NDArray[Any], NDArray[Any]]] = []
        parents: dict[int, int] = {}
        names: dict[int, str] = {}
        corrections: list[Any] = []
        posed = False
        for record in records:
            frames.append((record.frame_index, record.t_ns))
            parents.update(record.parents)
            note_names(names, record)
            note_corrections(corrections, record)
            if not len(record.track_ids):
                continue
            posed = posed or record.keypoints is not None
            if skeleton is None:
                skeleton = unnamed(record)
            points = points_of(record, len(skeleton.nodes))
            if points is None:
                logger.warning(
                    "frame left out, its nodes are not the skeleton's: stream=%s frame_index=%d",
                    stream.name, record.frame_index,
                )  # fmt: skip
                continue
            found.append((len(frames) - 1, record, np.flatnonzero(record.track_ids >= 0), points))
        skeleton = skeleton or CENTROID
        every = [record.track_ids[rows] for _, record, rows, _ in found]
        ids = np.unique(np.concatenate([np.empty(0, np.int64), *every]).astype(np.int64))
        t, m, k = len(frames), len(ids), len(skeleton.nodes)
        check_places(stream.name, t, m, k)
        times = np.array(frames, np.int64).reshape(-1, 2)
        table = cls(
            stream, skeleton, posed, times[:, 0], times[:, 1], ids, names_of(ids.tolist(), names), parents,
            np.zeros((t, m), bool), np.full((t, m, k, 2), np.nan), np.full((t, m, k), np.nan),
            np.full((t, m, 4), np.nan), np.full((t, m), np.nan), np.full((t, m), np.nan), corrections,
        )  # fmt: skip
        for at, record, rows, points in found:
            table._add(at, record, rows, points)
        return table

    def _add(self, at: int, record: OutputRecord, rows: NDArray[Any], points: NDArray[Any]) -> None:
        to = np.searchsorted(self.track_ids, record.track_ids[rows])
        scores = np.ones(len(record.track_ids)) if record.scores is None else record.scores
        self.present[at, to] = True
        self.points[at, to] = points[rows]
        self.boxes[at, to] = record.boxes[rows]
        self.scores[at, to] = scores[rows]
        self.track_scores[at, to] = record.track_scores[rows]
        if record.keypoint_scores is not None:
            self.point_scores[at, to] = record.keypoint_scores[rows]
        else:
            visible = np.isfinite(points[rows]).all(axis=2)
            self.point_scores[at, to] = np.where(visible, scores[rows, None], np.nan)


def check_places(name: str, n_frames: int, n_tracks: int, n_nodes: int) -> None:
    """Refuse a table that does not fit into memory, before it is allocated.

    Raises:
        ValueError: it has more than `MAX_PLACES` places.
    """
    if n_frames * n_tracks * n_nodes > MAX_PLACES:
        raise ValueError(
            f"{name}: this format has a place for each node of each track in each frame, and {n_frames} frames × "
            f"{n_tracks} tracks × {n_nodes} nodes are more than {MAX_PLACES}; slp, jsonl and parquet have no such limit"
        )
