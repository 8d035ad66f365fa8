"""The receiving side of `trackd track`: collects the settlements of a recording, and passes them to observers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np

from trackd.commands.observer import Observer
from trackd.evaluation import IdentityScore, IdentityScoring
from trackd_client import Client, TracksSubscription
from trackd_client.causes import Causes
from trackd_client.protocol import Status, Tracks
from trackd_client.recordings.recording import RecordedFrame

logger = logging.getLogger(__name__)

_COLLECT_S = 30.0
_MAX_WAITING = 256  # frames that were sent and are not settled yet; far above a stream's credit


class Collector:
    """Receives a stream's settlements on its own thread until the stream is closed.

    It keeps each frame that was sent until the frame is settled and its observers are called.
    """

    def __init__(self, client: Client, name: str, observers: Sequence[Observer]) -> None:
        self._client = client
        self._name = name
        self._observers = observers
        self._sent: dict[int, RecordedFrame] = {}
        self._room = threading.BoundedSemaphore(_MAX_WAITING)
        self._scoring = IdentityScoring()
        self._has_truth = False
        self._failure: Exception | None = None
        self.track_ids: set[int] = set()
        self.counts: Counter[Status] = Counter()
        self._causes = Causes()
        self._tracks: TracksSubscription | None = None
        self._thread = threading.Thread(target=self._follow, name=f"collect {name}", daemon=True)

    def start(self) -> None:
        """Subscribe, and start the thread; the stream must be open.

        Raises:
            TrackdError: the daemon refuses, or does not answer.
        """
        try:
            # Before any frame is sent: a daemon that is busy with the frames may answer late.
            self._tracks = self._client.tracks(self._name, from_seq=0, until_closed=True)
        except BaseException:
            self._end()
            raise
        self._thread.start()

    def expect(self, frame: RecordedFrame) -> None:
        """Register a frame before it is sent; wait while too many frames are unsettled."""
        while not self._room.acquire(timeout=1.0):
            if self._failure is not None:
                raise self._failure
        self._sent[frame.frame_index] = frame

    def join(self) -> None:
        """Wait for the last settlement of the closed stream; raise the exception of the thread, if there was one."""
        self._thread.join(_COLLECT_S)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise RuntimeError(
                f"stream {self._name!r} was closed, but no `closed` event was received within {_COLLECT_S:.0f} s"
            )

    @property
    def score(self) -> IdentityScore | None:
        """The score so far; None where no frame had a ground truth."""
        return self._scoring.score() if self._has_truth else None

    def _follow(self) -> None:
        assert self._tracks is not None
        try:
            for tracks in self._tracks:
                self._collect(self._sent.pop(tracks.frame_index), tracks)
                self._room.release()
        except Exception as error:
            self._failure = error
        finally:
            self._end()

    def _end(self) -> None:
        for cause in self._causes.lines:
            logger.warning("stream=%s: %s", self._name, cause)
        for observer in self._observers:
            observer.close()

    def _collect(self, frame: RecordedFrame, tracks: Tracks) -> None:
        self.counts[tracks.status] += 1
        gt_ids = frame.detections.gt_ids
        if gt_ids is None:
            gt_ids = np.full(len(frame.detections), -1)
        self._has_truth = self._has_truth or bool((gt_ids >= 0).any())
        if tracks.status is not Status.TRACKED or tracks.track_ids is None:
            self._causes.add(frame.frame_index, f"{tracks.status}: {tracks.reason}")
            self._scoring.add_detections(gt_ids, np.full(len(gt_ids), -1))
            for observer in self._observers:
                observer.add_untracked(frame)
            return
        self.track_ids.update(tracks.new_tracks)
        self._scoring.add_detections(gt_ids, tracks.track_ids)
        for observer in self._observers:
            observer.add(frame, tracks)
