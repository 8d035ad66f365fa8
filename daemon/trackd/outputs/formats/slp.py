"""SLEAP files, which SLEAP and DREEM open: predicted instances with their tracks.

Letters: n instances of a frame, k nodes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.poses import CENTROID, points_of, unnamed
from trackd.outputs.records import Floats, OutputRecord, StreamInfo, measured_fps
from trackd_client.detections import Skeleton
from trackd_client.recordings.hdf5 import disable_file_locks

if TYPE_CHECKING:
    import sleap_io

logger = logging.getLogger(__name__)


class SlpWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.slp` at close.

    A track's name is the last one that a person gave it, else its id; a name that an earlier track has gets the id in
    brackets. Unassigned instances are kept, without a track. A stream of boxes gets a skeleton of
    one node, `centroid`, at the boxes' centres. A frame without instances only counts for the video's length: SLEAP
    shows each listed frame as a labelled one.
    """

    suffix = ".slp"

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file. SLEAP's writer opens it again for each of its tables."""
        disable_file_locks()  # the stream's part is locked, and no other process knows the temporary name
        import sleap_io

        sleap_io.save_slp(labels_of(stream, records), str(path), verbose=False)


def labels_of(stream: StreamInfo, records: Iterable[OutputRecord]) -> sleap_io.Labels:
    """The labels of a whole stream, as SLEAP keeps them."""
    import sleap_io

    named = stream.skeleton if stream.skeleton is not None and stream.skeleton.nodes else None
    rows: list[tuple[int, list[sleap_io.PredictedInstance]]] = []
    tracks: dict[int, sleap_io.Track] = {}
    names: dict[int, str | None] = {}
    skeleton: sleap_io.Skeleton | None = None
    first = last = None
    for record in records:
        last = (record.frame_index, record.t_ns)
        first = first or last
        if not len(record.track_ids):
            continue
        if record.names or names:  # a name that was removed counts no more
            names |= {track_id: record.names.get(track_id) for track_id in record.track_ids.tolist()}
        if skeleton is None:
            skeleton = _skeleton(named or unnamed(record), stream.name)
        points = points_of(record, len(skeleton.nodes))
        if points is None:
            logger.warning(
                "frame left out, its nodes are not the skeleton's: stream=%s frame_index=%d",
                stream.name,
                record.frame_index,
            )
            continue
        rows.append((record.frame_index, _instances(record, points, skeleton, tracks)))
    _name(tracks, names)
    fps = stream.fps if stream.fps is not None or first is None or last is None else measured_fps(first, last)
    video = _video(stream, last[0] + 1 if last is not None else 0, fps)
    return sleap_io.Labels(
        labeled_frames=[sleap_io.LabeledFrame(video=video, frame_idx=i, instances=found) for i, found in rows],
        videos=[video],
        skeletons=[skeleton or _skeleton(named or CENTROID, stream.name)],
        tracks=[tracks[track_id] for track_id in sorted(tracks)],
    )


def _name(tracks: dict[int, Any], names: dict[int, str | None]) -> None:
    """Give the tracks their last names, each once."""
    used: set[str] = set()
    for track_id in sorted(tracks):
        name = names.get(track_id) or str(track_id)
        tracks[track_id].name = f"{name} ({track_id})" if name in used else name
        used.add(tracks[track_id].name)


def _skeleton(outline: Skeleton, name: str) -> sleap_io.Skeleton:
    import sleap_io

    skeleton = sleap_io.Skeleton(nodes=[sleap_io.Node(node) for node in outline.nodes], name=name)
    for first, second in outline.edges:
        skeleton.add_edge(outline.nodes[first], outline.nodes[second])
    return skeleton


def _instances(record: OutputRecord, points: Floats, skeleton: Any, tracks: dict[int, Any]) -> list[Any]:
    import sleap_io

    n, k = points.shape[:2]
    scores = (np.ones(n) if record.scores is None else record.scores).astype(np.float32)
    weights = scores[:, None].repeat(k, 1) if record.keypoint_scores is None else record.keypoint_scores
    instances = []
    for i, track_id in enumerate(record.track_ids.tolist()):
        if track_id >= 0 and track_id not in tracks:
            tracks[track_id] = sleap_io.Track(name=str(track_id))
        score = float(record.track_scores[i])
        instances.append(
            sleap_io.PredictedInstance.from_numpy(
                points[i],
                skeleton,
                point_scores=weights[i].astype(np.float64),
                score=float(scores[i]),
                track=tracks.get(track_id),
                # SLEAP's own trackers write 0 for a missing score; NaN would break SLEAP's sorting.
                tracking_score=score if np.isfinite(score) else 0.0,
            )
        )
    return instances


def _video(stream: StreamInfo, n_frames: int, fps: float | None) -> sleap_io.Video:
    """The stream's video by its absolute path or URL; it is not opened, and need not exist on this machine."""
    import sleap_io

    if stream.source is None:
        # The format needs a name. An empty one means that the images are in the file, and one of a video would be a
        # file that does not exist.
        filename = f"{stream.name} (no video)"
    elif "://" in stream.source:
        filename = stream.source
    else:
        filename = str(Path(stream.source).resolve())
    metadata: dict[str, Any] = {"type": "MediaVideo", "bgr": True, "dataset": "", "input_format": ""}
    if stream.frame_shape is not None:
        height, width, *channels = stream.frame_shape
        depth = channels[0] if channels else 1
        metadata |= {"shape": (n_frames, height, width, depth), "grayscale": depth == 1}
    if fps is not None:
        metadata["fps"] = fps
    return sleap_io.Video(filename=filename, backend_metadata=metadata, open_backend=False)
