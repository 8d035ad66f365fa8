"""The frames of a file that a tracker wrote, as arrays.

Letters: f frames, i instances of the recording, n of a frame, k nodes.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections, Skeleton
from trackd_client.excerpt import excerpt
from trackd_client.recordings.limits import MAX_WHOLE, RecordingLimits
from trackd_client.recordings.recording import MAX_TIME_NS, RecordingError


@dataclass(frozen=True, slots=True, eq=False)
class WrittenFrames:
    """All frames of a file, those without an instance included."""

    frame_index: NDArray[np.int64]  # (f,) in the order of the file
    t_ns: NDArray[np.int64] | None  # (f,) capture times; None: the file holds none
    first: NDArray[np.int64]  # (f + 1,) the first instance of each frame
    track_ids: NDArray[np.int64]  # (i,) −1 for none
    boxes: NDArray[np.float32] | None  # (i, 4)
    scores: NDArray[np.float32] | None  # (i,)
    track_scores: NDArray[np.float32]  # (i,) NaN for none
    keypoints: NDArray[np.float64] | None  # (i, k, 2)
    keypoint_scores: NDArray[np.float64] | None  # (i, k)
    skeleton: Skeleton | None
    names: Mapping[int, str] = field(default_factory=dict)  # track id -> name
    lineage: Mapping[int, int] = field(default_factory=dict)  # child -> parent
    corrections: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # before the frame of an index
    source: str | None = None  # the video
    frame_shape: tuple[int, ...] | None = None
    fps: float | None = None

    def __len__(self) -> int:
        return len(self.frame_index)

    def at(self, place: int) -> Detections:
        """The instances of the frame at this place of the file."""
        here = self._rows(place)
        return Detections(
            boxes=None if self.boxes is None else self.boxes[here],
            keypoints=None if self.keypoints is None else self.keypoints[here],
            scores=None if self.scores is None else self.scores[here],
            keypoint_scores=None if self.keypoint_scores is None else self.keypoint_scores[here],
            gt_ids=self.track_ids[here],
        )

    def track_scores_at(self, place: int) -> NDArray[np.float32]:
        """The scores (n,) of their assignments."""
        return self.track_scores[self._rows(place)]

    def _rows(self, place: int) -> slice:
        return slice(int(self.first[place]), int(self.first[place + 1]))


MOST_FILLED = 64 << 20  # bytes of missing values that any file may have; a large one may have more


@dataclass(slots=True)
class WrittenRows:
    """The frames of a file while it is read: numbers in flat arrays, which take eight bytes each."""

    path: Path
    limits: RecordingLimits
    skeleton: Skeleton | None = None
    frames: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    ids: array[int] = field(default_factory=lambda: array("q"))
    values: dict[str, array[float]] = field(default_factory=dict)
    n_filled: int = 0  # values that frames lack
    names: dict[int, str] = field(default_factory=dict)
    lineage: dict[int, int] = field(default_factory=dict)
    corrections: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def add(
        self,
        where: str,
        frame_index: int,
        t_ns: int,
        ids: Sequence[int],
        **values: Sequence[float] | None,
    ) -> None:
        """Add a frame.

        Args:
            where: the file and the row or line, for error texts.
            frame_index: of the frame.
            t_ns: its capture time.
            ids: (n,) −1 for none.
            values: `boxes` (4 n), `scores` (n), `track_scores` (n), `keypoints` (2 k n) and `keypoint_scores` (k n),
                flat; None where the frame has none.

        Raises:
            RecordingError: a number is out of range, or a list has another length.
        """
        n = len(ids)
        if not 0 <= frame_index <= MAX_WHOLE:
            raise RecordingError(f"{where}: the frame index must be from 0 to 2⁵³; got {frame_index}")
        self.limits.check_frames(frame_index + 1, where)
        if not 0 <= t_ns <= MAX_TIME_NS:
            raise RecordingError(f"{where}: t_ns must be from 0 to 2⁶³ - 1; got {t_ns}")
        if n > self.limits.instances:
            raise RecordingError(f"{where}: has more than {self.limits.instances} instances (limits.instances)")
        if any(not -1 <= track_id < 2**31 for track_id in ids):
            raise RecordingError(f"{where}: a track id must be from -1 to 2³¹ - 1")
        before = len(self.ids)
        for name, given in values.items():
            width = self._width(name)
            if given is not None and len(given) != width * n:
                raise RecordingError(f"{where}: {name} must hold {width} numbers for each of {n} ids; got {len(given)}")
            column = self.values.get(name)
            if column is None:
                if not given:
                    continue
                column = self.values[name] = array("d", [math.nan]) * (width * before)
            if given is None:
                self.n_filled += width * n
                nbytes = 8 * self.n_filled
                if nbytes > MOST_FILLED and nbytes > 32 * self.path.stat().st_size:
                    raise RecordingError(
                        f"{where}: {self.n_filled} values of {name} are missing so far; a file of this size may not "
                        "leave out so many"
                    )
            column.extend([math.nan] * (width * n) if given is None else given)
        self.frames.append(frame_index)
        self.times.append(t_ns)
        self.counts.append(n)
        self.ids.extend(ids)

    def note_names(self, ids: Sequence[int], names: Mapping[int, str]) -> None:
        """Keep the last name of each track: `names` are those of a frame, and a track without one has none any more."""
        for track_id in ids:
            if track_id in names:
                self.names[track_id] = names[track_id]
            else:
                self.names.pop(track_id, None)

    def note_corrections(self, frame_index: int, given: Any, where: str) -> None:
        """Keep the corrections before a frame.

        Raises:
            RecordingError: they are not a list of maps.
        """
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            raise RecordingError(f"{where}: corrections must be a list of objects; got {excerpt(given)}")
        if given:
            self.corrections[frame_index] = given

    def _width(self, name: str) -> int:
        k = 0 if self.skeleton is None else len(self.skeleton.nodes)
        return {"boxes": 4, "keypoints": 2 * k, "keypoint_scores": k}.get(name, 1)

    def written(self, **notes: Any) -> WrittenFrames:
        """All frames. `notes` are the other values of `WrittenFrames`."""
        i = len(self.ids)
        k = 0 if self.skeleton is None else len(self.skeleton.nodes)
        single = {name: np.array(column, np.float64) for name, column in self.values.items()}
        for name, column in single.items():
            if len(column) != self._width(name) * i:  # the last frames had none of it
                missing = np.full(self._width(name) * i - len(column), np.nan)
                single[name] = np.concatenate([column, missing])
        tracks = single.get("track_scores")
        return WrittenFrames(
            frame_index=np.array(self.frames, np.int64),
            t_ns=np.array(self.times, np.int64),
            first=np.concatenate([[0], np.cumsum(np.array(self.counts, np.int64))]).astype(np.int64),
            track_ids=np.array(self.ids, np.int64),
            boxes=single["boxes"].reshape(-1, 4).astype(np.float32) if "boxes" in single else _boxless(k, i),
            scores=single["scores"].astype(np.float32) if "scores" in single else None,
            track_scores=np.full(i, np.nan, np.float32) if tracks is None else tracks.astype(np.float32),
            keypoints=single["keypoints"].reshape(-1, k, 2) if "keypoints" in single else None,
            keypoint_scores=single["keypoint_scores"].reshape(-1, k) if "keypoint_scores" in single else None,
            skeleton=self.skeleton,
            names=self.names,
            lineage=self.lineage,
            corrections=self.corrections,
            **notes,
        )


def _boxless(k: int, n_instances: int) -> NDArray[np.float32] | None:
    """Boxes where the file has none: detections need boxes or nodes."""
    return None if k and n_instances else np.full((n_instances, 4), np.nan, np.float32)
