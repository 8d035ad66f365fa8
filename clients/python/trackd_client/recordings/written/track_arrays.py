"""Finished tracks as arrays of instances, put into the order of their frames.

Letters: f frames, i instances of the recording, m tracks, k nodes; b frames of a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackd_client.recordings.hdf5_claims import SMALL_BYTES
from trackd_client.recordings.limits import MAX_WHOLE, RecordingLimits
from trackd_client.recordings.recording import MAX_TIME_NS, RecordingError
from trackd_client.recordings.written.written_frames import WrittenFrames

BLOCK_PLACES = 1 << 19  # frames × tracks × nodes that are read at once: 8 MiB of coordinates
MOST_RATIO = 32  # bytes of instances that are kept, for each byte of the file
Floats = NDArray[np.floating[Any]]


def in_frames(
    path: Path,
    limits: RecordingLimits,
    frame_index: ArrayLike,
    place: ArrayLike,
    track_ids: ArrayLike,
    *,
    t_ns: ArrayLike | None = None,
    boxes: Floats | None = None,
    scores: Floats | None = None,
    track_scores: Floats | None = None,
    keypoints: Floats | None = None,
    keypoint_scores: Floats | None = None,
    **notes: Any,
) -> WrittenFrames:
    """Put instances into the order of their frames; within a frame they keep their order.

    Args:
        path: the file, for error texts.
        limits: of the frames, and of the instances of a frame.
        frame_index: (f,) of the frames, in any order.
        place: (i,) of the frame of each instance in `frame_index`.
        track_ids: (i,) −1 for none.
        t_ns: (f,) capture times; None: there are none.
        boxes: (i, 4).
        scores: (i,).
        track_scores: (i,).
        keypoints: (i, k, 2).
        keypoint_scores: (i, k).
        notes: further values of `WrittenFrames`.

    Raises:
        RecordingError: a number is out of range, a frame or a track of a frame is there twice, or a limit is exceeded.
    """
    frames = np.asarray(frame_index, np.int64)
    places, ids = np.asarray(place, np.int64), np.asarray(track_ids, np.int64)
    times = None if t_ns is None else np.asarray(t_ns, np.int64)
    order = np.argsort(frames, kind="stable")
    rank = np.empty(len(frames), np.int64)
    rank[order] = np.arange(len(frames))
    frames, rows = frames[order], np.argsort(rank[places], kind="stable")
    at, ids = rank[places][rows], ids[rows]
    if len(frames):
        if frames[0] < 0 or frames[-1] > MAX_WHOLE:
            raise RecordingError(f"{path}: frame indices must be from 0 to 2⁵³; got {frames[0]} to {frames[-1]}")
        limits.check_frames(int(frames[-1]) + 1, path)
        if (again := np.flatnonzero(np.diff(frames) == 0)).size:
            raise RecordingError(f"{path}: frame {frames[again[0]]} is there twice")
        if times is not None and (times.min() < 0 or times.max() > MAX_TIME_NS):
            raise RecordingError(f"{path}: capture times must be from 0 to 2⁶³ - 1 ns; got {times.min()}")
    if len(ids):
        if ids.min() < -1 or ids.max() >= 2**31:
            raise RecordingError(f"{path}: a track id must be from -1 to 2³¹ - 1; got {ids.min()} to {ids.max()}")
        limits.check_crowds(frames[at], path)
        keys = np.sort((at * 2**31 + ids)[ids >= 0])
        if (again := np.flatnonzero(np.diff(keys) == 0)).size:
            frame, track = divmod(int(keys[again[0]]), 2**31)
            raise RecordingError(f"{path}: frame {frames[frame]} has track {track} twice")
    if boxes is None and keypoints is None:
        boxes = np.full((len(ids), 4), np.nan, np.float32)
    return WrittenFrames(
        frame_index=frames,
        t_ns=None if times is None else times[order],
        first=np.searchsorted(at, np.arange(len(frames) + 1)),
        track_ids=ids,
        boxes=_ordered(boxes, rows, np.float32),
        scores=_ordered(scores, rows, np.float32),
        track_scores=_ordered(np.full(len(ids), np.nan) if track_scores is None else track_scores, rows, np.float32),
        keypoints=_ordered(keypoints, rows, np.float64),
        keypoint_scores=_ordered(keypoint_scores, rows, np.float64),
        **{"skeleton": None, **notes},
    )


def _ordered(values: Floats | None, rows: NDArray[np.intp], dtype: Any) -> Any:
    """The values in order, NaN where they are not finite; None without any."""
    if values is None:
        return None
    found = np.asarray(values)[rows]
    return np.where(np.isfinite(found), found, np.nan).astype(dtype)


@dataclass(slots=True)
class PresentInstances:
    """The instances of tables that have a place for each track in each frame, taken a block of frames at a time.

    Such tables are mostly empty where tracks are short: what is kept in memory is what is there.
    """

    path: Path
    pieces: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    nbytes: int = 0

    def add(self, first: int, **tables: Floats | None) -> None:
        """Take the instances of a block. One is there if a node or a box is.

        Args:
            first: the place of the block's first frame.
            tables: `keypoints` (b, m, k, 2), `boxes` (b, m, 4), `keypoint_scores` (b, m, k), `scores` and
                `track_scores` (b, m); None for those that the file lacks.

        Raises:
            RecordingError: the instances take more memory than a file of this size can hold.
        """
        points, boxes = tables.get("keypoints"), tables.get("boxes")
        there = [np.asarray(np.isfinite(table).all(axis=-1)) for table in (points, boxes) if table is not None]
        present = np.logical_or.reduce([each if each.ndim == 2 else each.any(axis=2) for each in there])
        frames, tracks = np.nonzero(present)
        found: dict[str, NDArray[Any]] = {"place": frames + first, "track": tracks}
        found |= {name: table[frames, tracks] for name, table in tables.items() if table is not None}
        self.nbytes += sum(piece.nbytes for piece in found.values())
        check_room(self.path, self.nbytes)
        for name, piece in found.items():
            self.pieces.setdefault(name, []).append(piece)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All instances: `place` (i,), `track` (i,) its column, and the values by name."""
        if not self.pieces:
            return {"place": np.empty(0, np.int64), "track": np.empty(0, np.int64)}
        return {name: np.concatenate(pieces) for name, pieces in self.pieces.items()}


def check_room(path: Path, nbytes: int) -> None:
    """Check that the instances of a file take no more memory than a file of its size can hold.

    Raises:
        RecordingError: they take more.
    """
    size = path.stat().st_size
    if nbytes > max(MOST_RATIO * size, 16 * SMALL_BYTES):
        raise RecordingError(
            f"{path}: its instances take more than {nbytes >> 20} MiB, and the file has {size} bytes; at most "
            f"{MOST_RATIO} times as many are read"
        )


def block_step(path: Path, n_places: int, chunk: int = 1) -> int:
    """The number of frames to read at once: whole chunks where they fit.

    Args:
        path: for the error text.
        n_places: tracks × nodes of a frame.
        chunk: frames of a chunk of the file.

    Raises:
        RecordingError: a single frame has more places than are read at once.
    """
    if n_places > BLOCK_PLACES:
        raise RecordingError(f"{path}: claims {n_places} tracks × nodes in a frame; at most {BLOCK_PLACES} are read")
    most = BLOCK_PLACES // max(n_places, 1)
    return most if chunk > most else most // max(chunk, 1) * max(chunk, 1)
