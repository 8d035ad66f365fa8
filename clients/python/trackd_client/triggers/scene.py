"""One frame's tracks as arrays in the order of their ids, and what is known of tracks that the frame does not show."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.protocol import Tracks
from trackd_client.triggers.geometry import Floats
from trackd_client.triggers.table import Keys, Mask, Table


class Scene:
    """The n tracks of one frame, in ascending order of their ids. Rows without an id or a place are left out."""

    def __init__(self, tracks: Tracks) -> None:
        self.t_ns = tracks.t_ns
        ids = np.asarray(tracks.track_ids if tracks.track_ids is not None else (), np.int64)
        boxes = np.asarray(tracks.boxes if tracks.boxes is not None else np.empty((0, 4)), np.float64).reshape(-1, 4)
        rows = np.flatnonzero((ids >= 0) & np.isfinite(boxes).all(axis=1))
        self._rows = rows[np.argsort(ids[rows], kind="stable")]
        self.ids: Keys = ids[self._rows]
        self.boxes: Floats = boxes[self._rows]  # (n, 4) x1 y1 x2 y2
        self.centres: Floats = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2  # (n, 2)
        self._tracks = tracks

    @property
    def scores(self) -> NDArray[Any]:
        """(n,) the scores of the assignments, 0 to 1; NaN for none."""
        scores = self._tracks.track_scores
        return np.full(len(self.ids), np.nan) if scores is None else np.asarray(scores, np.float64)[self._rows]

    def points(self, keypoint: int | None) -> tuple[Floats, Mask]:
        """Return the point of each track, and whether it is visible.

        Args:
            keypoint: its number; None: the centre of the box.
        """
        if keypoint is None:
            return self.centres, np.ones(len(self.ids), bool)
        keypoints = self._tracks.keypoints
        if keypoints is None or keypoint >= keypoints.shape[1]:
            return np.full((len(self.ids), 2), np.nan), np.zeros(len(self.ids), bool)
        points = np.asarray(keypoints[self._rows, keypoint], np.float64)
        visible: Mask = np.logical_and.reduce(np.isfinite(points), axis=1)
        return points, visible


class Known:
    """The last centre and the name of each track of a stream that has not ended."""

    def __init__(self) -> None:
        self._places = Table(x=np.nan, y=np.nan)
        self._listed: tuple[tuple[int, ...], tuple[str | None, ...]] = ((), ())
        self.names: dict[int, str] = {}  # replaced when a name changes, never changed

    def see(self, scene: Scene, tracks: Tracks) -> None:
        """Take the places and the names of one frame."""
        rows = self._places.rows(scene.ids)
        self._places["x"][rows], self._places["y"][rows] = scene.centres[:, 0], scene.centres[:, 1]
        if tracks.track_ids is None or not (tracks.names or self.names):
            return
        ids = tuple(tracks.track_ids.tolist())
        listed = (ids, tracks.names or (None,) * len(ids))  # empty if no track of the frame has a name
        if listed == self._listed:
            return
        self._listed = listed
        changed = dict(self.names)
        for track, name in zip(*listed, strict=False):
            if name is None:
                changed.pop(track, None)
            else:
                changed[track] = name
        if changed != self.names:
            self.names = changed

    def rename(self, track: int, name: str | None) -> None:
        """Take a name from an event."""
        self.names = {**{i: n for i, n in self.names.items() if i != track}, **({} if name is None else {track: name})}

    def place(self, track: int) -> tuple[float, float]:
        """Return the last centre of a track; NaN for one that was never seen."""
        rows, known = self._places.find(np.array([track], np.int64))
        if not known[0]:
            return float("nan"), float("nan")
        return float(self._places["x"][rows[0]]), float(self._places["y"][rows[0]])

    def forget(self, ended: Keys) -> None:
        """Delete what is known of tracks that ended."""
        self._places.keep(~np.isin(self._places.keys, ended))
        if any(track in self.names for track in ended.tolist()):
            gone = set(ended.tolist())
            self.names = {track: name for track, name in self.names.items() if track not in gone}
