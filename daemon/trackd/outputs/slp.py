"""SLEAP files: predicted instances with their tracks, as SLEAP and DREEM open them.

Letters: n instances of a frame, k nodes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer
from trackd_client.detections import Skeleton

if TYPE_CHECKING:
    import sleap_io

logger = logging.getLogger(__name__)

CENTROID = Skeleton(nodes=("centroid",))


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One frame as it waits for `close`: arrays only, some hundred bytes an instance."""

    frame_index: int
    track_ids: NDArray[np.int32]  # (n,)
    track_scores: NDArray[np.float32]  # (n,)
    scores: NDArray[np.float32]  # (n,)
    points: NDArray[np.float64]  # (n, k, 2)
    point_scores: NDArray[np.float64]  # (n, k)


class SlpWriter(Writer):
    """Writes `<out_dir>/<name>.slp` at close; frames wait in memory as compact arrays.

    A track is named by its id. Unassigned instances are kept, without a track. A stream of boxes gets a
    skeleton of one node, `centroid`, at their centres.
    """

    def __init__(self, out_dir: Path, stream: StreamInfo) -> None:
        self.path = out_dir / f"{stream.name}.slp"
        self._stream = stream
        self._skeleton = stream.skeleton if stream.skeleton is not None and stream.skeleton.nodes else None
        self._rows: list[_Row] = []
        self._n_frames = 0
        self._closed = False

    def write(self, record: OutputRecord) -> None:
        """Keep one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._closed:
            raise ValueError(f"{self.path}: the writer is closed")
        self._n_frames = max(self._n_frames, record.frame_index + 1)
        if self._skeleton is None:
            self._skeleton = _unnamed(record)
        if not len(record.track_ids) or self._skeleton is None:
            return
        n, k = len(record.track_ids), len(self._skeleton.nodes)
        boxes = record.boxes.astype(np.float64)
        pose = record.keypoints is not None and record.keypoints.shape[1] == k
        points = record.keypoints if pose else ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
        if points is None or points.shape[1] != k:
            logger.warning(
                "frame without the skeleton's nodes left out stream=%s frame_index=%d",
                self._stream.name,
                record.frame_index,
            )
            return
        scores = np.ones(n) if record.scores is None else record.scores
        weights = scores[:, None].repeat(k, 1) if record.keypoint_scores is None else record.keypoint_scores
        self._rows.append(
            _Row(
                frame_index=record.frame_index,
                track_ids=record.track_ids.astype(np.int32),
                track_scores=record.track_scores.astype(np.float32),
                scores=scores.astype(np.float32),
                points=points.astype(np.float64),
                point_scores=weights.astype(np.float64),
            )
        )

    def close(self) -> None:
        """Write the file under a temporary name, then give it its own: a reader never sees half of it."""
        if self._closed:
            return
        self._closed = True
        import sleap_io

        temporary = self.path.with_name(f".{self.path.stem}.partial.slp")
        sleap_io.save_slp(self._labels(), str(temporary), verbose=False)
        temporary.replace(self.path)
        self._rows.clear()

    def _labels(self) -> sleap_io.Labels:
        import sleap_io

        video = _video(self._stream, self._n_frames)
        outline = self._skeleton or CENTROID
        skeleton = sleap_io.Skeleton(nodes=[sleap_io.Node(name) for name in outline.nodes], name=self._stream.name)
        for first, second in outline.edges:
            skeleton.add_edge(outline.nodes[first], outline.nodes[second])
        ids = sorted({int(i) for row in self._rows for i in row.track_ids if i >= 0})
        tracks = {track_id: sleap_io.Track(name=str(track_id)) for track_id in ids}
        frames = [
            sleap_io.LabeledFrame(
                video=video,
                frame_idx=row.frame_index,
                instances=[_instance(row, i, skeleton, tracks) for i in range(len(row.track_ids))],
            )
            for row in self._rows
        ]
        return sleap_io.Labels(
            labeled_frames=frames, videos=[video], skeletons=[skeleton], tracks=list(tracks.values())
        )


def _unnamed(record: OutputRecord) -> Skeleton | None:
    """A skeleton for a stream that named none: what its first instances show."""
    if not len(record.track_ids):
        return None
    if record.keypoints is None:
        return CENTROID
    return Skeleton(tuple(f"node{i}" for i in range(record.keypoints.shape[1])))


def _instance(row: _Row, i: int, skeleton: Any, tracks: dict[int, Any]) -> sleap_io.PredictedInstance:
    import sleap_io

    score = float(row.track_scores[i])
    return sleap_io.PredictedInstance.from_numpy(
        row.points[i],
        skeleton,
        point_scores=row.point_scores[i],
        score=float(row.scores[i]),
        track=tracks.get(int(row.track_ids[i])),
        # SLEAP's own trackers write 0 where there is no score; NaN would break its sorting.
        tracking_score=score if np.isfinite(score) else 0.0,
    )


def _video(stream: StreamInfo, n_frames: int) -> sleap_io.Video:
    """The stream's video by its absolute path; unopened, so that it need not exist here."""
    import sleap_io

    filename = f"{stream.name}.mp4" if stream.source is None else str(Path(stream.source).resolve())
    metadata: dict[str, Any] = {"type": "MediaVideo", "bgr": True, "dataset": "", "input_format": ""}
    if stream.frame_shape is not None:
        height, width, *channels = stream.frame_shape
        depth = channels[0] if channels else 1
        metadata |= {"shape": (n_frames, height, width, depth), "grayscale": depth == 1}
    if stream.fps is not None:
        metadata["fps"] = stream.fps
    return sleap_io.Video(filename=filename, backend_metadata=metadata, open_backend=False)
