"""A `Processor` for DeepLabCut-Live, which sends its poses to a daemon.

Written for deeplabcut-live 1.1, whose `DLCLive` calls `process(pose, **kwargs)` after each image, and whose user calls
`save(file)` at the end; DeepLabCut-Live-GUI passes `frame_time`, seconds since 1970, as a keyword.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trackd_client.client import Client
from trackd_client.detections import Skeleton
from trackd_client.detectors.dlc import detections_of
from trackd_client.errors import StreamLost, Timeout
from trackd_client.protocol import Status

try:
    from dlclive.processor import Processor as _Base
except ImportError:  # DLCLive accepts any object with these two methods
    _Base = object

logger = logging.getLogger(__name__)

# The newest pose counts: one that waits for a busy daemon is dropped, and estimation is not held up.
LIVE = {"stream": {"on_overload": "drop_oldest", "queue_depth": 4}}


class TrackdProcessor(_Base):  # type: ignore[misc]
    """Sends each pose of DeepLabCut-Live as one frame of a stream.

    Args:
        stream: the stream's name.
        animals: their number, if it is fixed.
        by_id: wait for the ids, and return the poses with row i being the animal with the id i, NaN where it was not
            seen. This needs `animals`. Otherwise a pose is returned as it is, and nothing waits.
        confidence: nodes of a lower likelihood are not visible, 0 to 1.
        nodes: the names of the nodes.
        config: overrides of the daemon's configuration for the stream.
        client: connected to a daemon; None: one at the default addresses.
        timeout_s: the longest wait for the ids of one pose.

    Attributes:
        track_ids: (n,) of the last pose, with `by_id`; −1 for an animal without an id.
        lost: the number of poses that the daemon had no room for, or whose ids came too late.

    Raises:
        TrackdError: the daemon does not answer, or refuses the stream.
        ValueError: `by_id` without `animals`.
    """

    def __init__(
        self,
        stream: str = "deeplabcut",
        *,
        animals: int | None = None,
        by_id: bool = False,
        confidence: float = 0.5,
        nodes: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        client: Client | None = None,
        timeout_s: float = 0.5,
        **options: Any,
    ) -> None:
        if _Base is object:
            super().__init__()
        else:
            super().__init__(**options)
        if by_id and animals is None:
            raise ValueError("by_id=True needs the number of animals, as in animals=2")
        self.track_ids: Any = np.empty(0, np.int32)
        self.lost = 0
        self._animals, self._confidence, self._timeout_s = animals, confidence, timeout_s
        self._by_id = by_id
        self._own = Client() if client is None else None
        settings = dict(config) if config is not None else dict(LIVE)
        if animals is not None:
            settings["tracker"] = {"max_tracks": animals, **settings.get("tracker", {})}
        opener = client or self._own
        assert opener is not None
        self._stream = opener.open_stream(
            stream,
            config=settings,
            skeleton=Skeleton(tuple(nodes)) if nodes is not None else None,
            reply="tracks" if by_id else "ack",
        )

    def process(self, pose: Any, **kwargs: Any) -> Any:
        """Send a pose (k, 3) or (n, k, 3), and return it, or with `by_id` an array (animals, k, 3).

        Args:
            pose: x, y and likelihood of each node.
            kwargs: `frame_time`, the capture time in seconds since 1970; now if absent.
        """
        seconds = kwargs.get("frame_time")
        t_ns = time.time_ns() if seconds is None else round(float(seconds) * 1e9)
        # All rows are sent, so that row i of the answer is animal i of the pose.
        poses = np.asarray(pose, np.float64)
        rows = poses[None] if poses.ndim == 2 else poses
        seen = (np.isfinite(rows[..., :2]).all(axis=2) & (np.nan_to_num(rows[..., 2]) >= self._confidence)).any(axis=1)
        found = detections_of(rows[seen], self._confidence) if seen.any() else detections_of(rows[:0])
        try:
            if not self._by_id:
                self._stream.send(None, found, t_ns=t_ns, timeout_s=self._timeout_s)
                return pose
            tracks = self._stream.track(None, found, t_ns=t_ns, timeout_s=self._timeout_s)
        except StreamLost:
            raise
        except Timeout as error:
            self.lost += 1
            logger.warning("%s", error.message)
            return pose if not self._by_id else self._empty(rows)
        if tracks.status is not Status.TRACKED or tracks.track_ids is None:
            self.lost += 1
            return self._empty(rows)
        self.track_ids = np.full(len(rows), -1, np.int32)
        self.track_ids[seen] = tracks.track_ids
        by_id = self._empty(rows)
        known = (self.track_ids >= 0) & (self.track_ids < len(by_id))
        by_id[self.track_ids[known]] = rows[known]
        return by_id

    def save(self, file: str = "") -> int:
        """Wait until all poses have their ids. The daemon writes the files (`stream.outputs`); `file` is not used."""
        self._stream.flush()
        return 0

    def close(self) -> None:
        """Close the stream, and the client if it is this object's own."""
        self._stream.close()
        if self._own is not None:
            self._own.close()

    def _empty(self, rows: Any) -> Any:
        return np.full((self._animals or 0, *rows.shape[1:]), np.nan)
